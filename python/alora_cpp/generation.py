"""Plain generation on one or several branches at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from alora_cpp import _core
from alora_cpp.errors import ArgumentError

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class GenerationStep:
    """One sampled token.

    Attributes:
        index: Which of the branches.
        token: The token. It was appended to its branch, unless it is an end of generation or a stop token.
        text: Text that is certain now: whole characters; may be empty, or more than this token's.
        finish: Why the branch is done: `stop` (end of generation, stop token or string) or `length`; None if it is not.
    """

    index: int
    token: int
    text: str
    finish: FinishReason | None


def stop_strings(stop: Sequence[str]) -> list[str]:
    """Checks stop strings before the core sees them.

    Raises:
        ArgumentError: It is one string, whose characters would each end the text, or one of them is no valid Unicode.
    """
    if isinstance(stop, str):
        raise ArgumentError(f"stop is {stop!r}, expected a list of strings")
    for text in stop:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ArgumentError(
                f"a stop string is no valid Unicode at character {error.start}: {error.reason}"
            ) from None
    return list(stop)


def steps(core: _core.Generation) -> Iterator[GenerationStep]:
    """Runs a generation to its end; each round of steps is one fused pass."""
    while made := core.next():
        for step in made:
            yield GenerationStep(step.index, step.token, step.text, cast("FinishReason | None", step.finish))
