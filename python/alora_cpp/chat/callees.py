"""Intrinsics that a model may call itself, by writing their invocation."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

from alora_cpp.errors import ArgumentError
from alora_cpp.intrinsic import Intrinsic

if TYPE_CHECKING:
    from alora_cpp.model import Model


@dataclass(frozen=True)
class Callees:
    """Which intrinsics may be called.

    Attributes:
        intrinsics: Those that may be called.
        depth: How many calls deep; 0: none.
    """

    intrinsics: Sequence[Intrinsic] = ()
    depth: int = 0

    def called_by(self, tokens: Sequence[int]) -> Intrinsic | None:
        """The intrinsic whose invocation ends a sequence of generated tokens; the longest one."""
        if self.depth <= 0:
            return None
        called = [one for one in self.intrinsics if _ends_with(tokens, one.invocation)]
        return max(called, key=lambda one: len(one.invocation), default=None)

    @property
    def deeper(self) -> Callees:
        """For calls made by a call."""
        return Callees(self.intrinsics, self.depth - 1)


def parse_callees(model: Model, names: Sequence[str], depth: int) -> Callees:
    """The intrinsics that a model may call.

    Args:
        model: The model, which has them loaded.
        names: Their names.
        depth: How many calls deep.

    Raises:
        AdapterNotFoundError: One of them is not loaded.
        ArgumentError: Names or depth are none, or one of them could never be called: it has no invocation, or one that
            a reply ends with, or another one's invocation is complete first.
    """
    if not is_texts(names):
        raise ArgumentError(f"may_call is {names!r}, expected a list of names")
    if not isinstance(depth, int) or isinstance(depth, bool) or depth < 0:
        raise ArgumentError(f"call_depth is {depth!r}, expected a number of calls, at least 0")
    intrinsics = list({id(one): one for one in map(model.intrinsic, names)}.values())
    for one in intrinsics:
        _check_invocation(model, one)
    for one, other in permutations(intrinsics, 2):
        if _is_complete_first(one.invocation, other.invocation):
            raise ArgumentError(
                f"the model could never call '{other.name}': the invocation of '{one.name}', {list(one.invocation)}, "
                f"is complete no later than its own, {list(other.invocation)}; allow one of them only"
            )
    return Callees(intrinsics, depth)


def is_texts(value: object) -> bool:
    """Whether it is several texts, and not one."""
    return not isinstance(value, str) and isinstance(value, Collection) and all(isinstance(one, str) for one in value)


def _check_invocation(model: Model, intrinsic: Intrinsic) -> None:
    if not intrinsic.invocation:
        raise ArgumentError(f"the model could never call '{intrinsic.name}': it was loaded with an empty invocation")
    ends = [token for token in intrinsic.invocation if model.is_end_of_generation(token)]
    if ends:
        raise ArgumentError(
            f"the model could never call '{intrinsic.name}': its invocation {list(intrinsic.invocation)} holds "
            f"{model.detokenize(ends[:1], special=True)!r}, which ends a reply"
        )


def _is_complete_first(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether who writes one invocation has then written another one, or the same; as its end it does not count."""
    ends = range(len(one), len(other))
    return tuple(one) == tuple(other) or any(_ends_with(other[:end], one) for end in ends)


def _ends_with(tokens: Sequence[int], end: Sequence[int]) -> bool:
    return len(tokens) >= len(end) and list(tokens[len(tokens) - len(end) :]) == list(end)
