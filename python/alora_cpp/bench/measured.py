"""What was measured: samples of works, and figures of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from alora_cpp.bench.works import Sample

COMPARED: Mapping[str, str] = {
    "verdict_as_lora": "verdict",
    "one_by_one_3": "together_3",
    "one_by_one_8": "together_8",
    "read": "go_on",
}
"""Slow ways, and the way of this library that each is held against."""


@dataclass(frozen=True)
class Measured:
    """What the works took after a conversation of one length.

    Attributes:
        prompt: Tokens of the conversation.
        samples: By work, one for each round: `read`, `write`, `verdict`, `verdict_as_lora`, `together_3`,
            `one_by_one_3`, `together_8`, `one_by_one_8` and `go_on`. Those for which there are not enough adapters are
            missing.
        n_ctx: KV cells of the context.
        kv_bytes: Size of its KV cache, with the states of recurrent layers.
        compute_bytes: Size of its compute buffers at the end.
    """

    prompt: int
    samples: Mapping[str, Sequence[Sample]]
    n_ctx: int
    kv_bytes: int
    compute_bytes: int

    @property
    def rounds(self) -> int:
        """How many rounds count."""
        return len(self.samples["read"])

    def round_seconds(self, prompt: int) -> float:
        """About what a round takes after a conversation of some length: only what reads all of it takes longer."""
        longer = {"read": prompt / self.prompt, "verdict_as_lora": prompt / self.prompt}
        return sum(self.seconds(work) * longer.get(work, 1) for work in self.samples)

    def seconds(self, work: str) -> float:
        """The median of a work's times."""
        return median(sample.seconds for sample in self.samples[work])

    def ratio(self, work: str) -> float:
        """How many times as long it took as the work of `COMPARED`: the median of the ratios within the rounds."""
        pairs = zip(self.samples[work], self.samples[COMPARED[work]], strict=True)
        return median(one.seconds / other.seconds for one, other in pairs)


@dataclass(frozen=True)
class Measurements:
    """All that was measured.

    Attributes:
        measured: A conversation of one length each, the shortest first.
        left_out: Why others were not measured, by their lengths.
    """

    measured: Sequence[Measured]
    left_out: Mapping[int, str]
