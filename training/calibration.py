"""From confidence to the share of right answers."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

# Steps of a curve rest on so many answers at least: a share of fewer says little.
_LEAST_ANSWERS = 100


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


def isotonic(confidences: Sequence[float], right: Sequence[bool], least: int = _LEAST_ANSWERS) -> Curve:
    """The rising step function that fits best: answers in blocks of like confidence, and neighbours that fall pooled.

    Args:
        confidences: Of at least one answer.
        right: Whether each answer was right.
        least: How many answers a block has at least. Equal confidences are never in two blocks.

    Raises:
        ValueError: Without answers.
    """
    if not confidences:
        raise ValueError("no answers to calibrate by: found 0, expected at least 1")
    steps: list[tuple[int, int, float]] = []  # right answers, answers, lowest confidence
    for block in _blocks(confidences, least):
        steps.append((sum(right[i] for i in block), len(block), confidences[block[0]]))
        while len(steps) > 1 and steps[-2][0] / steps[-2][1] >= steps[-1][0] / steps[-1][1]:
            above, below = steps.pop(), steps.pop()
            steps.append((below[0] + above[0], below[1] + above[1], below[2]))
    return Curve(tuple(step[2] for step in steps), tuple(step[0] / step[1] for step in steps))


def _blocks(confidences: Sequence[float], least: int) -> list[list[int]]:
    """Positions by rising confidence, in blocks; what is left over at the end joins the last block."""
    blocks: list[list[int]] = [[]]
    for position in sorted(range(len(confidences)), key=lambda i: confidences[i]):
        if len(blocks[-1]) >= least and confidences[position] > confidences[blocks[-1][-1]]:
            blocks.append([])
        blocks[-1].append(position)
    if len(blocks) > 1 and len(blocks[-1]) < least:
        left_over = blocks.pop()
        blocks[-1] += left_over
    return blocks
