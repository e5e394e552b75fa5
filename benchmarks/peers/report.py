"""Tables and plots of a results file, and whether the goals were met.

    python -m benchmarks.peers.report results.json [--page docs/performance.md] [--out docs/images]

Tables are printed, or put between the marks that the page has for this shape and quantization, such as
`<!-- peers 1b q4_k_m goals -->`. Plots need matplotlib. Exit status: 1 if a goal was missed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from benchmarks.pages import table, with_tables
from benchmarks.peers.goals import OURS, Outcome, outcomes, overhead
from benchmarks.peers.plots import draw
from benchmarks.peers.results import (
    Measure,
    Results,
    ResultsError,
    evaluated,
    read_results,
    reused,
    seconds,
    time_to_first,
)
from benchmarks.peers.works import PIPELINES, WORKS

_NONE = "\N{EN DASH}"
_TIMES = "\N{MULTIPLICATION SIGN}"
_MB = 1_000_000


def tables(results: Results) -> dict[str, str]:
    """All tables in Markdown, by the name of their marks in a page; captions above those that share a mark."""
    found = {
        "made with": _made_with(results),
        "goals": _goals(results),
        "verdict": _times(results, "verdict", seconds("verdict")),
        "return": _times(results, "return", time_to_first("turn", "base")),
        "pipelines": _captioned({WORKS[name].about: _times(results, name, seconds()) for name in PIPELINES}),
        "conversation": _captioned(
            {
                "End to end": _times(results, "conversation", seconds()),
                "All twelve verdicts": _times(results, "conversation", seconds("verdicts")),
            }
        ),
        "guarded": _guarded(results),
        "rows": _captioned({WORKS[name].about: _rows(results, name) for name in (*PIPELINES, "conversation")}),
        "memory": _memory(results),
    }
    prefix = f"peers {results.settings['shape']} {results.settings['quantization']}"
    return {f"{prefix} {name}": text for name, text in found.items()}


def _captioned(found: dict[str, str]) -> str:
    return "\n\n".join(f"{caption}:\n\n{text}" for caption, text in found.items())


def _made_with(results: Results) -> str:
    settings = results.settings
    rounds = {len(list(results.counted(work, prompt))) for work in WORKS for prompt in results.prompts(work)}
    waiting = max((held["waiting"] for held in results.contenders.values()), default=0.0)
    counted = f"{min(rounds)} to {max(rounds)}" if len(rounds) > 1 else f"{max(rounds, default=0)}"
    return (
        f"{settings['machine']}; shape `{settings['shape']}`, {settings['quantization'].upper()}; threads: "
        f"{settings['threads']}; rounds: {counted}. While others worked, nobody used more than {waiting:.2f} s of "
        "processor time."
    )


def _goals(results: Results) -> str:
    rows = [
        [
            one.about,
            _NONE if one.prompt is None else f"{one.prompt:,}",
            _measured(one),
            _NONE if one.goal is None else f"{'≥' if one.at_least else '≤'} {one.goal:g}",
            _NONE if one.goal is None else {True: "yes", False: "**no**", None: "not measured"}[one.met],
        ]
        for one in outcomes(results)
    ]
    return table(["What", "Prompt", "Measured", "Goal", "Met"], rows)


def _measured(outcome: Outcome) -> str:
    if outcome.value is None:
        return _NONE
    if outcome.spread is None:
        return f"{outcome.value:.3g}"
    spread = outcome.spread
    return f"{spread.value:.3g} ({spread.lowest:.3g} to {spread.highest:.3g}, n = {spread.rounds})"


def _by_prompt(results: Results, work: str, cell: Callable[[int, str], str]) -> str:
    """A table with a row for each contender and a column for each prompt; reasons stand where one could not do it."""
    prompts = results.prompts(work)
    if not prompts:
        return "Not measured."

    def text(prompt: int, name: str) -> str:
        reason = results.reason(work, prompt, name)
        return reason or (cell(prompt, name) if results.values(work, prompt, name, seconds()) else _NONE)

    rows = [[name, *(text(prompt, name) for prompt in prompts)] for name in results.names(work)]
    return table(["Tokens of the prompt", *(f"{prompt:,}" for prompt in prompts)], rows)


def _times(results: Results, work: str, measure: Measure) -> str:
    """Medians, and how many times ours they are."""

    def cell(prompt: int, name: str) -> str:
        ratio = None if name == OURS else results.ratio(work, prompt, (name, measure), (OURS, measure))
        return _time(results.median(work, prompt, name, measure)) + (f" ({ratio.value:.3g} {_TIMES})" if ratio else "")

    return _by_prompt(results, work, cell)


def _time(value: float) -> str:
    """Three digits of some seconds."""
    return f"{1000 * value:.3g} ms" if value < 0.9995 else f"{value:.3g} s"


def _guarded(results: Results) -> str:
    """How long a guarded reply took, and how many times one without guards."""
    with_guards, without = seconds("guarded"), seconds("unguarded")

    def cell(prompt: int, name: str) -> str:
        taken = _time(results.median("guarded", prompt, name, with_guards))
        ratio = results.ratio("guarded", prompt, (name, with_guards), (name, without))
        return f"{taken} ({ratio.value:.3g} {_TIMES} unguarded)" if ratio else taken

    return _by_prompt(results, "guarded", cell)


def _rows(results: Results, work: str) -> str:
    """Tokens computed, and those that were not computed again."""
    return _by_prompt(
        results,
        work,
        lambda prompt, name: " / ".join(
            f"{results.median(work, prompt, name, measure):,.0f}" for measure in (evaluated(), reused)
        ),
    )


def _memory(results: Results) -> str:
    kinds = ("weights", "kv", "peak", "anonymous")
    rows = [
        [name, *(f"{value / _MB:,.0f}" for value in (*(held[kind] for kind in kinds), overhead(held)))]
        for name, held in results.contenders.items()
    ]
    return table(
        ["MB", "weights", "KV cache", "peak", "at the end, outside of files", "peak beyond weights and cache"], rows
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path, help="what `python -m benchmarks.peers` wrote")
    parser.add_argument("--page", type=Path, help="page to put the tables into; without it, they are printed")
    parser.add_argument("--out", type=Path, help="folder for the plots; without it, none are drawn")
    options = parser.parse_args()
    try:
        results = read_results(options.results)
        found = tables(results)
        if options.page:
            page = with_tables(options.page.read_text(encoding="utf-8"), found)
            options.page.write_text(page, encoding="utf-8")
        else:
            print("\n\n".join(f"## {name}\n\n{text}" for name, text in found.items()))
    except (OSError, ResultsError, ValueError) as error:
        raise SystemExit(f"{error}") from None
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        draw(results, options.out)
    missed = [one for one in outcomes(results) if one.met is False]
    if missed:
        raise SystemExit("missed: " + "; ".join(f"{one.about} ({one.value:.3g}, goal {one.goal:g})" for one in missed))


if __name__ == "__main__":
    main()
