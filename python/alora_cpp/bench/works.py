"""What is timed: a conversation is read and gone on with, and adapters judge it in several ways."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from alora_cpp.bench.callees import Callee
from alora_cpp.branch import Branch
from alora_cpp.context import Context


@dataclass(frozen=True)
class Sample:
    """What one work took.

    Attributes:
        seconds: Wall time.
        evaluated: Rows computed.
        reused: Tokens of the conversation that were there and not read again.
    """

    seconds: float
    evaluated: int
    reused: int


class Works:
    """The works on one conversation. All but `read` and `go_on` leave it as it was."""

    def __init__(self, context: Context, tokens: Sequence[int]) -> None:
        """Takes a conversation, which `read` is to read first.

        Args:
            context: Where it is read.
            tokens: The conversation.
        """
        self._context = context
        self._tokens = list(tokens)
        self._trunk = context.branch()

    def read(self) -> Sample:
        """The base reads the conversation, up to the first token of its reply."""
        return self.go_on(self._tokens)

    def go_on(self, tokens: Sequence[int]) -> Sample:
        """The conversation goes on with more tokens, up to the first one of the reply."""

        def work() -> int:
            reused = self._trunk.length
            self._next(self._trunk, tokens)
            return reused

        return self._timed(work)

    def write(self, count: int) -> Sample:
        """The base writes tokens, one after another."""

        def work() -> int:
            with self._trunk.fork() as reply:
                reused = reply.length
                token = _best(self._trunk)
                for _ in range(count):
                    token = self._next(reply, [token])
            return reused

        return self._timed(work)

    def judge_together(self, callees: Sequence[Callee]) -> Sample:
        """A verdict of one token from each adapter, all in one pass."""
        return self._timed(lambda: self._judge(callees))

    def judge_one_by_one(self, callees: Sequence[Callee]) -> Sample:
        """The same verdicts, a pass for each."""
        return self._timed(lambda: min(self._judge([callee]) for callee in callees))

    def judge_as_lora(self, callee: Callee) -> Sample:
        """A verdict from an adapter that governs the whole conversation, which is read anew for it."""

        def work() -> int:
            with self._context.branch() as branch:
                branch.activate(callee.adapter)
                # An adapter within a Granite Switch model acts from its control token on, so that comes first.
                self._next(branch, [*callee.governed, *self._tokens[len(callee.governed) :], *callee.invocation])
            return 0

        return self._timed(work)

    def close(self) -> None:
        """Forgets the conversation."""
        self._trunk.close()

    def _judge(self, callees: Sequence[Callee]) -> int:
        branches = [self._trunk.fork() for _ in callees]
        reused = min(branch.length for branch in branches)
        try:
            for branch, callee in zip(branches, callees, strict=True):
                branch.append(callee.ungoverned)
                branch.activate(callee.adapter)
                branch.append(callee.governed)
            self._context.decode()
            for branch in branches:
                _best(branch)
        finally:
            for branch in branches:
                branch.close()
        return reused

    def _next(self, branch: Branch, tokens: Sequence[int]) -> int:
        """Computes more tokens of a branch, and chooses the one that follows."""
        branch.append(tokens)
        self._context.decode()
        return _best(branch)

    def _timed(self, work: Callable[[], int]) -> Sample:
        rows = self._context.counters.rows_decoded
        began = time.perf_counter()
        reused = work()
        seconds = time.perf_counter() - began
        return Sample(seconds, self._context.counters.rows_decoded - rows, reused)


def _best(branch: Branch) -> int:
    return int(branch.logits().argmax())
