"""What was measured as a picture, drawn with matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from alora_cpp.bench.measured import Measured, Measurements
from alora_cpp.bench.setting import Setting
from alora_cpp.whole_file import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The title of a panel, and its works from the fastest on.
_PANELS: dict[str, dict[str, str]] = {
    "one verdict": {"verdict": "conversation reused", "verdict_as_lora": "as an ordinary LoRA"},
    "three verdicts": {"together_3": "in one pass", "one_by_one_3": "one by one"},
    "eight verdicts": {"together_8": "in one pass", "one_by_one_8": "one by one"},
    "first token after verdicts": {"go_on": "conversation reused", "read": "reading all again"},
}
_COLOURS = ("#08519c", "#9ecae1")


def draw(setting: Setting, measurements: Measurements, path: Path) -> None:
    """Draws each way beside the one that it is held against, after every conversation.

    Args:
        setting: What was measured on.
        measurements: What was measured.
        path: A PNG to write.

    Raises:
        OSError: The file cannot be written.
    """
    from matplotlib.figure import Figure

    measured = measurements.measured
    panels = {title: works for title, works in _PANELS.items() if works.keys() <= measured[0].samples.keys()}
    figure = Figure(figsize=(3.2 * len(panels), 3.6), layout="constrained")
    (row,) = figure.subplots(1, len(panels), squeeze=False)
    for axes, (title, works) in zip(row, panels.items(), strict=True):
        _draw_panel(axes, measured, works)
        axes.set_title(title)
    row[0].set_ylabel("seconds")
    figure.suptitle(f"{setting.model}, {setting.processor}", fontsize=10)
    figure.supxlabel("tokens of the conversation", fontsize=10)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    write_whole(path, image.getvalue())


def _draw_panel(axes: Axes, measured: Sequence[Measured], works: dict[str, str]) -> None:
    for number, (work, label) in enumerate(works.items()):
        places = [place + 0.4 * number for place in range(len(measured))]
        axes.bar(places, [one.seconds(work) for one in measured], 0.38, label=label, color=_COLOURS[number])
        for place, one in zip(places, measured, strict=True):
            text = f"{one.ratio(work):,.1f} x" if number else f"{one.seconds(work):.3f}"
            axes.annotate(text, (place, one.seconds(work)), ha="center", va="bottom", fontsize=8)
    axes.margins(y=0.3)
    axes.set_xticks([place + 0.2 for place in range(len(measured))], [f"{one.prompt:,}" for one in measured])
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
