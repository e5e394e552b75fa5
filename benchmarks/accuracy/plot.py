"""Plots and tables of a results file.

python -m benchmarks.accuracy.plot results.json --out docs/images --page docs/accuracy.md

Draws four PNGs (needs matplotlib) and prints the tables in Markdown, or puts them between the marks of a page.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.accuracy.comparison import ALORA_RANK, LORA_RANK, RANKS, SEVERAL_TOKENS, Configuration
from benchmarks.accuracy.one_run import is_scale
from benchmarks.accuracy.results import Measured, Results, percentages, read_results, steps
from benchmarks.pages import with_tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LORA, ALORA = Configuration("lora", LORA_RANK), Configuration("alora", ALORA_RANK)
_COLOURS = {"lora": "#b35806", "alora": "#2166ac"}
_KINDS = {"lora": "LoRA", "alora": "aLoRA"}
Bars = Mapping[str, Measured]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="what `python -m benchmarks.accuracy` wrote")
    parser.add_argument("--out", type=Path, help="folder for the plots; without it, none are drawn")
    parser.add_argument("--page", type=Path, help="page to put the tables into; without it, they are printed")
    arguments = parser.parse_args()
    results = read_results(arguments.results)
    if arguments.page:
        text = with_tables(arguments.page.read_text(encoding="utf-8"), tables(results))
        arguments.page.write_text(text, encoding="utf-8")
    else:
        print("\n\n".join(tables(results).values()))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        draw(results, arguments.out)


def kinds(results: Results, task: str) -> dict[str, Measured]:
    """LoRA against aLoRA at the paper's ranks."""
    return {
        f"LoRA, rank {LORA_RANK}": results.figure(task, LORA.name),
        f"aLoRA, rank {ALORA_RANK}": results.figure(task, ALORA.name),
    }


def tokens(results: Results, task: str) -> dict[str, Measured]:
    """One token against several; on a scale one token is read as it is written, too."""
    found = {}
    for one in (ALORA, LORA):
        kind = _KINDS[one.kind]
        several = Configuration(one.kind, one.rank, several=True)
        found[f"{kind}, one token"] = results.figure(task, one.name, "said")
        if is_scale(task):
            found[f"{kind}, one token, median"] = results.figure(task, one.name)
        found[f"{kind}, several"] = results.figure(task, several.name)
    return found


def activations(results: Results, task: str) -> dict[str, Measured]:
    """Where an aLoRA starts."""
    starts = (ALORA, Configuration("alora", ALORA_RANK, "end"), Configuration("alora", ALORA_RANK, "empty"))
    return {start.activation: results.figure(task, start.name) for start in starts}


def tables(results: Results) -> dict[str, str]:
    """All tables in Markdown, by the name of their marks in a page."""
    counts = ", ".join(f"{task} {results.count(task)} ({len(runs)} seeds)" for task, runs in results.runs.items())
    several = [task for task in results.tasks if task in SEVERAL_TOKENS]
    return {
        "made with": f"Test examples: {counts}. {_settings(results)}",
        "kinds": _table(results, results.tasks, kinds, "One token"),
        "differences": _differences(results),
        "origins": _origins(results),
        "tokens": _table(results, several, tokens, "Answer"),
        "ranks": _ranks(results),
        "activations": _table(results, results.tasks, activations, "aLoRA starts at"),
        "calibration": _calibration(results),
    }


def _settings(results: Results) -> str:
    environment, settings = results.environment, results.settings
    seconds = sum(run["training_seconds"] for runs in results.runs.values() for run in runs)
    trainings = sum(len(run["members"]) for runs in results.runs.values() for run in runs) * len(settings["rates"])
    return (
        f"Trained on {settings['examples']:,} conversations a run, {trainings} adapters in {seconds:.0f} s, on "
        f"{' and '.join(environment['devices'])} with torch {environment['torch']}; learning rates tried: "
        f"{', '.join(f'{rate:g}' for rate in settings['rates'])}."
    )


def _formatted(task: str, measured: Measured) -> str:
    return steps(measured) if is_scale(task) else percentages(measured)


def _title(task: str) -> str:
    return f"{task}: {'MAE, label steps' if is_scale(task) else 'error'}"


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))


def _table(
    results: Results, tasks: Sequence[str], chosen: Callable[[Results, str], dict[str, Measured]], head: str
) -> str:
    found = {task: chosen(results, task) for task in tasks}
    names = max(found.values(), key=len, default={})
    rows = [[n, *(_formatted(t, found[t][n]) if n in found[t] else "" for t in tasks)] for n in names]
    return _lines([head, *map(_title, tasks)], rows)


def _differences(results: Results) -> str:
    rows = [[_title(task), _formatted(task, results.difference(task, ALORA.name, LORA.name))] for task in results.tasks]
    return _lines([f"aLoRA (rank {ALORA_RANK}) less LoRA (rank {LORA_RANK})", "difference"], rows)


def _origins(results: Results) -> str:
    rows = [
        [task, origin, str(results.count(task, origin))]
        + [_formatted(task, results.figure(task, member.name, origin=origin)) for member in (LORA, ALORA)]
        for task in results.tasks
        for origin in results.origins(task)
    ]
    return _lines(["Task", "Examples", "n", f"LoRA, rank {LORA_RANK}", f"aLoRA, rank {ALORA_RANK}"], rows)


def _ranks(results: Results) -> str:
    rows = [
        [_KINDS[kind], str(rank)]
        + [_formatted(task, results.figure(task, Configuration(kind, rank).name)) for task in results.tasks]
        for kind in ("lora", "alora")
        for rank in RANKS
    ]
    return _lines(["Kind", "Rank", *map(_title, results.tasks)], rows)


def _calibration(results: Results) -> str:
    rows = [
        [_KINDS[member.kind], str(member.rank), steps(results.calibration(task, member.name))]
        for task in results.tasks
        if is_scale(task)
        for member in (LORA, ALORA)
    ]
    return _lines(["Kind", "Rank", "Expected calibration error"], rows)


def draw(results: Results, folder: Path) -> None:
    """Draws all plots."""
    several = [task for task in results.tasks if task in SEVERAL_TOKENS]
    _draw(folder / "accuracy-kinds.png", results.tasks, lambda axes, task: _bars(axes, task, kinds(results, task)))
    _draw(folder / "accuracy-tokens.png", several, lambda axes, task: _bars(axes, task, tokens(results, task)))
    _draw(folder / "accuracy-ranks.png", results.tasks, lambda axes, task: _rank_lines(axes, task, results))
    _draw(
        folder / "accuracy-activation.png",
        results.tasks,
        lambda axes, task: _bars(axes, task, activations(results, task)),
    )


def _draw(path: Path, tasks: Sequence[str], panel: Callable[[Axes, str], None]) -> None:
    if not tasks:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4 * len(tasks), 3.4), layout="constrained")
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        panel(axes, task)
        axes.set_title(task)
        axes.set_ylabel("mean absolute error, label steps" if is_scale(task) else "error, %")
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    FigureCanvasAgg(figure).print_figure(path, dpi=130, metadata={"Software": None})


def _factor(task: str) -> float:
    return 1.0 if is_scale(task) else 100.0


def _limits(task: str, measured: Sequence[Measured]) -> tuple[list[float], list[list[float]]]:
    """Values, and how far down and up their intervals reach, as they are drawn."""
    factor, figures = _factor(task), [m.figure for m in measured]
    down = [factor * (figure.value - figure.low) for figure in figures]
    up = [factor * (figure.high - figure.value) for figure in figures]
    return [factor * figure.value for figure in figures], [down, up]


def _bars(axes: Axes, task: str, bars: Bars) -> None:
    values, errors = _limits(task, list(bars.values()))
    colours = [_COLOURS["lora" if name.startswith("LoRA") else "alora"] for name in bars]
    axes.bar(range(len(bars)), values, yerr=errors, color=colours, capsize=4, width=0.6)
    for place, measured in enumerate(bars.values()):
        axes.plot([place + 0.18] * len(measured.seeds), [_factor(task) * seed for seed in measured.seeds], "k.", ms=4)
    axes.set_xticks(range(len(bars)), [name.replace(", ", "\n") for name in bars], fontsize=8)


def _rank_lines(axes: Axes, task: str, results: Results) -> None:
    for kind in ("lora", "alora"):
        values, errors = _limits(task, [results.figure(task, Configuration(kind, rank).name) for rank in RANKS])
        axes.errorbar(RANKS, values, yerr=errors, color=_COLOURS[kind], marker="o", ms=4, capsize=3, label=_KINDS[kind])
    axes.set_xscale("log", base=2)
    axes.set_xticks(RANKS, map(str, RANKS))
    axes.set_xlabel("rank")
    axes.legend(frameon=False)


if __name__ == "__main__":
    main()
