"""From answers to figures, of all examples and of each group of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from alora_cpp.evaluation import metrics
from alora_cpp.evaluation.answered import Answered
from alora_cpp.evaluation.intervals import Figure, Statistic, bootstrapped, rate
from alora_cpp.evaluation.scale import Scale

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """How sure verdicts were, and how often rightly so, in ten bins of equal width between 0 and 1.

    Attributes:
        of: `value` where the verdict's value stands against whether the judged reply is right, `label` where the
            label's probability stands against whether the label is right.
        counts: Examples in each bin.
        confidence: Their mean confidence; 0 in an empty bin.
        right: The share that was right; 0 in an empty bin.
    """

    of: str
    counts: Sequence[int]
    confidence: Sequence[float]
    right: Sequence[float]


@dataclass(frozen=True)
class GroupFigures:
    """The figures of some examples.

    Attributes:
        n: How many they are.
        figures: By name; docs/eval.md says what each is.
        per_label: Precision, recall and F1 of each label that occurs, None where they are 0 of 0.
        confusion: How often each label was said (inner) for each that was expected (outer), in the scale's order.
        reliability: For a diagram; None where there are no probabilities.
    """

    n: int
    figures: Mapping[str, Figure]
    per_label: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    confusion: Sequence[Sequence[int]] = ()
    reliability: Reliability | None = None


def group_figures(scale: Scale, answered: Sequence[Answered]) -> GroupFigures:
    """The figures of at least one answered example."""
    return _of_labels(scale, answered) if scale.labels else _of_texts(answered)


def _of_texts(answered: Sequence[Answered]) -> GroupFigures:
    same = sum(_content(one.said) == _content(one.expected) for one in answered)
    shared = np.array([metrics.token_f1(_spoken(one.said), _spoken(one.expected)) for one in answered])
    figures = {"exact_match": rate(same, len(answered))}
    if found := bootstrapped(lambda weights: metrics.mean(shared, weights), len(answered)):
        figures["token_f1"] = found
    return GroupFigures(len(answered), figures)


def _content(text: str) -> Any:
    """What a text says: JSON as values, other text without the space around and between its words."""
    try:
        return json.loads(text)
    except ValueError:
        return " ".join(text.split())


def _spoken(text: str) -> str:
    """A text's words; of JSON, those of its values."""
    content = _content(text)
    if isinstance(content, dict | list):
        return " ".join(_spoken(one if isinstance(one, str) else json.dumps(one)) for one in _items(content))
    return text


def _items(content: dict[str, Any] | list[Any]) -> list[Any]:
    return list(content.values()) if isinstance(content, dict) else content


def _of_labels(scale: Scale, answered: Sequence[Answered]) -> GroupFigures:
    n, n_labels = len(answered), len(scale.labels)
    place = {label: index for index, label in enumerate(scale.labels)}
    expected = np.array([place[one.expected] for one in answered])
    said = np.array([place[one.said] for one in answered])
    wrong = int((expected != said).sum())
    figures = {"error": rate(wrong, n), "accuracy": rate(n - wrong, n)}
    statistics: dict[str, Statistic] = {"macro_f1": lambda w: metrics.macro_f1(expected, said, n_labels, w)}
    reliability = None
    if all(one.probabilities for one in answered):
        probabilities = np.array([[one.probabilities[label] for label in scale.labels] for one in answered])
        confidence = probabilities[np.arange(n), said]
        statistics |= _of_probabilities(probabilities, expected, said, confidence)
        if scale.has_steps:
            steps = np.abs(metrics.median_label(probabilities) - expected).astype(np.float64)
            statistics["label_distance"] = lambda w: metrics.mean(steps, w)
        reliability = _reliability("label", confidence, expected == said)
    if scale.has_steps and all(one.value is not None for one in answered):
        value_of = np.array(scale.values)
        off = np.abs(np.array([one.value for one in answered], dtype=np.float64) - value_of[expected])
        statistics["value_distance"] = lambda w: metrics.mean(off, w)
    for name, statistic in statistics.items():
        if found := bootstrapped(statistic, n):
            figures[name] = found
    of_replies, of_value = _of_replies(answered)
    matrix = metrics.confusion(expected, said, n_labels, np.ones((1, n)))[0]
    return GroupFigures(
        n, figures | of_replies, _per_label(scale, matrix), matrix.astype(int).tolist(), of_value or reliability
    )


def _of_probabilities(
    probabilities: Array, expected: npt.NDArray[np.intp], said: npt.NDArray[np.intp], confidence: Array
) -> dict[str, Statistic]:
    scores = metrics.brier(probabilities, expected)
    return {
        "auroc": lambda w: metrics.macro_auroc(probabilities, expected, w),
        "calibration_error": lambda w: metrics.calibration_error(confidence, expected == said, w),
        "brier": lambda w: metrics.mean(scores, w),
    }


def _of_replies(answered: Sequence[Answered]) -> tuple[dict[str, Figure], Reliability | None]:
    """How the verdict's value stands to whether the judged reply is right, where all examples say so."""
    values = [one.value for one in answered if one.value is not None and 0 <= one.value <= 1]
    correct = [one.correct for one in answered if one.correct is not None]
    if not len(values) == len(correct) == len(answered):
        return {}, None
    value, right = np.array(values), np.array(correct)
    squares = (value - right) ** 2
    statistics: dict[str, Statistic] = {
        "reply_calibration_error": lambda w: metrics.calibration_error(value, right, w),
        "reply_auroc": lambda w: metrics.auroc(value, right, w),
        "reply_brier": lambda w: metrics.mean(squares, w),
    }
    figures = {name: found for name, one in statistics.items() if (found := bootstrapped(one, len(answered)))}
    return figures, _reliability("value", value, right)


def _reliability(of: str, confidence: Array, right: npt.NDArray[np.bool_]) -> Reliability:
    counts, confident, hits = (
        part[0] for part in metrics.reliability(confidence, right, np.ones((1, len(confidence))))
    )
    whole = np.maximum(counts, 1)
    return Reliability(of, counts.astype(int).tolist(), (confident / whole).tolist(), (hits / whole).tolist())


def _per_label(scale: Scale, matrix: Array) -> dict[str, dict[str, float | None]]:
    names = ("precision", "recall", "f1")
    shares = zip(*metrics.precision_recall_f1(matrix), strict=True)
    return {
        label: {name: None if np.isnan(share) else float(share) for name, share in zip(names, row, strict=True)}
        for label, row in zip(scale.labels, shares, strict=True)
        if not np.isnan(row[-1])
    }
