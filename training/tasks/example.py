"""A labelled conversation, and where such conversations come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from training.chat_format import Conversation


@dataclass(frozen=True)
class Example:
    """A conversation and what the intrinsic should say of it.

    Attributes:
        conversation: What the intrinsic judges.
        label: What it should say: one of the task's labels, or a text where the task writes one.
        origin: The sort of example, such as `generated` or `real: advbench`; figures are told apart by it.
        right: For certainty, whether the judged reply is in fact right.
    """

    conversation: Conversation
    label: str
    origin: str
    right: bool | None = None


@dataclass(frozen=True)
class Sources:
    """What examples are made from, besides the invented world.

    Attributes:
        data: The folder of real data; without it, everything is generated.
        measured: The folder with the base model's measured answers, which `certainty` is made from.
    """

    data: Path | None = None
    measured: Path | None = None
