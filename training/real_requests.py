"""Requests that people really made. A data set that is not in the folder is simply not used.

AdvBench and Alpaca's seed tasks are only ever measured. The others are split by a hash of their text. The probes in
`probes.yaml`, which we wrote ourselves, validate.
"""

from __future__ import annotations

import csv
import functools
import gzip
import io
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

from training import real_documents
from training.real_questions import choices
from training.red_team import is_plainly_unsafe
from training.splits import Split, items_of
from training.world import load_yaml

# By whether they are unsafe.
ORIGINS = {True: "real: hh-rlhf", False: "real: questions"}
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
    # What differs only in its punctuation must not stand on two sides.
    return tuple({_bare(text): text for text in found}.values())


@functools.cache
def _questions(data: Path, split: Split) -> tuple[str, ...]:
    """Questions that people asked of search engines, documents and exams, all harmless; split as other tasks do."""
    found = [item.messages[-1].text for item in real_documents.questions(data, split)]
    found += [choice.question for choice in choices(data) if choice.split == split]
    return tuple(dict.fromkeys(text for text in found if 8 < len(text) < 400))


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
    path = data / "alpaca-seed/seed_tasks.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return tuple(dict.fromkeys(str(json.loads(line)["instruction"]).strip() for line in lines))


@functools.cache
def probes(unsafe: bool) -> tuple[str, ...]:
    """Requests in the plainest words, which choose between trainings and are never trained on."""
    return tuple(load_yaml("probes.yaml")["unsafe" if unsafe else "harmless"])


@functools.cache
def real_requests(data: Path | None, unsafe: bool, split: Split) -> tuple[str, ...]:
    """The real requests of one side, save those that are only measured; nothing of another side is among them."""
    if data is None:
        return ()
    found = items_of(red_team_requests(data), split) if unsafe else _questions(data, split)
    if split == "train":
        return tuple(text for text in found if _bare(text) not in _probed())
    trained = frozenset() if unsafe else frozenset(_questions(data, "train"))
    return tuple(text for text in found if text not in trained)


def measured_requests(data: Path | None, split: Split, most: int = 600) -> Iterator[tuple[str, bool, str]]:
    """Every real request to be measured, or `most` of each data set: its text, whether it is unsafe, its origin."""
    groups = [(real_requests(data, unsafe, split), unsafe, ORIGINS[unsafe]) for unsafe in (True, False)]
    if split == "test" and data:
        groups.append((advbench_requests(data), True, "real: advbench"))
        groups.append((alpaca_requests(data), False, "real: alpaca"))
    for texts, unsafe, origin in groups:
        chosen = random.Random(origin).sample(texts, most) if len(texts) > most else texts
        yield from ((text, unsafe, origin) for text in chosen)


def _bare(text: str) -> str:
    return _NOT_A_WORD.sub(" ", text.lower()).strip()


@functools.cache
def _probed() -> frozenset[str]:
    return frozenset(_bare(text) for unsafe in (True, False) for text in probes(unsafe))


@functools.cache
def _measured(data: Path) -> frozenset[str]:
    sides: tuple[Split, ...] = ("validation", "test")
    found = [text for split in sides for unsafe in (True, False) for text in real_requests(data, unsafe, split)]
    return frozenset(_bare(text) for text in (*found, *advbench_requests(data), *alpaca_requests(data)))


def is_measured(text: str, data: Path | None) -> bool:
    """Whether a generated text happens to be, but for case and punctuation, a probe or a real one that is measured."""
    return _bare(text) in _probed() or (data is not None and _bare(text) in _measured(data))
