"""A short way to bring a JSON text to its end within a grammar.

Two searches in one another, over bytes. The inner one goes from where the text stands to the next landmarks: a bracket,
a string's end, a comma, the whole text's end; nearest first. The outer one goes from landmark to landmark, always to
the nearest, and turns back where no more brackets may be open; how many may be open grows from round to round, so that
a schema which could go on forever ends where it can.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, reduce
from itertools import count

import llguidance
import numpy as np

MAX_BYTES = 4096

BYTES = llguidance.LLTokenizer("byte")
"""A vocabulary of the single bytes: token b is the byte b."""

# How many steps a round may take, and how many more brackets than now may be open in it: one that is too narrow to hold
# an ending can be too wide to be searched whole.
_ROUNDS = (*((500, further) for further in (0, 1, 2, 4, 8, 16, 64)), *((10_000, further) for further in (1, 4, 64)))
# How much farther than the nearest landmark others are looked for, in bytes.
_FARTHER = 32
# By how many bytes a choice is put off: an opening bracket, a comma, each further byte of a kind where many may follow.
_OPENING, _COMMA, _FURTHER = 16, 1, 4
_MANY = 16
_STRIDE = 16


class GrammarError(Exception):
    """The grammar engine gave up; the message is its reason."""


def reason(matcher: llguidance.LLMatcher) -> str:
    """Why the engine gave up, without its traces."""
    return str(matcher.get_error()).split("\n<", maxsplit=1)[0].strip()


def shortest_ending(start: llguidance.LLMatcher, text: bytes, words: Sequence[bytes] = ()) -> bytes | None:
    """What may follow a text for it to be whole; not always the shortest there is.

    Args:
        start: A matcher over `BYTES`, as compiled.
        text: What was written so far; the grammar allows it.
        words: What strings may have to hold somewhere: no single byte shows the way to it.

    Returns:
        At most `MAX_BYTES` bytes; None where no ending within that is found in a bounded number of steps.

    Raises:
        GrammarError: The grammar became too complex for the engine.
    """
    matcher = start.deep_copy()
    if matcher.try_consume_tokens([*text]) != len(text):
        return None
    search = _Search(matcher, words)
    begin = search.reach(b"", b"", reduce(_Place.after, text, _Place()))
    ending = begin.added if begin is not None and begin.whole else None
    for steps, further in _ROUNDS:
        if begin is None or ending is not None or matcher.is_error():
            break
        ending = search.run(begin, steps, len(begin.place.open) + further)
    # Nothing can follow where each part needs another: that is no fault of the engine.
    if matcher.is_error() and "NoExtension" not in reason(matcher):
        raise GrammarError(reason(matcher))
    return ending


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
    """What was added to the text, where that leads, and the bytes that may follow, a bit each."""

    added: bytes
    place: _Place
    mask: bytes
    whole: bool


@dataclass(order=True)
class _Choice:
    """A spot with the moves from it that were not made yet, the best last."""

    rank: int
    number: int
    spot: _Spot = field(compare=False)
    delay: int = field(compare=False)
    words: tuple[bytes, ...] = field(compare=False)
    moves: list[tuple[bytes, int]] = field(compare=False)


class _Search:
    def __init__(self, matcher: llguidance.LLMatcher, words: Sequence[bytes]) -> None:
        self._matcher = matcher
        self._added = b""
        self._words = tuple(words)
        # Moves that led nowhere new, by the mask of where they were made: not tried again there.
        self._idle: defaultdict[bytes, set[bytes]] = defaultdict(set)
        self._steps = 0
        self._numbers = count()

    def run(self, begin: _Spot, steps: int, most_open: int) -> bytes | None:
        """The outer search, depth first."""
        self._steps = steps
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
        met: set[tuple[bytes, bytes]] = set()
        seen: set[tuple[int, bytes, tuple[bytes, ...]]] = set()
        waiting: list[_Choice] = []
        self._wait(waiting, begin, 0, self._words, self._ahead(begin, self._words, straight=False))
        farthest = MAX_BYTES * _FARTHER
        while waiting and waiting[0].rank <= farthest and self._steps > 0:
            self._steps -= 1
            choice = heapq.heappop(waiting)
            move, later = choice.moves.pop()
            words = tuple(word for word in choice.words if word != move)
            spot = self.reach(choice.spot.added, move, choice.spot.place)
            self._wait(waiting, choice.spot, choice.delay, choice.words, choice.moves)
            if spot is None:
                continue
            if spot.whole or spot.place.passed != begin.place.passed:
                if (spot.place.open, spot.mask) not in met:
                    met.add((spot.place.open, spot.mask))
                    farthest = min(farthest, choice.rank + _FARTHER)
                    yield spot
            elif (len(spot.added), spot.mask, words) not in seen:
                seen.add((len(spot.added), spot.mask, words))
                # Where nothing changes, as in a free string, only every so often is it worth to look around.
                straight = spot.mask == choice.spot.mask and spot.place.in_string and len(spot.added) % _STRIDE > 0
                self._wait(waiting, spot, choice.delay + later, words, self._ahead(spot, words, straight))
            elif later > 0:
                self._idle[choice.spot.mask].add(move)

    def _ahead(self, spot: _Spot, words: tuple[bytes, ...], straight: bool) -> list[tuple[bytes, int]]:
        idle = self._idle[spot.mask]
        moves = [move for move in _moves(spot.mask, spot.place.in_string, words) if move[0] not in idle]
        return [move for move in moves if not straight or move[1] == moves[-1][1] or move[0] in words]

    def _wait(
        self,
        waiting: list[_Choice],
        spot: _Spot,
        delay: int,
        words: tuple[bytes, ...],
        moves: list[tuple[bytes, int]],
    ) -> None:
        if moves:
            rank = len(spot.added) + delay + moves[-1][1]
            heapq.heappush(waiting, _Choice(rank, next(self._numbers), spot, delay, words, moves))

    def reach(self, added: bytes, move: bytes, place: _Place) -> _Spot | None:
        """A move further, and along what is settled from there; None where that leads nowhere."""
        if not self._go(added) or not self._go(added + move):
            return None
        place = reduce(_Place.after, move, place)
        while not self._matcher.is_accepting():
            settled = self._matcher.compute_ff_bytes()
            if not settled:
                if self._matcher.is_stopped() or len(self._added) >= MAX_BYTES:
                    return None
                return _Spot(self._added, place, bytes(self._matcher.compute_bitmask()[: 256 // 8]), whole=False)
            if not self._go(self._added + settled):
                return None
            place = reduce(_Place.after, settled, place)
        return _Spot(self._added, place, b"", whole=True) if len(self._added) <= MAX_BYTES else None

    def _go(self, added: bytes) -> bool:
        """Brings the matcher to where these bytes were added to the text."""
        low, high = 0, min(len(added), len(self._added))
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if added[:middle] == self._added[:middle] else (low, middle - 1)
        if low < len(self._added):
            self._matcher.rollback(len(self._added) - low)
        consumed = self._matcher.try_consume_tokens([*added[low:]])
        self._added = added[: low + consumed]
        return len(self._added) == len(added)


@lru_cache(maxsize=256)
def _moves(mask: bytes, in_string: bool, words: tuple[bytes, ...]) -> tuple[tuple[bytes, int], ...]:
    """The bytes of a mask, the best last, and by how much each is put off; words too where a string is free."""
    allowed = np.flatnonzero(np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little"))
    many = len(allowed) > _MANY
    met: Counter[int] = Counter()
    moves = [(word, len(word)) for word in words if many and in_string]
    for kind, byte in sorted((_kind(byte), byte) for byte in map(int, allowed)):
        later = _FURTHER * (kind + met[kind]) if many else 0
        if not in_string:
            later += _OPENING * (byte in b"{[") + _COMMA * (byte == ord(","))
        met[kind] += 1
        moves.append((bytes([byte]), later))
    return tuple(sorted(moves, key=lambda move: move[1])[::-1])


def _kind(byte: int) -> int:
    """Of a byte; 0: a string's begin or end, a letter or a digit; 1: a sign; 2: part of a character."""
    character = chr(byte)
    if byte >= 0x80 or character == "\\":
        return 2
    return 0 if character.isalnum() or character == '"' else 1
