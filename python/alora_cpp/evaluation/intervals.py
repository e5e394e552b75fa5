"""Figures with 95 % confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
# Of weights, one row a sample, to the figure of each row.
Statistic = Callable[[Array], Array]

_Z = 1.959963984540054  # of the normal distribution, 95 % lie within so many standard deviations
_RESAMPLES = 1000
_CELLS = 4_000_000


@dataclass(frozen=True)
class Figure:
    """A measured figure, and between which limits it lies with 95 % confidence."""

    value: float
    low: float
    high: float


def rate(hits: int, n: int) -> Figure:
    """A share, with Wilson's interval.

    Args:
        hits: How many.
        n: Of how many; at least 1.
    """
    share, z2 = hits / n, _Z * _Z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Figure(share, max(0.0, centre - half), min(1.0, centre + half))


def bootstrapped(statistic: Statistic, n: int, *, seed: int = 0) -> Figure | None:
    """A figure with the interval that 1,000 samples of the examples give, drawn with replacement.

    Args:
        statistic: Weights [samples, n] to figures [samples]; NaN where a sample has none.
        n: Number of examples.
        seed: Of the drawing.

    Returns:
        The figure; None where the examples have none.
    """
    value = float(statistic(np.ones((1, n)))[0])
    if math.isnan(value):
        return None
    random = np.random.default_rng(seed)
    at_once = max(1, _CELLS // n)
    parts = []
    for begin in range(0, _RESAMPLES, at_once):
        count = min(at_once, _RESAMPLES - begin)
        drawn = random.integers(0, n, (count, n)) + n * np.arange(count)[:, None]
        parts.append(statistic(np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n).astype(np.float64)))
    low, high = np.nanpercentile(np.concatenate(parts), [2.5, 97.5])
    return Figure(value, float(low), float(high))
