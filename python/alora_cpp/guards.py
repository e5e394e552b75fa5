"""Intrinsics that judge a reply while it is written: their rows join the batches that write it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from alora_cpp.errors import ArgumentError
from alora_cpp.intrinsic import Intrinsic
from alora_cpp.io import sentence_spans
from alora_cpp.verdict import Verdict

Rule = str | Sequence[str] | Callable[[Verdict], bool]
Every = Literal["sentence"] | int

# What a label says that raises a flag, where the guard has exactly one such label and no rule is given.
_RAISED = frozenset({"y", "yes", "true", "unsafe", "flagged"})


@dataclass(frozen=True)
class GuardCheck:
    """What the guards said at one point of a reply.

    Attributes:
        sentence: What was new since the point before: a sentence, or a number of tokens.
        begin: Where it begins in the reply, in characters.
        end: Where it ends.
        verdicts: By guard, about the reply up to there.
        flagged: The guards that raise a flag.
    """

    sentence: str
    begin: int
    end: int
    verdicts: Mapping[str, Verdict]
    flagged: tuple[str, ...] = ()


@dataclass(frozen=True)
class Guard:
    """An intrinsic and which of its verdicts raise a flag."""

    name: str
    intrinsic: Intrinsic
    is_flag: Callable[[Verdict], bool]


@dataclass(frozen=True)
class Point:
    """A point of a reply to be judged.

    Attributes:
        n_tokens: Tokens of the reply up to there.
        text: Their text.
        begin: Where what is new begins in it, in characters.
        end: Where what is new ends, without white space.
    """

    n_tokens: int
    text: str
    begin: int
    end: int


def parse_guards(guards: Sequence[str] | Mapping[str, Rule], find: Callable[[str], Intrinsic]) -> list[Guard]:
    """The guards of a reply.

    Args:
        guards: Names of intrinsics, perhaps each with its rule: a label, several labels, or a function of the verdict.
        find: Gives the intrinsic of a name.

    Raises:
        AdapterNotFoundError: One of the intrinsics is not loaded.
        ArgumentError: There is no rule, and the labels do not say which of them raises a flag; or no such label.
    """
    if isinstance(guards, str):
        raise ArgumentError(f"guards is {guards!r}, expected a list of names, or a mapping from names to rules")
    rules: Mapping[str, Rule | None] = guards if isinstance(guards, Mapping) else dict.fromkeys(guards)
    return [Guard(name, found := find(name), _rule(rule, name, found)) for name, rule in rules.items()]


def _rule(rule: Rule | None, name: str, intrinsic: Intrinsic) -> Callable[[Verdict], bool]:
    labels = ", ".join(intrinsic.labels) or "none"
    if callable(rule):
        return rule
    if rule is None:
        raised = [label for label in intrinsic.labels if label.casefold() in _RAISED]
        if len(raised) != 1:
            raise ArgumentError(
                f"nothing says which verdicts of guard '{name}' raise a flag (its labels: {labels}); give a rule, such "
                f"as guards={{'{name}': lambda verdict: verdict.value > 0.5}}"
            )
    else:
        raised = [rule] if isinstance(rule, str) else list(rule)
        if unknown := [label for label in raised if intrinsic.labels and label not in intrinsic.labels]:
            raise ArgumentError(f"guard '{name}' has no label {', '.join(map(repr, unknown))}; it has: {labels}")
    return lambda verdict: verdict.label in raised


@dataclass
class Points:
    """Finds the points of a growing reply at which its guards are asked.

    Attributes:
        every: `sentence`, or a number of tokens.
    """

    every: Every
    _text: str = ""
    _ends: list[int] = field(default_factory=list)
    _judged: int = 0

    def __post_init__(self) -> None:
        is_number = isinstance(self.every, int) and not isinstance(self.every, bool)
        if self.every != "sentence" and not (is_number and int(self.every) >= 1):
            raise ArgumentError(f"every is {self.every!r}, expected 'sentence' or a number of tokens, at least 1")

    def take(self, n_tokens: int, text: str) -> Iterator[Point]:
        """The points that were reached.

        Args:
            n_tokens: How many tokens the reply has now.
            text: Its text, as far as it is certain.
        """
        self._text = text
        n_new = n_tokens - len(self._ends)
        self._ends += [len(text)] * n_new
        if isinstance(self.every, int):
            if n_tokens // self.every > (n_tokens - n_new) // self.every:
                yield from self._point(len(text.rstrip()))
        else:
            # Only what follows a sentence tells that it is over.
            for _, end in sentence_spans(text[self._judged :])[:-1]:
                yield from self._point(self._judged + end)

    def finish(self) -> Iterator[Point]:
        """The last point, where something is left to be judged."""
        yield from self._point(len(self._text.rstrip()))

    def _point(self, end: int) -> Iterator[Point]:
        begin = end - len(self._text[self._judged : end].lstrip())
        if begin < end:
            n_tokens = next(i for i, shown in enumerate(self._ends, 1) if shown >= end)
            self._judged = end
            yield Point(n_tokens, self._text[: self._ends[n_tokens - 1]], begin, end)
