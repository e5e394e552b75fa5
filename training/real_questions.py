"""Real questions with a few possible replies, one of them right: OpenBookQA, ARC and BoolQ.

Expects the folder layout that README.md lists; a data set that is missing is simply not used.
"""

from __future__ import annotations

import functools
import json
import random
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.splits import Split, split_of

_BOOLQ_QUESTION = re.compile(r"question: (.*?)\n", re.DOTALL)


@dataclass(frozen=True)
class Choice:
    """A real question with a few possible replies.

    Attributes:
        source: The data set.
        question: The bare question, by which it is split.
        replies: What can be answered.
        right: Which reply is right.
    """

    source: str
    question: str
    replies: tuple[str, ...]
    right: int

    @property
    def true_or_false(self) -> bool:
        """Whether the replies are `True.` and `False.`."""
        return self.source == "boolq"

    @property
    def split(self) -> Split:
        """Its side."""
        return split_of(self.question)

    @property
    def is_read(self) -> bool:
        """Whether the base model reads the answer: half of the training side, so as not to know the other half."""
        return self.split == "train" and zlib.crc32(f"read {self.question}".encode()) % 2 == 0

    def asked(self, generator: random.Random) -> str:
        """The question as it is put, with the possible replies in any order."""
        if self.true_or_false:
            return f"{self.question.rstrip('?')}? True or false?"
        replies = list(self.replies)
        generator.shuffle(replies)
        return f"{self.question} {'; '.join(replies)}?"


def _rows(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else []


def _exams(data: Path, name: str) -> Iterator[Choice]:
    for row in _rows(data / f"commonsense/{name}/train.json"):
        body = row["instruction"].split("to the question: ", 1)[-1].split("\n\nAnswer format")[0]
        question, *replies = re.split(r"\s*Answer\d: ", body)
        right = int(row["answer"][-1]) - 1
        if 2 <= len(replies) <= 5 and right < len(replies):
            yield Choice(name, question.strip(), tuple(reply.strip() for reply in replies), right)


def _yes_no(data: Path) -> Iterator[Choice]:
    for row in _rows(data / "commonsense/boolq/train.json"):
        found = _BOOLQ_QUESTION.search(row["instruction"])
        if found:
            yield Choice("boolq", found[1].strip(), ("True.", "False."), int(row["answer"] != "true"))


@functools.cache
def choices(data: Path) -> tuple[Choice, ...]:
    """All questions, each once."""
    found = [choice for name in ("openbookqa", "ARC-Easy", "ARC-Challenge") for choice in _exams(data, name)]
    return tuple({choice.question: choice for choice in (*found, *_yes_no(data))}.values())


@functools.cache
def read_choices(data: Path) -> tuple[Choice, ...]:
    """The questions whose answers the base model reads."""
    return tuple(choice for choice in choices(data) if choice.is_read)
