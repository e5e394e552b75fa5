"""From confidence to the share of right answers."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

# Steps of a curve rest on so many answers at least: a share of fewer says little.
_LEAST_ANSWERS = 60


@dataclass(frozen=True)
class Curve:
    """A rising step function from confidence to the share of right answers.

    Attributes:
        edges: The lowest confidence of every step, rising.
        shares: The share of right answers of every step, rising.
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...]

    def share(self, confidence: float) -> float:
        """The share of right answers at a confidence."""
        return self.shares[max(0, bisect.bisect_right(self.edges, confidence) - 1)]


@dataclass
class _Step:
    right: int
    answers: int
    edge: float

    @property
    def share(self) -> float:
        return self.right / self.answers

    def take_in(self, above: _Step) -> None:
        self.right += above.right
        self.answers += above.answers


def isotonic(confidences: Sequence[float], right: Sequence[bool], least: int = _LEAST_ANSWERS) -> Curve:
    """The rising step function that fits best, by pooling neighbours that fall; small steps then join a neighbour.

    Args:
        confidences: Of at least one answer.
        right: Whether each answer was right.
        least: How many answers a step rests on, unless all together are fewer.

    Raises:
        ValueError: Without answers.
    """
    if not confidences:
        raise ValueError("no answers to calibrate by: found 0, expected at least 1")
    steps: list[_Step] = []
    for confidence, answers in itertools.groupby(
        sorted(zip(confidences, right, strict=True)), key=lambda pair: pair[0]
    ):
        verdicts = [verdict for _, verdict in answers]
        steps.append(_Step(sum(verdicts), len(verdicts), confidence))
        while len(steps) > 1 and steps[-2].share >= steps[-1].share:
            above = steps.pop()
            steps[-1].take_in(above)
    _join_small(steps, least)
    return Curve(tuple(step.edge for step in steps), tuple(step.share for step in steps))


def _join_small(steps: list[_Step], least: int) -> None:
    """Lets every step of too few answers join the neighbour whose share is closer, the smallest step first."""
    while len(steps) > 1:
        place = min(range(len(steps)), key=lambda i: steps[i].answers)
        if steps[place].answers >= least:
            return
        below = place == len(steps) - 1 or (
            place > 0 and steps[place].share - steps[place - 1].share < steps[place + 1].share - steps[place].share
        )
        lower = place - 1 if below else place
        steps[lower].take_in(steps.pop(lower + 1))
