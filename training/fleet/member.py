"""One adapter of a fleet: what it is, where it starts, and what it writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["lora", "alora"]
Activation = Literal["start", "end", "empty"]


@dataclass(frozen=True)
class Member:
    """An adapter to train. Its alpha is its rank, so that A and B act unscaled at every rank.

    Attributes:
        name: Tells it apart from the others.
        invocation: The ids that follow the conversation; none where the activation is `empty`.
        newline: The id that every conversation ends with; an `empty` invocation is recognised by it.
        complete: The ids to write for a label, with the token that ends them.
        kind: `lora` governs every token, `alora` those from its activation on.
        activation: The first token an aLoRA governs: the invocation's first (`start`) or last one (`end`), or, where
            nothing is appended (`empty`), the conversation's last token, after which the answer is expected.
        rank: Of A and B.
        rate: The highest learning rate.
        seed: Of the first weights.
        ordered: Whether labels are steps of a scale, so that a neighbour of the right one is nearly right. Then the
            first tokens of the completions must differ.
    """

    name: str
    invocation: tuple[int, ...]
    newline: int
    complete: Callable[[str], Sequence[int]]
    kind: Kind = "alora"
    activation: Activation = "start"
    rank: int = 32
    rate: float = 1e-3
    seed: int = 1
    ordered: bool = False

    def __post_init__(self) -> None:
        if (self.activation == "empty") != (not self.invocation):
            raise ValueError(
                f"{self.name}: activation {self.activation!r} with an invocation of {len(self.invocation)} tokens; "
                "`empty` takes none, the others at least one"
            )

    @property
    def appended(self) -> int:
        """How many tokens stand between the conversation and the answer."""
        return len(self.invocation)

    @property
    def first_governed(self) -> int:
        """The first token that an aLoRA governs, counted from the conversation's last one, which is 0."""
        return {"start": 1, "end": self.appended, "empty": 0}[self.activation]

    @property
    def recognised_by(self) -> list[int] | None:
        """`alora_invocation_tokens` for PEFT, which governs from the last occurrence's first token; none for LoRA."""
        if self.kind == "lora":
            return None
        return {"start": list(self.invocation), "end": list(self.invocation[-1:]), "empty": [self.newline]}[
            self.activation
        ]
