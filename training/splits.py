"""Which items are trained on, which choose between trainings, and which are only ever measured."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Literal

Split = Literal["train", "validation", "test"]


def split_of(text: str) -> Split:
    """The side of an item, by a hash of its text: two in ten test, one in ten validates, the others train."""
    bucket = zlib.crc32(" ".join(text.lower().split()).encode()) % 10
    return "test" if bucket < 2 else "validation" if bucket == 2 else "train"


def items_of(items: Iterable[str], split: Split) -> list[str]:
    """The texts of one side, each once, in the order given."""
    return [item for item in dict.fromkeys(items) if split_of(item) == split]
