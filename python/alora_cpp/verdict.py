"""What an intrinsic answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Timings:
    """Seconds that a check took.

    Attributes:
        prepare: Rendering and tokenizing the conversation, and forking.
        evaluate: Computing: what was new of the conversation, the invocations and the answers of all intrinsics asked.
    """

    prepare: float
    evaluate: float

    @property
    def total(self) -> float:
        """The whole check."""
        return self.prepare + self.evaluate


@dataclass(frozen=True)
class Verdict:
    """An intrinsic's answer.

    Attributes:
        intrinsic: The intrinsic's name.
        label: The most probable label, where the answer is one of a closed set or has one literal of which the
            `io.yaml` asks the likelihood; else None.
        probability: The label's probability among the labels; None where it was not computed.
        probabilities: Each label's probability; they add up to 1. Empty where they were not computed.
        value: The expected value, where the `io.yaml` has values for the labels, or for the one literal.
        text: The answer as it was given.
        result: The answer after the `io.yaml`'s transformations: JSON, or the text itself where it is no JSON.
        off_label: Probability that the model would have answered something else; None where no closed set was scored.
        truncated: Whether the answer got too long: a text is cut off, JSON was brought to its end.
        tokens_reused: Rows of the prompt that were in the KV cache before the check.
        tokens_evaluated: Rows computed for the check of all intrinsics asked with it, what was new of the conversation
            included.
        timings: How long the check took.
    """

    intrinsic: str
    label: str | None
    probability: float | None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    value: float | None = None
    text: str = ""
    result: Any = None
    off_label: float | None = None
    truncated: bool = False
    tokens_reused: int = 0
    tokens_evaluated: int = 0
    timings: Timings = Timings(0.0, 0.0)

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)
