"""The bundled intrinsics as they are shipped, on their whole test sets: the figures of the model card.

python -m benchmarks.accuracy.shipped --tests build/bundled/tests --page python/alora_cpp/bundled/MODEL_CARD.md

`python -m training.shipping --only-tests --data DIR` writes the test sets.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from alora_cpp import Model
from alora_cpp.bundled_model import bundled_adapters
from alora_cpp.evaluation import Evaluation, Figure, evaluate
from alora_cpp.evaluation.figures import GroupFigures
from alora_cpp.labelled_data import read_labelled_data
from benchmarks.pages import with_tables

_REPLIES = "reply_calibration_error"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=Path, default=Path("build/bundled/tests"), help="folder of test sets")
    parser.add_argument("--threads", type=int, default=0, help="threads (default: physical cores)")
    parser.add_argument("--out", type=Path, help="write all figures as JSON")
    parser.add_argument("--page", type=Path, help="page to put the table into; without it, it is printed")
    options = parser.parse_args()
    found = measure(options.tests, options.threads)
    if options.out:
        text = json.dumps({name: one.as_dict() for name, one in found.items()}, indent=2) + "\n"
        options.out.write_text(text, encoding="utf-8")
    if options.page:
        page = with_tables(options.page.read_text(encoding="utf-8"), {"figures": table(found)})
        options.page.write_text(page, encoding="utf-8")
    else:
        print(table(found))


def measure(tests: Path, n_threads: int) -> dict[str, Evaluation]:
    """Every bundled intrinsic on its test set."""
    found = {}
    for name in bundled_adapters():
        with Model.bundled() as model:
            found |= evaluate(model, {name: read_labelled_data(tests / f"{name}.jsonl")}, n_threads=n_threads)
    return found


def table(found: Mapping[str, Evaluation]) -> str:
    """The figures as a Markdown table: everything first, then each origin."""
    lines = ["| Intrinsic | Examples | n | Figure | 95 % |", "| --- | --- | ---: | --- | --- |"]
    for name, evaluation in found.items():
        groups = {"all": evaluation.overall, **evaluation.by_origin}
        for origin, group in groups.items():
            if group is not None:
                shown, spread = zip(*_figures(group), strict=True)
                first = f"**{name}**" if origin == "all" else ""
                lines.append(f"| {first} | {origin} | {group.n:,} | {'; '.join(shown)} | {'; '.join(spread)} |")
    return "\n".join(lines)


def _figures(group: GroupFigures) -> Iterator[tuple[str, str]]:
    """What counts for an intrinsic's kind of answers, each with its interval."""
    figures = group.figures
    if "label_distance" in figures:
        yield _cell("MAE {}", figures["label_distance"], "{:.3f}")
        if _REPLIES in figures:
            yield _cell("calibration error {}", figures[_REPLIES], "{:.3f}")
    elif "error" in figures:
        yield _cell("error {} %", figures["error"], "{:.1f}", 100)
    else:
        yield _cell("exactly right {} %", figures["exact_match"], "{:.1f}", 100)
        yield _cell("token F1 {}", figures["token_f1"], "{:.3f}")


def _cell(wording: str, figure: Figure, shape: str, scale: float = 1.0) -> tuple[str, str]:
    value, low, high = (shape.format(scale * number) for number in (figure.value, figure.low, figure.high))
    return wording.format(value), f"{low} to {high}"


if __name__ == "__main__":
    main()
