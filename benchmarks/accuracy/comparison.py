"""What is compared: which adapters are trained for each task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from training.fleet.intrinsics import complete_with, is_ordered
from training.fleet.member import Activation, Kind, Member
from training.tasks.intrinsics import INTRINSICS
from training.tokenizer import Encoder

TASKS = ("safety", "hallucination", "certainty")
RANKS = (1, 2, 4, 8, 16, 32, 64)
LORA_RANK, ALORA_RANK = 8, 32  # the paper's
SEVERAL_TOKENS = {"safety": "safety_sentence", "certainty": "certainty_percent"}


@dataclass(frozen=True)
class Configuration:
    """One sort of adapter.

    Attributes:
        kind: LoRA or aLoRA.
        rank: Of A and B; alpha is the same.
        activation: Where an aLoRA starts.
        several: Whether it writes several tokens in place of one.
    """

    kind: Kind
    rank: int
    activation: Activation = "start"
    several: bool = False

    @property
    def name(self) -> str:
        """Short and unlike all others'."""
        return f"{self.kind} r{self.rank} {self.activation}{' several' if self.several else ''}"


def configurations(task: str) -> list[Configuration]:
    """All that is trained for a task."""
    found = [Configuration(kind, rank) for kind in ("lora", "alora") for rank in RANKS]
    found += [Configuration("alora", ALORA_RANK, activation) for activation in ("end", "empty")]
    if task in SEVERAL_TOKENS:
        found += [Configuration("lora", LORA_RANK, several=True), Configuration("alora", ALORA_RANK, several=True)]
    return found


def members(task: str, rates: Sequence[float], seed: int, encode: Encoder) -> dict[Configuration, list[Member]]:
    """For every configuration a member for each learning rate; the validation rows choose one."""
    found = {}
    for configuration in configurations(task):
        intrinsic = INTRINSICS[SEVERAL_TOKENS[task] if configuration.several else task]
        invocation = () if configuration.activation == "empty" else tuple(encode.invocation(intrinsic.name))
        found[configuration] = [
            Member(
                f"{configuration.name} {rate:g}",
                invocation,
                encode.control.newline,
                complete_with(intrinsic, encode),
                configuration.kind,
                configuration.activation,
                configuration.rank,
                rate,
                seed,
                is_ordered(intrinsic.task.labels),
            )
            for rate in rates
        ]
    return found
