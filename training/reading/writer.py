"""The hand that writes: one random stream, one side of the split, and the names that go with it."""

from __future__ import annotations

import random
from pathlib import Path

from training.names import NameMaker
from training.splits import Split


class Writer:
    """Everything a text is made from.

    Attributes:
        random: Where all choices come from.
        data: The folder of real data, if there is one.
        split: The side whose names, phrases and real items are used; the base model reads `train` alone.
        names: Makes names of that side.
    """

    def __init__(self, generator: random.Random, data: Path | None, split: Split = "train") -> None:
        self.random = generator
        self.data = data
        self.split = split
        self.names = NameMaker(generator, split)
