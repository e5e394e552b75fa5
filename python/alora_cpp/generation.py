"""Plain generation on one or several branches at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

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


class Generation:
    """Generation on several branches, made by `Context.generation`."""

    def __init__(self, core: _core.Generation) -> None:
        self._core = core

    def next(self) -> list[GenerationStep]:
        """Computes what is queued and samples a token for each branch that goes on; empty when all have finished.

        Raises:
            ContextFullError: No free cells are left; where some are freed, it can go on.
            Cancelled, BackendError, ClosedError: As for `Context.decode`.
        """
        return [
            GenerationStep(step.index, step.token, step.text, cast("FinishReason | None", step.finish))
            for step in self._core.next()
        ]

    def restrict_next(self, allowed: NDArray[np.uint32], *, index: int = 0) -> None:
        """Restricts the next token of a branch.

        Args:
            allowed: uint32 of shape [ceil(n_vocab / 32)]: bit i % 32 of word i // 32 stands for token i.
            index: Which of the branches.

        Raises:
            ArgumentError: The mask is of another size, or allows nothing; there is no such branch.
        """
        self._core.restrict_next(index, allowed)

    def steps(self) -> Iterator[GenerationStep]:
        """Goes on to the end; each round of steps is one fused pass."""
        while made := self.next():
            yield from made
