"""Exact probabilities of a closed set of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alora_cpp import _core

Label = str | tuple[int, ...]


@dataclass(frozen=True)
class LabelScores:
    """How likely each label is as the answer at the end of a branch.

    Attributes:
        labels: The labels, as they were given.
        log_probabilities: float64 [n_labels]: of each label's whole token sequence, by full-vocabulary softmax.
        probabilities: float64 [n_labels]: renormalised over the labels. A label that another one continues counts only
            where the answer does not go on to the longer one, so these add up to 1.
        off_label: Probability that the answer is none of the labels.
    """

    labels: tuple[Label, ...]
    log_probabilities: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    off_label: float

    @property
    def best(self) -> Label:
        """The most probable label."""
        return self.labels[int(np.argmax(self.probabilities))]


class Scoring:
    """Scores in the making, made by `Context.queue_scores`: their rows go through the next decode, with all others."""

    def __init__(self, core: _core.Scoring, labels: Sequence[Sequence[Label]]) -> None:
        self._core = core
        self._labels = labels

    def read(self) -> list[LabelScores]:
        """The scores, in the order of the queries.

        Raises:
            PositionError: Their rows are queued still, or a branch went on or was closed since.
            ClosedError: The context is closed.
        """
        return [_from_core(labels, one) for labels, one in zip(self._labels, self._core.read(), strict=True)]


def _from_core(labels: Sequence[Label], core: _core.LabelScores) -> LabelScores:
    return LabelScores(
        tuple(labels),
        np.asarray(core.log_probabilities, dtype=np.float64),
        np.asarray(core.probabilities, dtype=np.float64),
        core.off_label,
    )
