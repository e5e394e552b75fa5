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
        label: The most probable label; None where the answer is free text.
        probability: The label's probability among the labels.
        probabilities: Each label's probability; they add up to 1.
        value: The expected value, where the labels have values.
        text: The answer as text.
        off_label: Probability that the model would have answered something else.
        tokens_reused: Rows of the conversation that were in the KV cache before the check.
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
    off_label: float | None = None
    tokens_reused: int = 0
    tokens_evaluated: int = 0
    timings: Timings = Timings(0.0, 0.0)

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)
