"""Plain generation on one or several branches at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

from alora_cpp import _core

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class GenerationStep:
    """One sampled token.

    Attributes:
        index: Which of the branches.
        token: The token. It was appended to its branch, unless it ended the generation.
        text: Text that is certain now: whole characters; may be empty, or more than this token's.
        finish: Why the branch is done: `stop` (end of generation, stop token or string) or `length`; None if it is not.
    """

    index: int
    token: int
    text: str
    finish: FinishReason | None


def steps(core: _core.Generation) -> Iterator[GenerationStep]:
    """Runs a generation to its end; each round of steps is one fused pass."""
    while made := core.next():
        for step in made:
            yield GenerationStep(step.index, step.token, step.text, cast("FinishReason | None", step.finish))
