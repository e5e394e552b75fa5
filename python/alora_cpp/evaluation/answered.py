"""An answer beside what was expected, in the same terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from alora_cpp.evaluation.asking import Judged
from alora_cpp.evaluation.scale import Scale, expected_label
from alora_cpp.intrinsic import Intrinsic


@dataclass(frozen=True)
class Answered:
    """What was expected and what was said: labels where the intrinsic has them, else texts.

    Attributes:
        expected: What the example is labelled with.
        said: What the intrinsic answered.
        probabilities: Of all labels; empty where they were not computed.
        value: The verdict's value.
        correct: Whether the judged reply is right, where the example says so.
        origin: The example's group.
    """

    expected: str
    said: str
    probabilities: Mapping[str, float]
    value: float | None
    correct: bool | None
    origin: str | None


def answered(intrinsic: Intrinsic, scale: Scale, judged: Iterable[Judged]) -> list[Answered]:
    """The examples that were answered; those that failed are left out."""
    found = []
    for one in judged:
        example, verdict = one.example, one.verdict
        if verdict is None:
            continue
        expected: str | None = example.completion
        said: str | None = verdict.text
        if scale.labels:
            expected, said = expected_label(intrinsic, example.completion), intrinsic.label_of(verdict.text)
        assert expected is not None
        assert said is not None
        complete = verdict.probabilities.keys() == set(scale.labels)
        found.append(
            Answered(
                expected,
                said,
                verdict.probabilities if complete else {},
                verdict.value,
                example.correct,
                example.origin,
            )
        )
    return found
