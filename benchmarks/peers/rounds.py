"""Rounds: in each, every contender does the same work once, in an order that changes from round to round."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.peers.contender import CannotDoError
from benchmarks.peers.results import Results, Round, seconds
from benchmarks.peers.works import WORKS, Party, Steps, Text

_log = logging.getLogger("benchmarks.peers")
# Threads that were busy may look for more to do for a moment, as OpenMP's do: the next contender waits for them.
_SETTLING_SECONDS = 0.3


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes:
        works: Names of works.
        prompts: Tokens of the prompts.
        rounds: Rounds that count, for each work and prompt; another one before them warms up.
        vocab: Tokens of the vocabulary.
        patience: Seconds. Whoever took longer for a work after a prompt does it in one round that counts, not in all.
    """

    works: Sequence[str]
    prompts: Sequence[int]
    rounds: int
    vocab: int
    patience: float

    def left(self, results: Results) -> list[tuple[str, int, int]]:
        """Works, prompts and numbers of the rounds that are not finished."""
        finished = {one.key for one in results.rounds}
        wanted = [
            (work, prompt, number)
            for prompt in sorted(self.prompts)
            for work in self.works
            if prompt <= WORKS[work].largest
            for number in range(self.rounds + 1)
        ]
        return [key for key in wanted if key not in finished]


def play(
    plan: Plan,
    parties: Mapping[str, Party],
    results: Results,
    finished: Callable[[], None],
    *,
    settling_seconds: float = _SETTLING_SECONDS,
) -> None:
    """Plays the rounds that are left and adds them to the results.

    Args:
        plan: What is to be measured.
        parties: The contenders by name.
        results: Where finished rounds are, and go.
        finished: Called after each round.
        settling_seconds: Rest before each turn.
    """
    left = plan.left(results)
    for count, (work, prompt, number) in enumerate(left, start=1):
        takes_part = WORKS[work].contenders
        names = [
            name
            for name in parties
            if (not takes_part or name in takes_part) and not _too_slow(plan, results, work, prompt, name)
        ]
        steps: dict[str, Steps] = {}
        cannot: dict[str, str] = {}
        for name in np.random.default_rng((prompt, number)).permutation(names).tolist():
            time.sleep(settling_seconds)
            text = Text((prompt, number), plan.vocab)
            try:
                steps[name] = WORKS[work].run(parties[name], text, prompt)
            except CannotDoError as reason:
                cannot[name] = str(reason)
        results.rounds.append(Round(work, prompt, number, steps, cannot))
        finished()
        taken = ", ".join(f"{name} {seconds()(one):.2f} s" for name, one in sorted(steps.items()))
        _log.info("%d of %d: %s after %d tokens, round %d: %s", count, len(left), work, prompt, number, taken)


def _too_slow(plan: Plan, results: Results, work: str, prompt: int, name: str) -> bool:
    return any(value > plan.patience for value in results.values(work, prompt, name, seconds()))
