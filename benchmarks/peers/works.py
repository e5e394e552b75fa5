"""The works: what every contender is asked to do, and what of it is compared.

Pipelines are those of arXiv 2512.17910 with a shorter text from the base: 64 tokens, and 16 from each adapter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from benchmarks.peers.contender import Batching, Contender, Guarding, Step

BASE_TOKENS = 64
ADAPTER_TOKENS = 16
# Of the conversation.
TURNS = 4
TURN_TOKENS = 40
# What the user says before the base goes on after checks, and what is written then.
RETURN_TOKENS = 16
GUARD_EVERY = 16
ROWS = 8

Steps = dict[str, Step]


class Party(Contender, Guarding, Batching, Protocol):
    """A contender as the driver sees it: all of them can be told everything."""


class Text:
    """Token ids at random, the same ones for every contender of a round."""

    def __init__(self, seed: tuple[int, ...], vocab: int) -> None:
        # Below are the invocation and made-up control tokens, above are real ones.
        self._lowest, self._highest = 400, min(vocab - 100, 30_000)
        self._random = np.random.default_rng(seed)

    def tokens(self, count: int) -> list[int]:
        """The next ones."""
        ids: list[int] = self._random.integers(self._lowest, self._highest, count).tolist()
        return ids


@dataclass(frozen=True)
class Work:
    """Something to do.

    Attributes:
        about: One line about it.
        run: Does it after a prompt of so many tokens, and gives the steps by name.
        adapters: How many adapters it needs.
        growth: Tokens that the conversation has at most beyond its prompt.
        largest: The longest prompt it is done with.
        contenders: Who takes part; everyone if empty.
    """

    about: str
    run: Callable[[Party, Text, int], Steps]
    adapters: int
    growth: int
    largest: int = 1 << 20
    contenders: tuple[str, ...] = ()


def base_adapter(party: Party, text: Text, prompt: int) -> Steps:
    """Pipeline (a)."""
    return {
        "prompt": party.begin(text.tokens(prompt)),
        "base": party.write(BASE_TOKENS),
        "adapters": party.ask([0], ADAPTER_TOKENS),
    }


def adapter_base(party: Party, text: Text, prompt: int) -> Steps:
    """Pipeline (b)."""
    return {
        "prompt": party.begin(text.tokens(prompt)),
        "adapters": party.ask([0], ADAPTER_TOKENS),
        "base": party.write(BASE_TOKENS),
    }


def base_adapters_base(party: Party, text: Text, prompt: int) -> Steps:
    """Pipeline (c)."""
    return {
        "prompt": party.begin(text.tokens(prompt)),
        "base": party.write(BASE_TOKENS),
        "adapters": party.ask(range(5), ADAPTER_TOKENS),
        "base again": party.write(BASE_TOKENS),
    }


def verdict(party: Party, text: Text, prompt: int) -> Steps:
    """One adapter, one token."""
    return {"prompt": party.begin(text.tokens(prompt)), "verdict": party.ask([0], 1)}


def eight(party: Party, text: Text, prompt: int) -> Steps:
    """Eight adapters, one token each."""
    return {"prompt": party.begin(text.tokens(prompt)), "verdicts": party.ask(range(8), 1)}


def back_to_base(party: Party, text: Text, prompt: int) -> Steps:
    """Three checks, and the base goes on with a new turn."""
    return {
        "prompt": party.begin(text.tokens(prompt)),
        "verdicts": party.ask(range(3), 1),
        "turn": party.extend(text.tokens(RETURN_TOKENS)),
        "base": party.write(RETURN_TOKENS),
    }


def conversation(party: Party, text: Text, prompt: int) -> Steps:
    """Turns of the user and of the base, and three checks after each of the base's."""
    steps = {"prompt": party.begin(text.tokens(prompt))}
    for turn in range(1, TURNS + 1):
        steps[f"turn {turn}"] = party.extend(text.tokens(TURN_TOKENS))
        steps[f"base {turn}"] = party.write(BASE_TOKENS)
        steps[f"verdicts {turn}"] = party.ask(range(3), 1)
    return steps


def rows(party: Party, text: Text, prompt: int) -> Steps:
    """A pass of few rows behind a long text."""
    return {"prompt": party.begin(text.tokens(prompt)), "rows": party.compute(ROWS, [])}


def adapted_rows(party: Party, text: Text, prompt: int) -> Steps:
    """The same rows twice, the second time each under an adapter of its own."""
    return {
        "prompt": party.begin(text.tokens(prompt)),
        "rows": party.compute(ROWS, []),
        "adapted": party.compute(ROWS, range(ROWS)),
    }


def guarded(party: Party, text: Text, prompt: int) -> Steps:
    """A reply without guards, and one with three of them."""
    tokens = text.tokens(prompt)
    return {
        "prompt": party.begin(tokens),
        "unguarded": party.write(BASE_TOKENS),
        "prompt again": party.begin(tokens),
        "guarded": party.guard(range(3), BASE_TOKENS, GUARD_EVERY),
    }


WORKS = {
    "base-adapter": Work("(a) base, adapter", base_adapter, 1, BASE_TOKENS),
    "adapter-base": Work("(b) adapter, base", adapter_base, 1, BASE_TOKENS),
    "base-adapters-base": Work("(c) base, five adapters, base", base_adapters_base, 5, 2 * BASE_TOKENS),
    "verdict": Work("a one-token verdict after a prompt", verdict, 1, 0),
    "eight": Work(
        "eight one-token verdicts at once", eight, 8, 0, contenders=("ours", "ours-one-by-one", "llama-server")
    ),
    "rows": Work("a pass of eight rows", rows, 0, ROWS, contenders=("ours", "llama-cpp-python")),
    "adapted-rows": Work("eight rows, then each under an adapter", adapted_rows, 8, ROWS, contenders=("ours",)),
    "return": Work("three verdicts, then a new turn of the base", back_to_base, 3, 2 * RETURN_TOKENS),
    "conversation": Work(
        "four turns, three verdicts after each", conversation, 3, TURNS * (TURN_TOKENS + BASE_TOKENS), largest=1024
    ),
    "guarded": Work("a reply under three guards", guarded, 3, BASE_TOKENS, largest=1024),
}
PIPELINES = ("base-adapter", "adapter-base", "base-adapters-base")


def room(prompt: int, works: list[str]) -> int:
    """Tokens that a context needs for these works after such a prompt, answers of all adapters included."""
    return prompt + max(WORKS[name].growth + WORKS[name].adapters * (ADAPTER_TOKENS + 4) for name in works)
