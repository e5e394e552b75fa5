"""Where a growing reply is judged: at the ends of its sentences, or every so many tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from alora_cpp.chat.draft import Draft
from alora_cpp.errors import ArgumentError
from alora_cpp.io import sentence_spans

Every = Literal["sentence"] | int

# Ends that Punkt does not know: a line's, and marks that no space has to follow (Chinese and Japanese, Arabic and Urdu,
# Devanagari, Ethiopic), with what closes behind them.
_MARKS = "\u3002\uff01\uff1f\uff61\u061f\u06d4\u0964\u0965\u1362"
_CLOSING = "\"')\\]\u201d\u2019\u300d\u300f\u300b\u3009\uff09\u3011"
_END = re.compile(rf"\s*\n|[{_MARKS}]+[{_CLOSING}]*(?=[^{_MARKS}{_CLOSING}])")
# Untrained, Punkt knows no abbreviations.
_ABBREVIATION = re.compile(r"\b(?:Dr|Mr|Mrs|Ms|Prof|St|Fig|cf|vs|e\.g|i\.e|z\.B|d\.h|bzw|p\.ex)\.$", re.IGNORECASE)


@dataclass(frozen=True)
class Point:
    """A point of a reply to be judged.

    Attributes:
        tokens: Tokens of the reply up to there; none where its text was cut within a token.
        text: Their text.
        begin: Where what is new begins in it, in characters.
        end: Where what is new ends, without white space.
    """

    tokens: list[int]
    text: str
    begin: int
    end: int


class Points:
    """Finds the points of a growing reply at which its guards are asked."""

    def __init__(self, every: Every) -> None:
        """Begins with an empty reply.

        Args:
            every: `sentence`, or a number of tokens.

        Raises:
            ArgumentError: It is neither.
        """
        is_number = isinstance(every, int) and not isinstance(every, bool)
        if every != "sentence" and not (is_number and int(every) >= 1):
            raise ArgumentError(f"every is {every!r}, expected 'sentence' or a number of tokens, at least 1")
        self._every = every
        self._n_tokens = 0
        self._judged = 0

    def take(self, draft: Draft) -> Iterator[Point]:
        """The points that a reply has reached since the last time."""
        if not draft.agrees:
            return
        n_before, self._n_tokens = self._n_tokens, len(draft.tokens)
        if isinstance(self._every, int):
            if self._n_tokens // self._every > n_before // self._every:
                yield from self._point(draft, len(draft.text.rstrip()))
        else:
            begin = self._judged
            for end in sentence_ends(draft.text[begin:]):
                yield from self._point(draft, begin + end)

    def finish(self, draft: Draft) -> Iterator[Point]:
        """The last point, where something is left to be judged."""
        yield from self._point(draft, len(draft.text.rstrip()))

    def _point(self, draft: Draft, end: int) -> Iterator[Point]:
        begin = end - len(draft.text[self._judged : end].lstrip())
        if begin < end:
            self._judged = end
            yield Point(*draft.until(end), begin, end)


def sentence_ends(text: str) -> list[int]:
    """Where sentences end that are certainly over: at a line's end, or where another sentence has begun.

    What holds no letter, such as the number of a list's item, is no sentence; nor is what goes on with a small letter.

    Returns:
        Ends in characters, without white space.
    """
    ends: list[int] = []
    begin = 0
    for found in _END.finditer(text):
        ends += [*_ends_within(text, begin, found.end()), len(text[: found.end()].rstrip())]
        begin = found.end()
    ends += _ends_within(text, begin, len(text))
    return [end for last, end in pairwise([0, *ends]) if any(map(str.isalpha, text[last:end]))]


def _ends_within(text: str, begin: int, end: int) -> Iterator[int]:
    part = text[begin:end]
    for (_, stop), (start, _) in pairwise(sentence_spans(part)):
        # Punkt also parts what no space parts yet, such as `?!`.
        if stop < start and not part[start].islower() and not _ABBREVIATION.search(part[:stop]):
            yield begin + stop
