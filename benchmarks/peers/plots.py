"""Plots of a results file: by the length of the prompt, a line for each contender."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers.contender import CONTENDERS
from benchmarks.peers.results import Measure, Results, evaluated, seconds, time_to_first
from benchmarks.peers.works import PIPELINES, WORKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = dict(
    zip(
        CONTENDERS,
        ("#2166ac", "#67a9cf", "#b35806", "#1b7837", "#7fbf7b", "#762a83", "#d6604d", "#666666"),
        strict=True,
    )
)
_VERDICT = ("verdict", "time to a verdict, s", seconds("verdict"))
_RETURN = ("return", "time to the base's next token, s", time_to_first("turn", "base"))


def draw(results: Results, folder: Path) -> None:
    """Draws a PNG for each thing that was measured: verdict, return, pipelines and rows."""
    title = f"{results.settings['shape'].upper()}, {results.settings['quantization'].upper()}"
    plots: Mapping[str, list[tuple[str, str, Measure]]] = {
        "verdict": [_VERDICT],
        "return": [_RETURN],
        "pipelines": [(work, "end to end, s", seconds()) for work in PIPELINES],
        "rows": [(work, "tokens evaluated", evaluated()) for work in PIPELINES],
    }
    for name, panels in plots.items():
        measured = [panel for panel in panels if results.prompts(panel[0])]
        if measured:
            file = f"peers-{results.settings['shape']}-{results.settings['quantization']}-{name}.png"
            _draw(results, measured, title, folder / file)


def _draw(results: Results, panels: list[tuple[str, str, Measure]], title: str, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.8 + 3.8 * len(panels), 3.6), layout="constrained")
    for axes, (work, label, measure) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _lines(axes, results, work, measure)
        axes.set(xlabel="tokens of the prompt", ylabel=label, title=WORKS[work].about)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8, title=title)
    FigureCanvasAgg(figure).print_figure(path, dpi=130, metadata={"Software": None})


def _lines(axes: Axes, results: Results, work: str, measure: Measure) -> None:
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    prompts = results.prompts(work)
    for name in results.names(work):
        values = [results.median(work, prompt, name, measure) for prompt in prompts]
        axes.plot(prompts, values, marker="o", ms=4, color=_COLOURS[name], label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(prompts, [f"{prompt:,}" for prompt in prompts])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.minorticks_off()
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
