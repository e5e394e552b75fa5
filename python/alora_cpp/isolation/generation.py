"""Scores and generated text in a worker, of the same shape as in `alora_cpp._core`; documented where they are used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from alora_cpp.isolation.branch import Branch
from alora_cpp.isolation.context import Context
from alora_cpp.isolation.place import Resident
from alora_cpp.isolation.records import GenerationStep, LabelScores
from alora_cpp.isolation.wire import Held, tokens


class Scoring(Resident):
    """Scores in the making."""

    def __init__(self, context: Context, queries: Sequence[tuple[Branch, Sequence[Sequence[int]]]]) -> None:
        place = context.place_of([branch for branch, _ in queries])
        sent = [[Held(branch.number), [tokens(label) for label in labels]] for branch, labels in queries]
        super().__init__(place, place.make("Scoring", Held(place.number), sent, options={}))

    def read(self) -> list[LabelScores]:
        """As in the core."""
        return [LabelScores(*one) for one in self._run("read")]


class Generation(Resident):
    """Generation on several branches."""

    def __init__(
        self,
        context: Context,
        branches: Sequence[Branch],
        *,
        max_tokens: int,
        temperature: float,
        top_k: int,
        top_p: float,
        min_p: float,
        seed: int,
        stop: Sequence[str],
        stop_tokens: Sequence[int],
    ) -> None:
        place = context.place_of(branches)
        options = {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "min_p": min_p,
            "seed": seed,
            "stop": list(stop),
            "stop_tokens": tokens(stop_tokens),
        }
        held = [Held(branch.number) for branch in branches]
        super().__init__(place, place.make("Generation", Held(place.number), held, options=options))

    def next(self) -> list[GenerationStep]:
        """As in the core."""
        return [GenerationStep(*step) for step in self._run("next")]

    def restrict_next(self, index: int, allowed: npt.ArrayLike) -> None:
        """As in the core."""
        self._run("restrict_next", index, np.ascontiguousarray(allowed, dtype=np.uint32))
