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


def mean_absolute_error(examples: Sequence[Example], predictions: Sequence[Prediction]) -> float:
    """The mean distance between the likeliest label and the right one, in label steps."""
    return sum(abs(int(top_label(p)) - int(e.label)) for e, p in zip(examples, predictions, strict=True)) / len(
        examples
    )


def guessing_error(examples: Sequence[Example]) -> float:
    """The mean absolute error of whoever always says the median label: what reading must beat."""
    labels = sorted(int(e.label) for e in examples)
    median = labels[len(labels) // 2]
    return sum(abs(label - median) for label in labels) / len(labels)


def calibration_error(examples: Sequence[Example], predictions: Sequence[Prediction]) -> float:
    """Expected calibration error: certainty against the share of replies that are in fact right, in ten bins."""
    bins: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for example, prediction in zip(examples, predictions, strict=True):
        value = sum(share * (int(label) / 10 + 0.05) for label, share in prediction.items())
        bins[min(9, int(value * 10))].append((value, bool(example.right)))
    gaps = (abs(sum(v for v, _ in rows) - sum(r for _, r in rows)) for rows in bins.values())
    return sum(gaps) / len(examples)


def table(name: str, examples: Sequence[Example], predictions: Sequence[Prediction]) -> list[str]:
    """Lines of figures for one intrinsic: over everything, and for every origin of examples."""
    figure = mean_absolute_error if name == "certainty" else error_rate
    groups: dict[str, list[int]] = {"all": list(range(len(examples)))}
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
            line += f"MAE {figure(chosen, said):.3f} (always the median: {guessing_error(chosen):.3f})"
            line += f"  calibration error {calibration_error(chosen, said):.3f}"
        else:
            line += f"error {100 * figure(chosen, said):5.2f} %"
        lines.append(line)
    return lines
