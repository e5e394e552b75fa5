"""A short way to bring a JSON text to its end within a grammar.

Two searches in one another, over bytes. The inner one goes from where the text stands to the next landmarks: a bracket,
a string's end, a comma, the whole text's end; nearest first. The outer one goes from landmark to landmark, always to
the nearest, and turns back where no more brackets may be open; how many may be open grows from round to round, so that
a schema which could go on forever ends where it can.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from itertools import count

import llguidance
import numpy as np

MAX_BYTES = 4096
MAX_STEPS = 20_000

BYTES = llguidance.LLTokenizer("byte")
"""A vocabulary of the single bytes: token b is the byte b."""

_ROUNDS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 32, 64)
# How much farther than the nearest landmark others are looked for, in bytes.
_FARTHER = 32
# By how many bytes a choice is put off: an opening bracket, a comma, each further byte of a kind where many may follow.
_OPENING, _COMMA, _FURTHER = 16, 1, 4
_MANY = 16


def shortest_ending(start: llguidance.LLMatcher, text: bytes) -> bytes | None:
    """What may follow a text for it to be whole; not always the shortest there is.

    Args:
        start: A matcher over `BYTES`, as compiled.
        text: What was written so far; the grammar allows it.

    Returns:
        At most `MAX_BYTES` bytes; None where no ending within that is found in `MAX_STEPS` steps.
    """
    matcher = start.deep_copy()
    if matcher.try_consume_tokens([*text]) != len(text):
        return None
    begin = _Spot(matcher, b"", reduce(_Place.after, text, _Place())).settle()
    search = _Search()
    for further in _ROUNDS:
        ending = search.run(begin, len(begin.place.open) + further) if begin is not None else None
        if ending is not None or search.steps >= MAX_STEPS:
            return ending
    return None


@dataclass(frozen=True)
class _Place:
    """Where in a JSON text one is: the brackets open, whether within a string, and the landmarks passed."""

    open: bytes = b""
    in_string: bool = False
    escaped: bool = False
    passed: int = 0

    def after(self, byte: int) -> _Place:
        if self.escaped:
            return replace(self, escaped=False)
        if byte == ord('"'):
            return replace(self, in_string=not self.in_string, passed=self.passed + self.in_string)
        if self.in_string:
            return replace(self, escaped=True) if byte == ord("\\") else self
        if byte in b"{[":
            return replace(self, open=self.open + bytes([byte]), passed=self.passed + 1)
        if byte in b"}]":
            return replace(self, open=self.open[:-1], passed=self.passed + 1)
        return replace(self, passed=self.passed + 1) if byte == ord(",") else self


@dataclass(frozen=True)
class _Spot:
    """A text that was reached: what was added to it so far, and what the grammar says of it."""

    matcher: llguidance.LLMatcher
    added: bytes
    place: _Place
    whole: bool = False

    def step(self, byte: int) -> _Spot | None:
        """One byte further, and along what is settled from there; None where that leads nowhere."""
        matcher = self.matcher.deep_copy()
        if matcher.try_consume_tokens([byte]) != 1:
            return None
        return _Spot(matcher, self.added + bytes([byte]), self.place.after(byte)).settle()

    def settle(self) -> _Spot | None:
        added, place = self.added, self.place
        while not self.matcher.is_accepting():
            settled = self.matcher.compute_ff_bytes()
            if not settled:
                stuck = self.matcher.is_stopped() or len(added) >= MAX_BYTES
                return None if stuck else replace(self, added=added, place=place)
            if self.matcher.try_consume_tokens([*settled]) != len(settled):
                return None
            added, place = added + settled, reduce(_Place.after, settled, place)
        return replace(self, added=added, place=place, whole=True) if len(added) <= MAX_BYTES else None

    def mask(self) -> bytes:
        """The bytes that may follow, a bit each."""
        return b"" if self.whole else bytes(self.matcher.compute_bitmask()[: 256 // 8])


class _Search:
    def __init__(self) -> None:
        self.steps = 0

    def run(self, begin: _Spot, most_open: int) -> bytes | None:
        """The outer search, depth first."""
        if begin.whole:
            return begin.added
        ways = [self._landmarks(begin)]
        while ways:
            spot = next(ways[-1], None)
            if spot is None:
                ways.pop()
            elif spot.whole:
                return spot.added
            elif len(spot.place.open) <= most_open:
                ways.append(self._landmarks(spot))
        return None

    def _landmarks(self, begin: _Spot) -> Iterator[_Spot]:
        """The inner search, nearest first; of landmarks after which the same may follow, the first."""
        numbers = count()
        met: set[tuple[bytes, bytes]] = set()
        seen: set[tuple[int, bytes]] = set()
        waiting: list[tuple[int, int, _Spot, int, list[tuple[int, int]]]] = []

        def wait(spot: _Spot, delay: int, options: list[tuple[int, int]]) -> None:
            if options:
                rank = len(spot.added) + delay + options[-1][1]
                heapq.heappush(waiting, (rank, next(numbers), spot, delay, options))

        wait(begin, 0, [*_options(begin.mask(), begin.place.in_string)])
        farthest = MAX_BYTES * _FARTHER
        while waiting and self.steps < MAX_STEPS:
            rank, _, spot, delay, options = heapq.heappop(waiting)
            if rank > farthest:
                return
            byte, later = options.pop()
            wait(spot, delay, options)
            self.steps += 1
            reached = spot.step(byte)
            if reached is None:
                continue
            mask = reached.mask()
            if reached.whole or reached.place.passed != begin.place.passed:
                key = (reached.place.open, mask)
                if key not in met:
                    met.add(key)
                    farthest = min(farthest, rank + _FARTHER)
                    yield reached
            elif (len(reached.added), mask) not in seen:
                seen.add((len(reached.added), mask))
                wait(reached, delay + later, [*_options(mask, reached.place.in_string)])


@lru_cache(maxsize=256)
def _options(mask: bytes, in_string: bool) -> tuple[tuple[int, int], ...]:
    """The bytes of a mask, the best last, and by how much each is put off."""
    allowed = np.flatnonzero(np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little"))
    met: Counter[int] = Counter()
    options = []
    for kind, byte in sorted((_kind(byte), byte) for byte in map(int, allowed)):
        later = _FURTHER * (kind + met[kind]) if len(allowed) > _MANY else 0
        if not in_string:
            later += _OPENING * (byte in b"{[") + _COMMA * (byte == ord(","))
        met[kind] += 1
        options.append((byte, later))
    return tuple(sorted(options, key=lambda option: option[1])[::-1])


def _kind(byte: int) -> int:
    """0: a character that stands for itself, or ends a string; 1: what fills a string; 2: part of a character."""
    character = chr(byte)
    if byte >= 0x80 or character == "\\":
        return 2
    return 0 if character.isalnum() or character in '"-{}[],' else 1
