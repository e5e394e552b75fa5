"""Figures: how often verdicts are wrong, and how far off."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from training.tasks import Example

Prediction = dict[str, float]


def top_label(prediction: Prediction) -> str:
    """The likeliest label."""
    return max(prediction, key=lambda label: prediction[label])


def error_rate(examples: Sequence[Example], predictions: Sequence[Prediction]) -> float:
    """The share of wrong verdicts."""
    wrong = sum(top_label(p) != e.label for e, p in zip(examples, predictions, strict=True))
    return wrong / len(examples)


def median_label(prediction: Prediction) -> int:
    """The label that halves the probabilities: of all single answers the one with the least expected distance."""
    below = 0.0
    for label in sorted(prediction, key=int):
        below += prediction[label]
        if below >= 0.5:
            return int(label)
    return int(max(prediction, key=int))


def mean_absolute_error(examples: Sequence[Example], predictions: Sequence[Prediction]) -> float:
    """The mean distance between the median label and the right one, in label steps, each example with its weight."""
    distances = [abs(median_label(p) - int(e.label)) * e.weight for e, p in zip(examples, predictions, strict=True)]
    return sum(distances) / sum(e.weight for e in examples)


def guessing_error(examples: Sequence[Example]) -> float:
    """The mean absolute error of whoever always says the best one label: what reading must beat."""
    weight = sum(e.weight for e in examples)
    return min(sum(abs(int(e.label) - guess) * e.weight for e in examples) for guess in range(10)) / weight


def calibration_error(examples: Sequence[Example], predictions: Sequence[Prediction]) -> float:
    """Expected calibration error: certainty against the share of replies that are in fact right, in ten bins."""
    bins: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for example, prediction in zip(examples, predictions, strict=True):
        value = sum(share * (int(label) / 10 + 0.05) for label, share in prediction.items())
        bins[min(9, int(value * 10))].append((value * example.weight, bool(example.right) * example.weight))
    gaps = (abs(sum(v for v, _ in rows) - sum(r for _, r in rows)) for rows in bins.values())
    return sum(gaps) / sum(e.weight for e in examples)


def table(name: str, examples: Sequence[Example], predictions: Sequence[Prediction]) -> list[str]:
    """Lines of figures for one intrinsic: over everything, and for every origin of examples."""
    figure = mean_absolute_error if name == "certainty" else error_rate
    # Harder ones are beyond what the intrinsic is asked to do yet: they are shown, and count apart.
    groups: dict[str, list[int]] = {"all": [i for i, e in enumerate(examples) if not e.origin.startswith("harder")]}
    for prefix in ("generated", "real"):
        groups[prefix] = [i for i, example in enumerate(examples) if example.origin.startswith(prefix)]
    for i, example in sorted(enumerate(examples), key=lambda pair: pair[1].origin):
        groups.setdefault(f"  {example.origin}", []).append(i)
    lines = []
    for group, members in groups.items():
        if not members:
            continue
        chosen, said = [examples[i] for i in members], [predictions[i] for i in members]
        line = f"{name:14} {group:40} n={len(members):5}  "
        if name == "certainty":
            line += f"MAE {figure(chosen, said):.3f} (one label for all: {guessing_error(chosen):.3f})"
            line += f"  calibration error {calibration_error(chosen, said):.3f}"
        else:
            line += f"error {100 * figure(chosen, said):5.2f} %"
        lines.append(line)
    return lines
