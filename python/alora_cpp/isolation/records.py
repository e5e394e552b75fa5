"""What the core gives as records, on this side: the same fields as in `alora_cpp._core`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fingerprints:
    """Digests of a model."""

    vocabulary: str
    weights: str | None


@dataclass(frozen=True)
class BuiltInAdapter:
    """An adapter within a model."""

    control_token: int
    substitute_token: int


@dataclass(frozen=True)
class ContextCounters:
    """What a context has done."""

    rows_decoded: int
    batches: int
    graphs_reused: int
    compute_bytes: int


@dataclass(frozen=True)
class GenerationStep:
    """A sampled token."""

    index: int
    token: int
    text: str
    finish: str | None


@dataclass(frozen=True)
class LabelScores:
    """How likely labels are."""

    log_probabilities: list[float]
    probabilities: list[float]
    off_label: float
