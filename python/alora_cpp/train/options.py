"""How an adapter is trained: what the command line's options say, checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alora_cpp.errors import ArgumentError

Kind = Literal["alora", "lora"]
Activation = Literal["start", "end", "empty"]

DEFAULT_TARGETS = ("q_proj", "k_proj", "v_proj")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How to train.

    Attributes:
        name: The intrinsic's name.
        kind: `alora`: the adapter governs a prompt from its invocation on; `lora`: all of it.
        invocation: What invokes it: text, with control tokens, or tokens; None: a turn of a role of its name.
        activation: `start`: it governs from the invocation's first token on; `end`: from its last one; `empty`: nothing
            invokes it, it governs from the last token of what begins a reply.
        targets: The modules to adapt, as PEFT spells them; `("all-linear",)` is every linear one.
        rank: Of the adapter's matrices.
        alpha: The scale of what they add is alpha / rank; twice the rank if not given.
        dropout: The share of an adapted module's inputs that is left out in training.
        epochs: How often every example is seen.
        learning_rate: The highest one; it rises over the first twentieth of the steps and falls to nothing.
        batch_size: Examples in a step.
        max_length: Tokens that an example may have; what the base was trained for if not given.
        validation_share: The share of the examples to measure on, where no file is given for that.
        checkpoint_steps: Steps from one checkpoint and measurement to the next; a tenth of all if not given.
        seed: Of the initial weights, the order and the dropout.
    """

    name: str
    kind: Kind = "alora"
    invocation: str | Sequence[int] | None = None
    activation: Activation = "start"
    targets: Sequence[str] = DEFAULT_TARGETS
    rank: int = 32
    alpha: float | None = None
    dropout: float = 0.05
    epochs: int = 4
    learning_rate: float = 1e-3
    batch_size: int = 16
    max_length: int | None = None
    validation_share: float = 0.1
    checkpoint_steps: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks what can be checked without a base.

        Raises:
            ArgumentError: An option is outside what it may be.
        """
        _expect(bool(self.name.strip()) and Path(self.name).name == self.name, "name", self.name, "a file's name")
        _expect(self.kind in ("alora", "lora"), "kind", self.kind, "'alora' or 'lora'")
        _expect(self.activation in ("start", "end", "empty"), "activation", self.activation, "start, end or empty")
        if self.kind == "lora" and self.activation == "end":
            raise ArgumentError("activation is 'end', but a LoRA governs the whole prompt; train an aLoRA for that")
        if self.activation == "empty" and self.invocation is not None:
            raise ArgumentError("activation is 'empty', but an invocation is given; leave one of them out")
        _expect(bool(self.targets) and all(self.targets), "targets", list(self.targets), "names of modules")
        for name, least in (("rank", 1), ("epochs", 1), ("batch_size", 1), ("seed", 0)):
            _expect(getattr(self, name) >= least, name, getattr(self, name), f"{least} or more")
        for name in ("max_length", "checkpoint_steps"):
            _expect(getattr(self, name) is None or getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        _expect(self.seed < 2**32, "seed", self.seed, "less than 4294967296")
        for name, value in (("learning_rate", self.learning_rate), ("alpha", self.scaled_alpha)):
            _expect(0 < value < math.inf, name, value, "a number above 0")
        _expect(0 <= self.dropout < 1, "dropout", self.dropout, "at least 0 and less than 1")
        _expect(0 < self.validation_share < 1, "validation_share", self.validation_share, "between 0 and 1")

    @property
    def scaled_alpha(self) -> float:
        """The alpha to train with."""
        return 2.0 * self.rank if self.alpha is None else self.alpha


def _expect(holds: bool, name: str, found: object, expected: str) -> None:
    if not holds:
        raise ArgumentError(f"{name} is {found!r}, expected {expected}")
