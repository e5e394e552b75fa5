"""Examples in batches of like length, in an order that a seed and an epoch decide."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from alora_cpp.train.examples import TokenizedExample

# Examples are sorted by length within so many batches at a time: the order stays random on the whole.
_POOL = 32
_IGNORED = -100


def draw_batches(lengths: Sequence[int], *, batch_size: int, epochs: int, seed: int) -> list[list[int]]:
    """Draws every example once an epoch, in batches of like length.

    Args:
        lengths: Of the examples.
        batch_size: Examples in a batch; the last one of an epoch may have fewer.
        epochs: How often each is drawn.
        seed: Of the order. Epochs differ, runs of one seed do not.

    Returns:
        The batches of all epochs, as indices of examples.
    """
    drawn: list[list[int]] = []
    size = batch_size * _POOL
    for epoch in range(epochs):
        draw = random.Random(f"{seed} {epoch}")
        order = draw.sample(range(len(lengths)), len(lengths))
        batches = []
        for start in range(0, len(order), size):
            pool = sorted(order[start : start + size], key=lengths.__getitem__)
            batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
        drawn += draw.sample(batches, len(batches))
    return drawn


@dataclass(frozen=True)
class Batch:
    """Examples as tensors [examples, positions], filled up at the end.

    Attributes:
        ids: Tokens that are read.
        targets: For each of them the token that follows, if it belongs to the answer; else -100.
        lengths: int64 [examples]: how many tokens of a row are there.
        weights: float32 [examples].
        activations: Position of the first governed token of each.
    """

    ids: torch.Tensor
    targets: torch.Tensor
    lengths: torch.Tensor
    weights: torch.Tensor
    activations: tuple[int, ...]

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        ids, targets, lengths, weights = (
            one.to(device) for one in (self.ids, self.targets, self.lengths, self.weights)
        )
        return Batch(ids, targets, lengths, weights, self.activations)


def collate(examples: Sequence[TokenizedExample]) -> dict[str, Batch]:
    """Makes a batch, as `Trainer` takes it."""
    rows, targets = [], []
    for example in examples:
        ids = [*example.prompt, *example.answer]
        rows.append(ids[:-1])
        targets.append([_IGNORED] * (len(example.prompt) - 1) + list(example.answer))
    batch = Batch(
        padded(rows, 0),
        padded(targets, _IGNORED),
        torch.tensor([len(row) for row in rows]),
        torch.tensor([example.weight for example in examples]),
        tuple(example.activation for example in examples),
    )
    return {"batch": batch}


def padded(rows: Sequence[Sequence[int]], filling: int) -> torch.Tensor:
    """Rows of unlike length as one tensor, filled up at the end."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[filling] * (width - len(row))] for row in rows])
