"""The branch of a chat: kept at what was said, without reading anything twice."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from alora_cpp.branch import Branch
from alora_cpp.chat.conversation import common_prefix
from alora_cpp.chat.forking import fork_at
from alora_cpp.chat.transcript import Transcript
from alora_cpp.context import Context
from alora_cpp.errors import BackendError, PositionError


class Trunk:
    """A branch that follows a transcript."""

    def __init__(self, context: Context, transcript: Transcript, *, shifts: bool) -> None:
        """Begins with an empty branch.

        Args:
            context: Where.
            transcript: What to follow.
            shifts: Whether the oldest turns are forgotten where the context is full.
        """
        self._context = context
        self._transcript = transcript
        self._shifts = shifts
        self._branch = context.branch()

    def hold(self, *, add_generation_prompt: bool = False) -> Branch:
        """The branch, holding the conversation: the longest prefix that it had is kept, the rest is queued.

        Args:
            add_generation_prompt: Whether it ends with what begins the assistant's reply.

        Raises:
            ArgumentError: There are no messages, or the chat template refuses them.
            ContextFullError: They do not fit.
        """
        self._begin_anew_if_lost()
        tokens = self._shorten(add_generation_prompt)
        if len(tokens) > self._context.n_ctx * 7 // 8 and self.forget():
            tokens = self._shorten(add_generation_prompt)
        self._branch.append(tokens[self._branch.length :])
        return self._branch

    def _begin_anew_if_lost(self) -> None:
        """Where the worker process has crashed that had the branch: what was said is known here, and read again."""
        if self._branch.closed:
            self._branch = self._context.branch()

    def _shorten(self, add_generation_prompt: bool) -> list[int]:
        """Takes from the branch's end what the conversation does not have there; returns the conversation's tokens."""
        conversation = self._transcript.conversation()
        tokens = conversation.prompted_tokens if add_generation_prompt else conversation.tokens
        shared = common_prefix(self._branch.tokens, tokens)
        if shared < self._branch.length:
            self.take(fork_at(self._context, self._branch, shared))
        return tokens

    def take(self, branch: Branch) -> None:
        """Goes on with another branch of the same context."""
        self._branch.close()
        self._branch = branch

    def forget(self) -> bool:
        """Forgets the oldest turns until a quarter of the context is free.

        Where the template allows it, what follows them moves up in the KV cache and is not read again.

        Returns:
            Whether anything was forgotten.
        """
        self._begin_anew_if_lost()
        beginnings = self._transcript.later_beginnings() if self._shifts else []
        if not beginnings:
            return False
        before = self._transcript.conversation().tokens
        n_behind = self._branch.length - common_prefix(self._branch.tokens, before)
        for self._transcript.n_forgotten in beginnings:
            after = self._transcript.conversation().tokens
            if len(after) + n_behind <= self._context.n_ctx * 3 // 4:
                break
        self._move_up(before, after)
        return True

    def _move_up(self, before: Sequence[int], after: Sequence[int]) -> None:
        """Takes what was forgotten out of the branch, where it is one piece; elsewhere `hold` reads the rest again."""
        begin, n_gone = common_prefix(before, after), len(before) - len(after)
        if before[begin + n_gone :] == after[begin:] and begin + n_gone <= common_prefix(self._branch.tokens, before):
            self._context.decode()
            with suppress(BackendError, PositionError):
                self._branch.drop(begin, begin + n_gone)
