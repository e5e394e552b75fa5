"""The same verdicts through the engine as through PEFT, over whole test sets: agreement, and the change in error.

python -m benchmarks.accuracy.engine --build build/bundled --out engine.json --page docs/accuracy_engine.md

The build is what `python -m training` wrote: the base as a folder of transformers, a PEFT folder for each intrinsic,
and the test sets as labelled data. PEFT reads whole texts in float32; the engine is asked in float32, with the files
that are shipped (Q8_0), and with the base in Q4_K_M.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alora_cpp import Chat, Intrinsic, Model, Verdict
from alora_cpp.evaluation import Evaluation, Figure, Judged, ask
from alora_cpp.evaluation.evaluation import evaluation_of
from alora_cpp.evaluation.intervals import rate
from alora_cpp.evaluation.scale import scale_of
from alora_cpp.labelled_data import LabelledExample, read_labelled_data
from benchmarks.accuracy.engine_files import Way, prepare
from benchmarks.accuracy.engine_peft import PeftIntrinsics, Said
from benchmarks.pages import with_tables

Examples = Mapping[str, Sequence[LabelledExample]]


def main() -> int:
    """The command line."""
    options = _arguments()
    tests = {path.stem: read_labelled_data(path) for path in sorted((options.build / "tests").glob("*.jsonl"))}
    examples = {name: found[: options.examples] for name, found in tests.items()}
    if not examples:
        raise SystemExit(f"{options.build / 'tests'} has no test sets; `python -m training.shipping` writes them")
    with tempfile.TemporaryDirectory() as folder:
        ways = prepare(options.build, examples, Path(folder))
        said = {name: _through_engine(name, way, examples, options.threads) for name, way in ways.items()}
        with Model(ways["F32"].base) as model:
            intrinsics = {name: model.load_intrinsic(path, name=name) for name, path in ways["F32"].adapters.items()}
            reference = _through_peft(options.build, intrinsics, examples, options.threads)
            compared = {name: _compare(intrinsics[name], reference[name], said, name) for name in examples}
    if options.out is not None:
        options.out.write_text(json.dumps(compared, indent=1) + "\n", encoding="utf-8")
    if options.page is not None:
        text = with_tables(options.page.read_text(encoding="utf-8"), {"engine": table(compared)})
        options.page.write_text(text, encoding="utf-8")
    print(table(compared))
    return 0 if _tell_missed(compared, ways) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=Path("build/bundled"), help="what `python -m training` wrote")
    parser.add_argument("--examples", type=int, help="only so many of each test set")
    parser.add_argument("--threads", type=int, default=0, help="threads (default: physical cores)")
    parser.add_argument("--out", type=Path, help="write all figures as JSON")
    parser.add_argument("--page", type=Path, help="page to put the table into")
    return parser.parse_args()


def _progress(what: str) -> Callable[[float], None]:
    """Tells on stderr every ten seconds how far something is."""
    began = told = time.monotonic()

    def tell(share: float) -> None:
        nonlocal told
        now = time.monotonic()
        if share >= 1 or now - told > 10:
            told = now
            print(f"{what}: {share:.0%}, {now - began:.0f} s", file=sys.stderr)

    return tell


def _through_engine(name: str, way: Way, examples: Examples, threads: int) -> dict[str, list[Judged]]:
    with Model(way.base) as model:
        for intrinsic, path in way.adapters.items():
            model.load_intrinsic(path, name=intrinsic)
        with Chat(model.context(n_threads=threads, **way.context)) as chat:
            judged = ask(chat, examples, progress=_progress(f"engine, {name}"))
    for failed in (one for found in judged.values() for one in found if one.verdict is None):
        raise SystemExit(f"{failed.example.where}: no verdict: {failed.error}")
    return judged


def _through_peft(
    build: Path, intrinsics: Mapping[str, Intrinsic], examples: Examples, threads: int
) -> dict[str, list[Judged]]:
    peft = PeftIntrinsics(build / "base", threads)
    judged = {}
    for name, intrinsic in intrinsics.items():
        choices = [one.text for one in intrinsic.closed]
        limit = intrinsic.config.parameters.max_tokens or 512
        answers = peft.answers(build / name, examples[name], choices, limit, _progress(f"PEFT, {name}"))
        judged[name] = [
            Judged(example, _as_verdict(intrinsic, answer))
            for example, answer in zip(examples[name], answers, strict=True)
        ]
    return judged


def _as_verdict(intrinsic: Intrinsic, said: Said) -> Verdict:
    """An answer of PEFT in the engine's terms, so that the same figures are made of both."""
    probabilities = {
        label: said.probabilities[one.text] for one, label in zip(intrinsic.closed, intrinsic.labels, strict=True)
    }
    scale = scale_of(intrinsic)
    value = sum(probabilities[label] * worth for label, worth in zip(scale.labels, scale.values, strict=True))
    return Verdict(
        intrinsic.name,
        intrinsic.label_of(said.text),
        max(probabilities.values(), default=None),
        probabilities,
        value if scale.values else None,
        said.text,
    )


def _compare(
    intrinsic: Intrinsic, reference: Sequence[Judged], said: Mapping[str, Mapping[str, Sequence[Judged]]], name: str
) -> dict[str, Any]:
    """Everything that is known of one intrinsic."""
    ways = {"PEFT": _figures(evaluation_of(intrinsic, reference))}
    for way, found in said.items():
        same = [_text(one) == _text(other) for one, other in zip(found[name], reference, strict=True)]
        ways[way] = _figures(evaluation_of(intrinsic, found[name])) | {
            "same": _plain(rate(sum(same), len(same))),
            "differing": [
                {"where": one.example.where, "said": _text(one), "peft": _text(other), "lead": _lead(other)}
                for one, other, agrees in zip(found[name], reference, same, strict=True)
                if not agrees
            ],
        }
        if (steps := _steps(intrinsic, found[name], reference)) is not None:
            ways[way] |= {"same_or_next": _plain(rate(sum(step <= 1 for step in steps), len(steps)))}
        if intrinsic.labels:
            off = [_largest_difference(one, other) for one, other in zip(found[name], reference, strict=True)]
            ways[way] |= {"largest_difference": max(off), "mean_difference": float(np.mean(off))}
    return {"n": len(reference), "ways": ways}


def _figures(evaluation: Evaluation) -> dict[str, Any]:
    assert evaluation.overall is not None
    return {"figures": {name: _plain(figure) for name, figure in evaluation.overall.figures.items()}}


def _plain(figure: Figure) -> list[float]:
    return [figure.value, figure.low, figure.high]


def _text(judged: Judged) -> str:
    assert judged.verdict is not None
    return judged.verdict.text


def _lead(judged: Judged) -> float | None:
    """By how much the best label's probability leads: near 0, rounding decides."""
    assert judged.verdict is not None
    shares = sorted(judged.verdict.probabilities.values())
    return shares[-1] - shares[-2] if shares else None


def _steps(intrinsic: Intrinsic, found: Sequence[Judged], reference: Sequence[Judged]) -> list[int] | None:
    """How many steps of the scale each verdict is from PEFT's; None where the labels are no steps."""
    scale = scale_of(intrinsic)
    if not scale.has_steps:
        return None
    place = {label: index for index, label in enumerate(scale.labels)}
    labels = [
        tuple(intrinsic.label_of(_text(judged)) for judged in pair) for pair in zip(found, reference, strict=True)
    ]
    return [abs(place[one or ""] - place[other or ""]) for one, other in labels]


def _largest_difference(one: Judged, other: Judged) -> float:
    assert one.verdict is not None
    assert other.verdict is not None
    ours, theirs = one.verdict.probabilities, other.verdict.probabilities
    return max(abs(ours[label] - share) for label, share in theirs.items())


def _tell_missed(compared: Mapping[str, Any], ways: Mapping[str, Way]) -> bool:
    """Says which goals were missed; returns whether none was."""
    missed = [
        f"{name}: {100 * one['ways'][way]['same'][0]:.2f} % of the verdicts in {way} are PEFT's, "
        f"the goal is {100 * wanted.goal:g} %"
        for name, one in compared.items()
        for way, wanted in ways.items()
        if one["ways"][way]["same"][0] < wanted.goal
    ]
    print(*missed, sep="\n", file=sys.stderr, end="\n" if missed else "")
    return not missed


def table(compared: Mapping[str, Any]) -> str:
    """The figures as a Markdown table."""
    ways = [way for way in next(iter(compared.values()))["ways"] if way != "PEFT"]
    head = ["Intrinsic", "n", "Measure", "PEFT", *(f"{way} {what}" for way in ways for what in ("", "same", "off"))]
    lines = [f"| {' | '.join(cell.strip() for cell in head)} |", f"| --- | ---: | --- |{' ---: |' * (len(head) - 3)}"]
    for name, one in compared.items():
        key, measure = _measure(one["ways"]["PEFT"]["figures"])
        cells = [name, f"{one['n']:,}", measure, _cell(one["ways"]["PEFT"], key)]
        for way in ways:
            found = one["ways"][way]
            off = f"{found['largest_difference']:.1g}" if "largest_difference" in found else ""
            same = f"{100 * found['same'][0]:.2f} %"
            if "same_or_next" in found:
                same += f" ({100 * found['same_or_next'][0]:.2f} %)"
            cells += [_cell(found, key), same, off]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _measure(figures: Mapping[str, Any]) -> tuple[str, str]:
    if "label_distance" in figures:
        return "label_distance", "MAE, labels"
    return ("error", "error") if "error" in figures else ("exact_match", "exact match")


def _cell(way: Mapping[str, Any], key: str) -> str:
    value = way["figures"][key][0]
    return f"{value:.3f}" if key == "label_distance" else f"{100 * value:.2f} %"


if __name__ == "__main__":
    sys.exit(main())
