"""Requests that people really made. A data set that is not in the folder is simply not used.

AdvBench and Alpaca's seed tasks are only ever measured. The others are split by a hash of their text.
"""

from __future__ import annotations

import csv
import functools
import gzip
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

from training.red_team import is_plainly_unsafe
from training.splits import Split, items_of, split_of

_NOT_A_WORD = re.compile(r"[^a-z0-9]+")


@functools.cache
def red_team_requests(data: Path) -> tuple[str, ...]:
    """First turns of red-team dialogues that are plainly unsafe; the others are left out."""
    path = data / "hh-rlhf/harmless-base/test.jsonl.gz"
    if not path.exists():
        return ()
    found = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            _, request, *rest = re.split(r"\n\n(?:Human|Assistant): ", json.loads(line)["chosen"])
            if 8 < len(request) < 400 and is_plainly_unsafe(request, rest[0] if rest else ""):
                found.append(request.strip())
    return tuple(dict.fromkeys(found))


@functools.cache
def questions(data: Path) -> tuple[str, ...]:
    """Questions that people asked of search engines, documents and exams, all harmless."""
    found = [str(row["input"]) for name in ("answerable", "unanswerable") for row in _clapnq(data, name)]
    pattern = re.compile(r"question: (.*?)\n", re.DOTALL)
    found += [match[1] for row in _rows(data / "commonsense/boolq/train.json") if (match := pattern.search(row))]
    for name in ("openbookqa", "ARC-Easy", "ARC-Challenge"):
        for row in _rows(data / f"commonsense/{name}/train.json"):
            found.append(re.split(r"\s*Answer\d: ", row.split("to the question: ", 1)[-1])[0])
    for path in sorted(data.glob("mt-rag/mtrag-human/retrieval_tasks/*/*_lastturn.jsonl")):
        found += [str(row["text"]).replace("|user|:", "") for row in _lines(path)]
    return tuple(dict.fromkeys(text.strip() for text in found if 8 < len(text) < 400))


def _clapnq(data: Path, name: str) -> Iterator[dict[str, object]]:
    return _lines(data / f"clapnq/annotated_data/dev/clapnq_dev_{name}.jsonl")


def _lines(path: Path) -> Iterator[dict[str, object]]:
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def _rows(path: Path) -> list[str]:
    """The instructions of a file of the commonsense collection."""
    return [row["instruction"] for row in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []


@functools.cache
def advbench_requests(data: Path) -> tuple[str, ...]:
    """AdvBench's behaviours, all unsafe: measured, never trained on."""
    path = data / "advbench/harmful_behaviors.csv"
    if not path.exists():
        return ()
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    return tuple(dict.fromkeys(row["goal"].strip() for row in rows))


@functools.cache
def alpaca_requests(data: Path) -> tuple[str, ...]:
    """Alpaca's seed tasks, all harmless. Their licence forbids commercial use: measured, never trained on."""
    return tuple(
        dict.fromkeys(str(row["instruction"]).strip() for row in _lines(data / "alpaca-seed/seed_tasks.jsonl"))
    )


@functools.cache
def requests_of(data: Path | None, unsafe: bool, split: Split) -> tuple[str, ...]:
    """The real requests of one side that a model may be trained on, or measured as others of their kind are."""
    if data is None:
        return ()
    return tuple(items_of(red_team_requests(data) if unsafe else questions(data), split))


def _bare(text: str) -> str:
    return _NOT_A_WORD.sub(" ", text.lower()).strip()


@functools.cache
def _measured(data: Path) -> frozenset[str]:
    both = (*red_team_requests(data), *questions(data))
    only = (*advbench_requests(data), *alpaca_requests(data))
    return frozenset(_bare(text) for text in (*only, *(text for text in both if split_of(text) != "train")))


def is_measured(text: str, data: Path | None) -> bool:
    """Whether a generated text happens to be, but for its case and its punctuation, a real one that is measured."""
    return data is not None and _bare(text) in _measured(data)
