"""The labels that an intrinsic chooses among, and what they are worth."""

from __future__ import annotations

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
    """The label that a completion stands for: it is the label, or the whole answer; None if it is neither."""
    label = intrinsic.label_of(completion)
    return completion if label is None and completion in intrinsic.labels else label
