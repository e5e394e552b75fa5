"""llama-cpp-python: a base, and ordinary LoRAs that are switched on for a whole text.

Its class `Llama` takes one adapter, once, when the model is loaded. So this uses the functions of llama.cpp that the
package brings along, as anybody must who wants several: `llama_set_adapters_lora` puts an adapter on all rows of the
batches that follow. What the base has read is of no use to it: the text is read again, in a sequence of its own, so
that the base keeps what it has.

It is compiled where it is installed, for that processor. On one with AMX, use clang or GCC 14 or newer: older ones
compile llama.cpp's tiles wrongly, and the process dies at the first prompt (third_party/llama.cpp/README.md).
`CC=clang CXX=clang++ pip install --force-reinstall --no-deps --no-binary llama-cpp-python llama-cpp-python`
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from benchmarks.peers.contender import CannotDoError, Files, Loaded, Setting, Step

_BASE, _ADAPTED = range(2)
# llama.cpp gives each sequence a multiple of it.
_CELLS = 256


class _Engine:
    """A model, and a context with one sequence for the base and one for adapters.

    Args:
        model: The base's GGUF.
        n_ctx: Tokens that each sequence can hold.
        threads: Threads that compute.
    """

    def __init__(self, model: Path, n_ctx: int, threads: int) -> None:
        # llama.cpp calls it for as long as the process lives.
        self._silence = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self._silence, ctypes.c_void_p())
        self._model: Any = llama_cpp.llama_model_load_from_file(
            str(model).encode(), llama_cpp.llama_model_default_params()
        )
        if self._model is None:
            raise RuntimeError(f"llama-cpp-python cannot load {model}")
        options = llama_cpp.llama_context_default_params()
        options.n_seq_max = 2
        self.cells = options.n_ctx = options.n_seq_max * -(-n_ctx // _CELLS) * _CELLS
        options.n_batch = n_ctx
        options.n_threads = options.n_threads_batch = threads
        self._context: Any = llama_cpp.llama_init_from_model(self._model, options)
        if self._context is None:
            raise RuntimeError(f"llama-cpp-python has no memory for a context of {self.cells} tokens")
        self._memory: Any = llama_cpp.llama_get_memory(self._context)
        self._batch: Any = llama_cpp.llama_batch_init(n_ctx, 0, 1)
        self._n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))

    def load_adapter(self, path: Path) -> Any:
        """Loads an adapter; the model frees it."""
        adapter = llama_cpp.llama_adapter_lora_init(self._model, str(path).encode())
        if adapter is None:
            raise RuntimeError(f"llama-cpp-python cannot load {path}")
        return adapter

    def use(self, adapter: Any | None) -> None:
        """Puts an adapter on all rows from now on, or none."""
        given = [] if adapter is None else [adapter]
        pointers = (llama_cpp.llama_adapter_lora_p_ctypes * len(given))(*given)
        scales = (ctypes.c_float * len(given))(*[1.0] * len(given))
        if llama_cpp.llama_set_adapters_lora(self._context, pointers, len(given), scales):
            raise RuntimeError("llama-cpp-python cannot use the adapter")

    def forget(self, sequence: int, begin: int = 0) -> None:
        """Drops what a sequence has from a position on."""
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, begin, -1)

    def read(self, sequence: int, tokens: Sequence[int], position: int) -> int:
        """Reads tokens at the end of a sequence, which is at `position`, and gives the likeliest next one."""
        batch, count = self._batch, len(tokens)
        batch.n_tokens = count
        for array, values in (
            (batch.token, tokens),
            (batch.pos, np.arange(position, position + count)),
            (batch.n_seq_id, 1),
            (batch.logits, np.arange(count) == count - 1),
        ):
            np.ctypeslib.as_array(array, (count,))[:] = values
        for row in range(count):
            batch.seq_id[row][0] = sequence
        if failed := llama_cpp.llama_decode(self._context, batch):
            raise RuntimeError(f"llama-cpp-python cannot decode {count} tokens at {position} (error {failed})")
        logits = llama_cpp.llama_get_logits_ith(self._context, -1)
        return int(np.ctypeslib.as_array(logits, (self._n_vocab,)).argmax())

    def close(self) -> None:
        """Frees everything."""
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)


class LlamaCppPython:
    """One conversation; the base has read its first tokens, and knows what it would say next."""

    def load(self, files: Files, setting: Setting) -> Loaded:
        """See `Contender`."""
        self._engine = _Engine(files.model, setting.n_ctx, setting.threads)
        self._adapters = [self._engine.load_adapter(path) for path in files.adapters]
        self._invocation = setting.invocation
        weights = sum(path.stat().st_size for path in (files.model, *files.adapters))
        return Loaded(weights, self._engine.cells * setting.kv_token_bytes)

    def begin(self, tokens: Sequence[int]) -> Step:
        """See `Contender`."""
        start = time.perf_counter()
        self._engine.forget(_BASE)
        self._conversation = list(tokens)
        self._next_token = self._engine.read(_BASE, tokens, 0)
        self._n_read = len(tokens)
        seconds = time.perf_counter() - start
        return Step(seconds, seconds, len(tokens), 0, [])

    def extend(self, tokens: Sequence[int]) -> Step:
        """See `Contender`; they are read when the base writes."""
        self._conversation += tokens
        return Step(0.0, 0.0, 0, 0, [])

    def write(self, count: int) -> Step:
        """See `Contender`."""
        start = time.perf_counter()
        reused = self._n_read
        if unread := self._conversation[reused:]:
            self._next_token = self._engine.read(_BASE, unread, reused)
        first = time.perf_counter() - start
        tokens = self._written(_BASE, len(self._conversation), self._next_token, count)
        self._conversation += tokens
        # The last token that is written is read when the base goes on.
        self._n_read = len(self._conversation) - 1
        return Step(time.perf_counter() - start, first, self._n_read - reused, reused, tokens)

    def ask(self, adapters: Sequence[int], count: int) -> Step:
        """See `Contender`."""
        start = time.perf_counter()
        first: float | None = None
        tokens: list[int] = []
        text = [*self._conversation, *self._invocation]
        for number in adapters:
            self._engine.use(self._adapters[number])
            token = self._engine.read(_ADAPTED, text, 0)
            first = first or time.perf_counter() - start
            tokens += self._written(_ADAPTED, len(text), token, count)
            self._engine.forget(_ADAPTED)
        self._engine.use(None)
        seconds = time.perf_counter() - start
        return Step(seconds, first or seconds, len(adapters) * (len(text) + count - 1), 0, tokens)

    def compute(self, rows: int, adapters: Sequence[int]) -> Step:
        """See `Batching`; the rows are tokens of one text, which is cheaper than branches of it."""
        if adapters:
            raise CannotDoError("llama.cpp has one adapter at a time for all rows of a batch")
        start = time.perf_counter()
        self._engine.read(_BASE, self._conversation[:rows], self._n_read)
        self._engine.forget(_BASE, self._n_read)
        return Step(time.perf_counter() - start, 0.0, rows, rows * self._n_read, [])

    def close(self) -> None:
        """See `Contender`."""
        self._engine.close()

    def _written(self, sequence: int, position: int, token: int, count: int) -> list[int]:
        """Writes tokens behind a text of `position` tokens, of which `token` is the first."""
        tokens = [token]
        while len(tokens) < count:
            tokens.append(self._engine.read(sequence, tokens[-1:], position + len(tokens) - 1))
        return tokens
