"""Labelled examples for `certainty`: the base model's own replies, and how often such replies are right."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from training.measured_answers import load
from training.splits import Split
from training.tasks.example import Example, Sources

# Answers to the test questions of the bundled base model, so that it can be evaluated without measuring anew.
_KEPT = Path(__file__).parents[1] / "measured"


def training_examples(seed: str, sources: Sources) -> Iterator[Example]:
    """Measured answers of the training side, without end, seldom labels a little more often than they occur.

    Raises:
        ValueError: Without a folder of measured answers, or if there are none in it.
    """
    if sources.measured is None:
        raise ValueError("certainty is trained on measured answers: give Sources(measured=...)")
    rows = [row for row in load(sources.measured / "train.jsonl") if sources.data or not row.is_real]
    if not rows:
        raise ValueError(f"found no measured answers in {sources.measured}: ask more questions (a larger scale)")
    generator = random.Random(f"certainty {seed}")
    counts = Counter(row.label for row in rows)
    weights = [counts[row.label] ** -0.25 for row in rows]
    while True:
        for row in generator.choices(rows, weights, k=4096):
            yield row.example(sources.data)


def measured_examples(split: Split, sources: Sources, generated: int) -> list[Example]:
    """Measured answers of one side: so many to generated questions, and those to real ones where there are data.

    Without a folder of measured answers, the test answers that the repository keeps are used.
    """
    rows = load((sources.measured or _KEPT) / f"{split}.jsonl")
    chosen = [row for row in rows if not row.is_real][:generated]
    if sources.data is not None:
        chosen += [row for row in rows if row.is_real]
    return [row.example(sources.data) for row in chosen]
