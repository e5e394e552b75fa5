"""Reliability diagrams and confusion matrices, drawn with matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alora_cpp.errors import ArgumentError
from alora_cpp.evaluation.evaluation import Evaluation
from alora_cpp.evaluation.figures import GroupFigures, Reliability
from alora_cpp.evaluation.metrics import N_BINS
from alora_cpp.whole_file import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABELLED_UP_TO = 12


def check_plottable(path: Path) -> None:
    """Says at once what would keep `draw` from drawing.

    Raises:
        ArgumentError: The file is not to be a PNG, or matplotlib is not installed.
    """
    if path.suffix.lower() != ".png":
        raise ArgumentError(f"the plot is to be written to {path}, expected a name that ends in .png")
    try:
        import matplotlib.figure  # noqa: F401 - only whether it is there
    except ImportError:
        raise ArgumentError("plots need matplotlib: pip install 'alora_cpp[eval]'") from None


def draw(evaluations: Sequence[Evaluation], path: Path) -> None:
    """Draws a row for each intrinsic with labels: how sure and how right it was, and which labels it took for which.

    Raises:
        ArgumentError: As for `check_plottable`, or no intrinsic has labels and verdicts.
        OSError: The file cannot be written.
    """
    check_plottable(path)
    drawn = [(one, one.overall) for one in evaluations if one.scale.labels and one.overall is not None]
    if not drawn:
        raise ArgumentError("there is nothing to plot: none of the intrinsics answered with a label")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4 * len(drawn)), layout="constrained")
    rows = figure.subplots(len(drawn), 2, squeeze=False)
    for (evaluation, overall), (left, right) in zip(drawn, rows, strict=True):
        if overall.reliability is None:
            left.set_axis_off()
        else:
            _draw_reliability(left, evaluation, overall, overall.reliability)
        _draw_confusion(right, evaluation, overall)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    write_whole(path, image.getvalue())


def _draw_reliability(axes: Axes, evaluation: Evaluation, overall: GroupFigures, reliability: Reliability) -> None:
    of_value = reliability.of == "value"
    error = overall.figures["reply_calibration_error" if of_value else "calibration_error"].value
    filled = [index for index, count in enumerate(reliability.counts) if count]
    axes.bar(
        [(index + 0.5) / N_BINS for index in filled],
        [reliability.right[index] for index in filled],
        width=0.9 / N_BINS,
        color="#9ecae1",
    )
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1)
    axes.plot(
        [reliability.confidence[index] for index in filled],
        [reliability.right[index] for index in filled],
        color="#08519c",
        marker="o",
    )
    for index in filled:
        axes.annotate(
            str(reliability.counts[index]), ((index + 0.5) / N_BINS, 0.01), ha="center", fontsize=7, color="0.3"
        )
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that is right")
    axes.set_xlabel("certainty that the reply is right" if of_value else "probability of the label")
    axes.set_title(f"{evaluation.intrinsic}: calibration error {error:.3f}")


def _draw_confusion(axes: Axes, evaluation: Evaluation, overall: GroupFigures) -> None:
    labels = evaluation.scale.labels
    shares = [[count / max(1, sum(row)) for count in row] for row in overall.confusion]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="said", ylabel="expected")
    axes.set_title(f"{evaluation.intrinsic}: {overall.n} examples, {overall.figures['error'].value:.2%} wrong")
    if len(labels) > _LABELLED_UP_TO:
        return
    axes.set_xticks(range(len(labels)), [_short(label) for label in labels])
    axes.set_yticks(range(len(labels)), [_short(label) for label in labels])
    for row, counts in enumerate(overall.confusion):
        for column, count in enumerate(counts):
            _annotate(axes, str(count), column, row, is_dark=shares[row][column] > 0.5)


def _annotate(axes: Axes, text: str, column: int, row: int, *, is_dark: bool) -> None:
    options: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8}
    axes.annotate(text, (column, row), color="white" if is_dark else "black", **options)


def _short(label: str) -> str:
    return label if len(label) <= 16 else f"{label[:15]}\N{HORIZONTAL ELLIPSIS}"
