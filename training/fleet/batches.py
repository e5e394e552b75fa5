"""Rows on the device, in batches of like length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.examples import Rows

_POOL = 8192  # rows that are sorted by length together
_STEP = 64  # widths are multiples of this, so that there are few shapes


@dataclass(frozen=True)
class Batch:
    """Conversations filled up on the right, where causal attention never looks back from.

    Attributes:
        ids: [N, T].
        lengths: [N].
        labels: [N], positions of the labels.
        rows: Which rows these are.
    """

    ids: Tensor
    lengths: Tensor
    labels: Tensor
    rows: Sequence[int]


class DeviceRows:
    """All rows of a data set on one device."""

    def __init__(self, rows: Rows, device: torch.device) -> None:
        self.labels = rows.labels
        self._lengths = np.diff(rows.starts)
        self._ids = torch.from_numpy(rows.ids).to(device)
        self._starts = torch.from_numpy(rows.starts[:-1]).to(device)
        self._lengths_there = torch.from_numpy(self._lengths).to(device)
        self._label = torch.from_numpy(rows.label).to(device)

    def __len__(self) -> int:
        return len(self._lengths)

    def batch(self, rows: Sequence[int]) -> Batch:
        """The batch of some rows."""
        chosen = torch.tensor(rows, device=self._ids.device)
        width = int(_widths(self._lengths[list(rows)]).max())
        lengths = self._lengths_there[chosen]
        at = torch.arange(width, device=self._ids.device)[None, :]
        ids = self._ids[(self._starts[chosen, None] + at).clamp(max=len(self._ids) - 1)].long()
        return Batch(torch.where(at < lengths[:, None], ids, 0), lengths, self._label[chosen], list(rows))

    def _groups(self, rows: npt.NDArray[np.int64], most: int, tokens: int) -> Iterator[list[int]]:
        group: list[int] = []
        ordered = rows[np.argsort(self._lengths[rows], kind="stable")]
        for row, width in zip(ordered.tolist(), _widths(self._lengths[ordered]).tolist(), strict=True):
            if group and (len(group) == most or (len(group) + 1) * width > tokens):
                yield group
                group = []
            group.append(row)
        if group:
            yield group

    def in_order(self, most: int, tokens: int) -> Iterator[Batch]:
        """Every row once, in batches of at most `most` rows and `tokens` ids."""
        for group in self._groups(np.arange(len(self)), most, tokens):
            yield self.batch(group)

    def shuffled(self, epochs: int, most: int, tokens: int, seed: int) -> Iterator[list[int]]:
        """The rows of each batch; no two epochs group them alike."""
        generator = np.random.default_rng(seed)
        for _ in range(epochs):
            order = generator.permutation(len(self))
            for start in range(0, len(order), _POOL):
                groups = list(self._groups(order[start : start + _POOL], most, tokens))
                for position in generator.permutation(len(groups)):
                    yield groups[position]


def _widths(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return -(-lengths // _STEP) * _STEP
