"""Contenders that compute nothing and take as long as they are told."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from benchmarks.peers.contender import CannotDoError, Files, Loaded, Setting, Step


class Fake:
    """Notes what it is asked; a row takes a second, and a call one more."""

    def __init__(self, pace: float = 1.0, *, most_adapters: int = 8) -> None:
        self._pace = pace
        self._most_adapters = most_adapters
        self.calls: list[tuple[object, ...]] = []

    def load(self, files: Files, setting: Setting) -> Loaded:
        self.calls.append(("load", files, setting))
        return Loaded(weights=1000, kv=setting.n_ctx * setting.kv_token_bytes)

    def begin(self, tokens: Sequence[int]) -> Step:
        self.calls.append(("begin", tuple(tokens)))
        return self._step(len(tokens))

    def extend(self, tokens: Sequence[int]) -> Step:
        self.calls.append(("extend", tuple(tokens)))
        return self._step(len(tokens))

    def write(self, count: int) -> Step:
        self.calls.append(("write", count))
        return self._step(count, list(range(count)))

    def ask(self, adapters: Sequence[int], count: int) -> Step:
        self.calls.append(("ask", tuple(adapters), count))
        if len(adapters) > self._most_adapters:
            raise CannotDoError(f"{len(adapters)} adapters are too many")
        return self._step(len(adapters) * (3 + count), list(adapters) * count)

    def close(self) -> None:
        self.calls.append(("close",))

    def _step(self, rows: int, tokens: Sequence[int] = ()) -> Step:
        return Step(self._pace * (rows + 1), self._pace, rows, 10, list(tokens))


class Guarded(Fake):
    """Asks while it writes."""

    def guard(self, adapters: Sequence[int], count: int, every: int) -> Step:
        self.calls.append(("guard", tuple(adapters), count, every))
        return self._step(count, list(range(count)))


class Batching(Guarded):
    """Takes rows of its own choice in one batch, too."""

    def compute(self, rows: int, adapters: Sequence[int]) -> Step:
        self.calls.append(("compute", rows, tuple(adapters)))
        return self._step(rows)


class Noisy(Fake):
    """Prints wherever it can, as libraries do."""

    def begin(self, tokens: Sequence[int]) -> Step:
        print("printed by Python")
        sys.stdout.flush()
        os.write(1, b"printed by a library\n")
        return super().begin(tokens)


class Dying(Fake):
    """Ends its process when it should write."""

    def write(self, count: int) -> Step:
        os.write(2, b"no memory left\n")
        os._exit(7)
