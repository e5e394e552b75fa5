"""How verdicts compare with labels.

Most functions take weights [samples, n], a row for each sample of the n examples (ones for the examples as they are),
and give a figure for each sample: so one call serves a figure and its bootstrapped interval. A figure that a sample
does not have is NaN.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

N_BINS = 10


def mean(amounts: Array, weights: Array) -> Array:
    """The weighted mean of amounts [n]."""
    result: Array = weights @ amounts / weights.sum(axis=-1)
    return result


def confusion(expected: Indices, said: Indices, n_labels: int, weights: Array) -> Array:
    """How often each label was said for each one that was expected: [samples, expected, said]."""
    pairs = np.zeros((len(expected), n_labels * n_labels))
    pairs[np.arange(len(expected)), expected * n_labels + said] = 1.0
    result: Array = (weights @ pairs).reshape(-1, n_labels, n_labels)
    return result


def precision_recall_f1(matrix: Array) -> tuple[Array, Array, Array]:
    """Of confusion matrices [..., expected, said]: three figures for each label; NaN where they are 0 of 0."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    expected, said = matrix.sum(axis=-1), matrix.sum(axis=-2)
    return _share(hits, said), _share(hits, expected), _share(2 * hits, expected + said)


def macro_f1(expected: Indices, said: Indices, n_labels: int, weights: Array) -> Array:
    """The mean F1 of the labels that occur, expected or said."""
    f1 = precision_recall_f1(confusion(expected, said, n_labels, weights))[2]
    occurs = ~np.isnan(f1)
    return _share(np.where(occurs, f1, 0.0).sum(axis=-1), occurs.sum(axis=-1))


def auroc(scores: Array, positive: npt.NDArray[np.bool_], weights: Array) -> Array:
    """The chance that a positive example has a higher score than a negative one, ties counting half.

    Args:
        scores: [n].
        positive: [n].
        weights: [samples, n].
    """
    order = np.argsort(scores, kind="stable")
    # Equal scores are one group.
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.nan) != 0)
    up = np.add.reduceat((weights * positive)[:, order], starts, axis=-1)
    down = np.add.reduceat((weights * ~positive)[:, order], starts, axis=-1)
    below = down.cumsum(axis=-1) - down / 2
    return _share((up * below).sum(axis=-1), up.sum(axis=-1) * down.sum(axis=-1))


def macro_auroc(probabilities: Array, expected: Indices, weights: Array) -> Array:
    """The mean over labels of how well a label's probability tells it from the others; for two labels both are equal.

    Args:
        probabilities: [n, labels].
        expected: [n].
        weights: [samples, n].
    """
    each = np.stack(
        [auroc(probabilities[:, label], expected == label, weights) for label in range(probabilities.shape[1])]
    )
    occurs = ~np.isnan(each)
    return _share(np.where(occurs, each, 0.0).sum(axis=0), occurs.sum(axis=0))


def median_label(probabilities: Array) -> Indices:
    """The label that halves the probabilities [n, labels].

    Of all single answers it is the one with the least expected distance, in steps.
    """
    halves = probabilities.cumsum(axis=-1) >= 0.5 * probabilities.sum(axis=-1, keepdims=True)
    result: Indices = halves.argmax(axis=-1)
    return result


def brier(probabilities: Array, expected: Indices) -> Array:
    """Each example's Brier score, between 0 and 1: for two labels the squared error of either one's probability."""
    distances = probabilities - np.eye(probabilities.shape[1])[expected]
    result: Array = (distances**2).sum(axis=-1) / 2
    return result


def reliability(confidence: Array, right: npt.NDArray[np.bool_], weights: Array) -> tuple[Array, Array, Array]:
    """In ten bins of confidence between 0 and 1: weight, summed confidence, and weight of what was right.

    Args:
        confidence: [n].
        right: [n].
        weights: [samples, n].

    Returns:
        Three arrays [samples, bins].
    """
    bins = np.zeros((len(confidence), N_BINS))
    bins[np.arange(len(confidence)), np.minimum((confidence * N_BINS).astype(np.intp), N_BINS - 1)] = 1.0
    return weights @ bins, weights @ (bins * confidence[:, None]), weights @ (bins * right[:, None])


def calibration_error(confidence: Array, right: npt.NDArray[np.bool_], weights: Array) -> Array:
    """Expected calibration error: how far confidence and the share that is right are apart, over all bins."""
    counts, confident, hits = reliability(confidence, right, weights)
    return _share(np.abs(confident - hits).sum(axis=-1), counts.sum(axis=-1))


def token_f1(said: str, expected: str) -> float:
    """How many words two texts share, without regard to order and case: the harmonic mean of precision and recall."""
    ours, theirs = _words(said), _words(expected)
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * (ours & theirs).total() / (ours.total() + theirs.total())


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text.casefold()))


def _share(part: Array, whole: Array | npt.NDArray[np.intp]) -> Array:
    result: Array = np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
    return result
