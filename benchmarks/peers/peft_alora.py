"""PEFT's own aLoRA on the processor: transformers, with its cache used the way that costs least.

An adapter's rows are read behind the base's, and cut off again afterwards: nothing is copied but what transformers
copies whenever a cache grows. PEFT is told how many of the rows are adapted: it would look for a whole invocation among
them, and where it finds none, as for a token that is generated, it computes the base, silently.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, DynamicCache

from benchmarks.peers.contender import CannotDoError, Files, Loaded, Setting, Step
from benchmarks.peers.huggingface import BASE

_LONGEST = 8192


class PeftAlora:
    """One conversation; the base has read its first tokens, and knows what it would say next."""

    def load(self, files: Files, setting: Setting) -> Loaded:
        """See `Contender`."""
        folder = files.huggingface
        if folder is None:
            raise ValueError("there is no folder of transformers among the files; expected Files.huggingface")
        torch.set_num_threads(setting.threads)
        base = AutoModelForCausalLM.from_pretrained(folder / BASE, dtype="auto")
        if base.dtype is torch.bfloat16 and _matmul_seconds(torch.float32) < _matmul_seconds(torch.bfloat16):
            base = base.float()
        self._model = PeftModel.from_pretrained(base, folder / "0", adapter_name="0")
        for number in range(1, len(files.adapters)):
            self._model.load_adapter(folder / str(number), adapter_name=str(number))
        self._model.eval()
        self._invocation = setting.invocation
        weights = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
        # The cache has the numbers of the base, and grows up to here.
        return Loaded(weights, setting.n_ctx * setting.kv_token_bytes * base.dtype.itemsize // 2)

    def begin(self, tokens: Sequence[int]) -> Step:
        """See `Contender`.

        Raises:
            CannotDoError: It would take minutes.
        """
        if len(tokens) > _LONGEST:
            raise CannotDoError(f"reading more than {_LONGEST:,} tokens takes minutes")
        start = time.perf_counter()
        self._cache = DynamicCache(config=self._model.config)
        self._conversation = list(tokens)
        with self._model.disable_adapter():
            self._next_token = self._read(tokens)
        seconds = time.perf_counter() - start
        return Step(seconds, seconds, len(tokens), 0, [])

    def extend(self, tokens: Sequence[int]) -> Step:
        """See `Contender`; they are read with what follows."""
        self._conversation += tokens
        return Step(0.0, 0.0, 0, 0, [])

    def write(self, count: int) -> Step:
        """See `Contender`."""
        start = time.perf_counter()
        reused = self._cache.get_seq_length()
        with self._model.disable_adapter():
            if unread := self._unread():
                self._next_token = self._read(unread)
            first = time.perf_counter() - start
            tokens = [self._next_token]
            while len(tokens) < count:
                tokens.append(self._read(tokens[-1:]))
        self._conversation += tokens
        evaluated = self._cache.get_seq_length() - reused
        return Step(time.perf_counter() - start, first, evaluated, reused, tokens)

    def ask(self, adapters: Sequence[int], count: int) -> Step:
        """See `Contender`."""
        start = time.perf_counter()
        known = self._cache.get_seq_length()
        # Only then: switching all modules off and on takes time, too.
        if unread := self._unread():
            with self._model.disable_adapter():
                self._next_token = self._read(unread)
        n_read = len(self._conversation)
        first: float | None = None
        tokens: list[int] = []
        for number in adapters:
            self._model.set_adapter(str(number))
            answer = [self._read(self._invocation, adapted=True)]
            first = first or time.perf_counter() - start
            while len(answer) < count:
                answer.append(self._read(answer[-1:], adapted=True))
            self._cache.crop(-(len(self._invocation) + count - 1))
            tokens += answer
        seconds = time.perf_counter() - start
        evaluated = n_read - known + len(adapters) * (len(self._invocation) + count - 1)
        return Step(seconds, first or seconds, evaluated, len(adapters) * n_read, tokens)

    def close(self) -> None:
        """See `Contender`."""
        del self._model

    def _unread(self) -> list[int]:
        return self._conversation[self._cache.get_seq_length() :]

    def _read(self, tokens: Sequence[int], *, adapted: bool = False) -> int:
        """Reads tokens at the end of the cache, and gives the likeliest next one."""
        # The last row alone has logits; offsets are counted from the end.
        with torch.inference_mode():
            output = self._model(
                input_ids=torch.tensor([tokens]),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
                **({"alora_offsets": [len(tokens)]} if adapted else {}),
            )
        return int(output.logits[0, -1].argmax())


def _matmul_seconds(dtype: torch.dtype) -> float:
    """How long rows of a prompt take; processors without instructions for bfloat16 are slow at it."""
    rows, matrix = torch.ones(512, 2048, dtype=dtype), torch.ones(2048, 2048, dtype=dtype)

    def once() -> float:
        start = time.perf_counter()
        torch.mm(rows, matrix)
        return time.perf_counter() - start

    return min(once() for _ in range(5))
