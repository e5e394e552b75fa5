"""Intrinsics that judge a reply while it is written, and which of their verdicts raise a flag."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from alora_cpp.chat.callees import is_texts
from alora_cpp.errors import ArgumentError
from alora_cpp.intrinsic import Intrinsic
from alora_cpp.verdict import Verdict

Rule = str | Sequence[str] | Callable[[Verdict], bool]

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


def parse_guards(guards: Sequence[str] | Mapping[str, Rule], find: Callable[[str], Intrinsic]) -> list[Guard]:
    """The guards of a reply.

    Args:
        guards: Names of intrinsics, perhaps each with its rule: a label, several labels, or a function of the verdict.
        find: Gives the intrinsic of a name.

    Raises:
        AdapterNotFoundError: One of the intrinsics is not loaded.
        ArgumentError: There is no rule, and the labels do not say which of them raises a flag; or no such label.
    """
    if not is_texts(guards):
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
        raised = [rule] if isinstance(rule, str) else list(rule) if is_texts(rule) else []
        if not raised:
            raise ArgumentError(
                f"the rule of guard '{name}' is {rule!r}, expected a label, several labels or a function of the verdict"
            )
        if unknown := [label for label in raised if intrinsic.labels and label not in intrinsic.labels]:
            raise ArgumentError(f"guard '{name}' has no label {', '.join(map(repr, unknown))}; it has: {labels}")
    return lambda verdict: verdict.label in raised
