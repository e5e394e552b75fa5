"""What a contender is: a way to run a base model and adapters, told what to do in token ids.

Each one lives in a process of its own (`worker.py`). It measures itself; what the works are made of, and who is
compared with whom, it does not know.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast, runtime_checkable


class CannotDoError(Exception):
    """The contender cannot do what it was asked; its text stands in the table as the reason."""


@dataclass(frozen=True)
class Files:
    """What there is to load; a contender takes what it needs.

    Attributes:
        model: The base model, GGUF.
        adapters: Activated LoRA adapters of that model, GGUF; also taken as ordinary LoRA.
        switch: The same model and adapters as one Granite Switch GGUF; None where no contender wants it.
        huggingface: A folder of transformers with a model of that shape, and PEFT adapters in it; None likewise.
    """

    model: Path
    adapters: tuple[Path, ...]
    switch: Path | None = None
    huggingface: Path | None = None


@dataclass(frozen=True)
class Setting:
    """How to load it.

    Attributes:
        n_ctx: Tokens of the longest conversation, an invocation and an answer for each adapter included. Who holds a
            conversation twice takes twice as many cells.
        threads: Threads that compute, for prompts and for single rows alike.
        invocation: The tokens that invoke an adapter, the same ones for all of them.
        kv_token_bytes: Keys and values of one token in F16, over all layers.
    """

    n_ctx: int
    threads: int
    invocation: tuple[int, ...]
    kv_token_bytes: int


@dataclass(frozen=True)
class Loaded:
    """What a contender holds by its nature; the rest of its memory is overhead.

    Attributes:
        weights: Bytes of the files it loaded.
        kv: Bytes of its KV cache, as large as it was made.
    """

    weights: int
    kv: int


@dataclass(frozen=True)
class Step:
    """What one call did.

    Attributes:
        seconds: Wall time of the call.
        first: Seconds until the first new token was known; of a call that writes none, `seconds`.
        evaluated: Rows computed.
        reused: Tokens that a row of this call attends to, and that were not computed for it. Each adapter asked counts.
        tokens: What was written, if anything.
    """

    seconds: float
    first: float
    evaluated: int
    reused: int
    tokens: list[int]


class Contender(Protocol):
    """A model with adapters, and one conversation."""

    def load(self, files: Files, setting: Setting) -> Loaded:
        """Loads everything. Not timed; called once."""
        ...

    def begin(self, tokens: Sequence[int]) -> Step:
        """Forgets everything and reads a prompt with the base model; it has read it when this returns."""
        ...

    def extend(self, tokens: Sequence[int]) -> Step:
        """The conversation goes on with these. They may be read now, or together with what the next call reads."""
        ...

    def write(self, count: int) -> Step:
        """The base model writes, greedily; tokens that end a text are ignored. They stay in the conversation."""
        ...

    def ask(self, adapters: Sequence[int], count: int) -> Step:
        """Each of these adapters reads its invocation behind the conversation and writes `count` tokens, greedily.

        The conversation is afterwards as before. The tokens of all adapters are given in their order.

        Raises:
            CannotDoError: It cannot do that, and why.
        """
        ...

    def close(self) -> None:
        """Frees everything."""
        ...


@runtime_checkable
class Guarding(Protocol):
    """A contender that can ask while it writes."""

    def guard(self, adapters: Sequence[int], count: int, every: int) -> Step:
        """Like `write`, and after each `every` tokens these adapters give a verdict of one token.

        `tokens` are those of the reply.
        """
        ...


@runtime_checkable
class Batching(Protocol):
    """A contender that takes rows of its own choice in one batch."""

    def compute(self, rows: int, adapters: Sequence[int]) -> Step:
        """Reads so many tokens behind the conversation in one batch; the conversation is afterwards as before.

        Args:
            rows: How many.
            adapters: Who governs them, in turn and each row on a branch of its own; the base where there are none.

        Raises:
            CannotDoError: It cannot do that, and why.
        """
        ...


def guard_by_turns(contender: Contender, adapters: Sequence[int], count: int, every: int) -> Step:
    """What `Guarding.guard` does, for a contender that writes and asks in turns."""
    start = time.perf_counter()
    first = None
    evaluated = reused = 0
    tokens: list[int] = []
    while len(tokens) < count:
        before = time.perf_counter() - start
        written = contender.write(min(every, count - len(tokens)))
        if first is None:
            first = before + written.first
        asked = contender.ask(adapters, 1)
        tokens += written.tokens
        evaluated += written.evaluated + asked.evaluated
        reused += written.reused + asked.reused
    return Step(time.perf_counter() - start, first or 0.0, evaluated, reused, tokens)


# Modules are imported in the worker alone: some of them bring a library that the driver need not have.
CONTENDERS = {
    "ours": "benchmarks.peers.ours:Fused",
    "ours-one-by-one": "benchmarks.peers.ours:OneByOne",
    "ours-lora": "benchmarks.peers.ours:OrdinaryLora",
    "llama-server": "benchmarks.peers.llama_server:AloraServer",
    "llama-server-two-slots": "benchmarks.peers.llama_server:TwoSlotServer",
    "llama-server-switch": "benchmarks.peers.llama_server:SwitchServer",
    "llama-cpp-python": "benchmarks.peers.llama_cpp_python:LlamaCppPython",
    "peft": "benchmarks.peers.peft_alora:PeftAlora",
}


def make_contender(name: str) -> Contender:
    """A contender by its name in `CONTENDERS`."""
    module, _, kind = CONTENDERS[name].partition(":")
    return cast("Contender", getattr(importlib.import_module(module), kind)())
