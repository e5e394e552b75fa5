"""Forks at any position, also of models that cannot go back."""

from __future__ import annotations

from collections.abc import Sequence

from alora_cpp.branch import Branch
from alora_cpp.chat.conversation import common_prefix
from alora_cpp.context import Context
from alora_cpp.errors import PositionError


def fork_at(context: Context, branch: Branch, at: int, *, others: Sequence[Branch] = ()) -> Branch:
    """A branch that holds the first rows of another, and is governed as those are.

    Recurrent layers keep the state of a branch's last row alone. Where it takes an earlier one, the rows are read
    again, from the end of the one of `others` that holds most of them.

    Args:
        context: The branch's context.
        branch: The branch.
        at: How many of its rows.
        others: Branches of the base model alone.

    Raises:
        ContextFullError: The rows do not fit, or too many branches are open.
    """
    try:
        return branch.fork(at)
    except PositionError:
        tokens = branch.tokens[:at]
    plain = tokens[: branch.activation_position]
    beginnings = [one for one in others if common_prefix(one.tokens, plain) == one.length]
    longest = max(beginnings, key=lambda one: one.length, default=None)
    again = context.branch() if longest is None else longest.fork()
    try:
        again.append(plain[again.length :])
        # As with a fork: rows before the activation are the base model's alone.
        if branch.adapter is not None and len(plain) < at:
            again.activate(branch.adapter)
        again.append(tokens[again.length :])
    except BaseException:
        again.close()
        raise
    return again
