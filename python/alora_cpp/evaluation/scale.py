"""The labels that an intrinsic chooses among, and what they are worth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from alora_cpp.intrinsic import Intrinsic, short_name
from alora_cpp.io.likelihood import CategoryLikelihood


@dataclass(frozen=True)
class Scale:
    """Labels from the least to the most, where they have numbers; else as the `io.yaml` lists them.

    Attributes:
        labels: Short names; none where the answer is a text of the intrinsic's own.
        values: A number for each, or none at all.
    """

    labels: tuple[str, ...]
    values: tuple[float, ...] = ()

    @property
    def has_steps(self) -> bool:
        """Whether it is more than yes or no: how far off a wrong label is says something then."""
        return len(set(self.values)) > 2


def scale_of(intrinsic: Intrinsic) -> Scale:
    """The scale of an intrinsic's answers.

    The numbers are those of the one `likelihood` in its `io.yaml`; without it, the labels themselves if they are
    numbers.
    """
    labels = intrinsic.labels
    values = _values(intrinsic)
    if not all(label in values for label in labels):
        return Scale(labels)
    ordered = tuple(sorted(labels, key=values.__getitem__))
    return Scale(ordered, tuple(values[label] for label in ordered))


def _values(intrinsic: Intrinsic) -> Mapping[str, float]:
    found = [one for one in intrinsic.config.transformations if isinstance(one, CategoryLikelihood)]
    if len(found) == 1:
        return {short_name(category): value for category, value in found[0].categories_to_values.items()}
    try:
        return {label: float(label) for label in intrinsic.labels}
    except ValueError:
        return {}


def expected_label(intrinsic: Intrinsic, completion: str) -> str | None:
    """The label that a completion stands for; None if it is no answer of the intrinsic.

    It is the label, or the whole answer; JSON may be written in any way.
    """
    label = intrinsic.label_of(completion)
    if label is None and completion in intrinsic.labels:
        return completion
    if label is None and (content := _canonical(completion)) is not None:
        same = (
            label
            for one, label in zip(intrinsic.closed, intrinsic.labels, strict=True)
            if _canonical(one.text) == content
        )
        return next(same, None)
    return label


def _canonical(text: str) -> str | None:
    """JSON, written in one way; None for other text."""
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except (ValueError, RecursionError):
        return None
