"""Our own contenders: adapters in one fused batch, one after another, and as ordinary LoRA.

They differ in how they ask, and are one in all the rest. All of it is the public interface of `alora_cpp`.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence

from alora_cpp import Adapter, Branch, Context, Model
from benchmarks.peers.contender import Files, Loaded, Setting, Step


class _Measured:
    """A call in progress: its clock, and what the context had computed before."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._rows = context.counters.rows_decoded
        self._first: float | None = None
        self._start = time.perf_counter()

    def token_known(self) -> None:
        """A token was written; the first one counts."""
        if self._first is None:
            self._first = time.perf_counter() - self._start

    def step(self, tokens: list[int], reused: int = 0) -> Step:
        """What the call did, now that it is over."""
        seconds = time.perf_counter() - self._start
        first = seconds if self._first is None else self._first
        return Step(seconds, first, self._context.counters.rows_decoded - self._rows, reused, tokens)


def _best_token(branch: Branch) -> int:
    return int(branch.logits().argmax())


class Ours(ABC):
    """A trunk, and a way to ask about it."""

    # How often a conversation is in the cache at a time.
    copies = 1

    def load(self, files: Files, setting: Setting) -> Loaded:
        """See `Contender`."""
        self._model = Model(files.model)
        self._adapters = [self._model.load_adapter(path) for path in files.adapters]
        self._context = self._model.context(
            n_ctx=self.copies * setting.n_ctx, n_branches=len(self._adapters) + 2, n_threads=setting.threads
        )
        self._trunk = self._context.branch()
        weights = sum(path.stat().st_size for path in (files.model, *files.adapters))
        return Loaded(weights, setting.kv_token_bytes * self._context.n_ctx)

    def begin(self, tokens: Sequence[int]) -> Step:
        """See `Contender`."""
        self._trunk.close()
        self._trunk = self._context.branch()
        measured = _Measured(self._context)
        self._trunk.append(tokens)
        self._context.decode()
        return measured.step([])

    def extend(self, tokens: Sequence[int]) -> Step:
        """See `Contender`; the next call reads them in a batch with its own rows."""
        measured = _Measured(self._context)
        self._trunk.append(tokens)
        return measured.step([])

    def write(self, count: int) -> Step:
        """See `Contender`."""
        measured, reused = _Measured(self._context), self._n_read
        tokens: list[int] = []
        while len(tokens) < count:
            self._context.decode()
            self._go_on(tokens)
            measured.token_known()
        return measured.step(tokens, reused)

    def ask(self, adapters: Sequence[int], count: int) -> Step:
        """See `Contender`."""
        measured, reused = _Measured(self._context), self._reused_by(len(adapters))
        answers = self._answers([self._adapters[number] for number in adapters], count, measured)
        return measured.step([token for answer in answers for token in answer], reused)

    def close(self) -> None:
        """See `Contender`."""
        self._model.close()

    @abstractmethod
    def _answers(self, adapters: Sequence[Adapter], count: int, measured: _Measured) -> list[list[int]]:
        """What each adapter writes."""

    def _reused_by(self, n_adapters: int) -> int:
        return n_adapters * self._n_read

    @property
    def _n_read(self) -> int:
        return self._trunk.length - self._trunk.n_queued

    def _go_on(self, tokens: list[int]) -> None:
        """Writes a token to the trunk, and to the list; the next decode reads it."""
        tokens.append(_best_token(self._trunk))
        self._trunk.append(tokens[-1:])

    def _fork(self, adapter: Adapter) -> Branch:
        branch = self._trunk.fork()
        branch.activate(adapter)
        branch.append(adapter.invocation_tokens)
        return branch

    def _written(self, branches: Sequence[Branch], count: int, measured: _Measured) -> list[list[int]]:
        """What branches write, a fused pass for each token; they are closed afterwards."""
        answers: list[list[int]] = [[] for _ in branches]
        for left in reversed(range(count)):
            self._context.decode()
            for branch, answer in zip(branches, answers, strict=True):
                answer.append(_best_token(branch))
                measured.token_known()
                if left:
                    branch.append(answer[-1:])
        for branch in branches:
            branch.close()
        return answers


class Fused(Ours):
    """All adapters in one batch; guards read in the passes that write the reply."""

    def _answers(self, adapters: Sequence[Adapter], count: int, measured: _Measured) -> list[list[int]]:
        return self._written([self._fork(adapter) for adapter in adapters], count, measured)

    def compute(self, rows: int, adapters: Sequence[int]) -> Step:
        """See `Batching`."""
        measured, reused = _Measured(self._context), rows * self._n_read
        branches = [self._trunk.fork() for _ in range(rows)]
        for number, branch in enumerate(branches):
            if adapters:
                branch.activate(self._adapters[adapters[number % len(adapters)]])
            branch.append(self._trunk.tokens[-1:])
        self._context.decode()
        for branch in branches:
            _best_token(branch)
            branch.close()
        return measured.step([], reused)

    def guard(self, adapters: Sequence[int], count: int, every: int) -> Step:
        """See `Guarding`."""
        measured, reused = _Measured(self._context), self._n_read
        tokens: list[int] = []
        guards: list[Branch] = []
        while True:
            self._context.decode()
            for guard in guards:
                _best_token(guard)
                guard.close()
            guards = []
            if len(tokens) == count:
                return measured.step(tokens, reused)
            self._go_on(tokens)
            measured.token_known()
            if len(tokens) % every == 0 or len(tokens) == count:
                reused += self._reused_by(len(adapters))
                guards = [self._fork(self._adapters[number]) for number in adapters]


class OneByOne(Ours):
    """One adapter after another, each in batches of its own."""

    def _answers(self, adapters: Sequence[Adapter], count: int, measured: _Measured) -> list[list[int]]:
        return [answer for adapter in adapters for answer in self._written([self._fork(adapter)], count, measured)]


class OrdinaryLora(Ours):
    """Adapters that govern the conversation from its first token on: each has to read all of it."""

    copies = 2

    def _answers(self, adapters: Sequence[Adapter], count: int, measured: _Measured) -> list[list[int]]:
        return [answer for adapter in adapters for answer in self._written([self._reading(adapter)], count, measured)]

    def _reused_by(self, n_adapters: int) -> int:
        return 0

    def _reading(self, adapter: Adapter) -> Branch:
        branch = self._context.branch()
        branch.activate(adapter)
        branch.append([*self._trunk.tokens, *adapter.invocation_tokens])
        return branch
