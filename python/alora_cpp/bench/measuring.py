"""Rounds of works after conversations of several lengths, within a minute unless more is asked for."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from alora_cpp.bench.buffers import Buffers
from alora_cpp.bench.callees import N_CALLEES, Callee
from alora_cpp.bench.measured import Measured, Measurements
from alora_cpp.bench.random_tokens import random_tokens
from alora_cpp.bench.works import Sample, Works
from alora_cpp.context import Context
from alora_cpp.errors import ArgumentError
from alora_cpp.model import Model

PROMPTS = (256, 1024, 4096)
ROUNDS = 3
N_WRITTEN = 16
N_NEW = 16

# For rounds that nobody asked for. Loading and warming up have the rest of the minute.
_SECONDS = 45.0
_N_WARM_UP = 64


def measure(
    model: Model,
    callees: Sequence[Callee],
    buffers: Buffers,
    *,
    prompts: Sequence[int] | None = None,
    rounds: int | None = None,
    n_ctx: int | None = None,
    n_threads: int = 0,
    progress: Callable[[float], object] = lambda _: None,
) -> Measurements:
    """Measures a model and its adapters.

    Args:
        model: The model.
        callees: Its adapters.
        buffers: What is overheard of the log.
        prompts: Tokens of the conversations, each measured however long it takes; if not given, `PROMPTS`, without
            those that would take too long.
        rounds: How often each work is done after each conversation; if not given, `ROUNDS` times, or less often where
            that would take too long.
        n_ctx: KV cells; as many as needed, if not given.
        n_threads: As for `Model.context`.
        progress: Told the fraction done now and then.

    Raises:
        ArgumentError: None of the conversations can be measured.
        BackendError: There is no memory for the buffers, or the backend failed.
    """
    lengths = sorted(set(prompts or PROMPTS))
    measured: list[Measured] = []
    left_out: dict[int, str] = {}
    spent = 0.0
    for index, prompt in enumerate(lengths):
        need = _n_cells(prompt, callees)
        expected = measured[-1].round_seconds(prompt) if measured else 0.0
        if why_not := _why_not(model, prompt, need, n_ctx):
            left_out[prompt] = why_not
        elif prompts is None and spent + expected > _SECONDS:
            left_out[prompt] = f"a round would take about {expected:.0f} s; it is measured with --prompt {prompt}"
        else:
            began = time.perf_counter()
            buffers.forget("kv")
            with model.context(n_ctx=n_ctx or need, n_threads=n_threads) as context:
                samples: defaultdict[str, list[Sample]] = defaultdict(list)
                for a_round in _rounds(context, callees, prompt, rounds, _SECONDS - spent):
                    for work, sample in a_round.items():
                        samples[work].append(sample)
                    progress((index + len(samples["read"]) / (rounds or ROUNDS)) / len(lengths))
                kv_bytes, compute_bytes = buffers.total("kv"), context.counters.compute_bytes
                measured.append(Measured(prompt, samples, context.n_ctx, kv_bytes, compute_bytes))
            # Rounds that were asked for beyond the usual leave the longer conversations their time.
            spent += (time.perf_counter() - began) * min(1, ROUNDS / measured[-1].rounds)
    if not measured:
        reasons = "; ".join(f"a conversation of {prompt} tokens: {reason}" for prompt, reason in left_out.items())
        raise ArgumentError(f"nothing can be measured: {reasons}")
    return Measurements(measured, left_out)


def _n_cells(prompt: int, callees: Sequence[Callee]) -> int:
    """KV cells for the conversation and the work that needs most beside it: reading it as a LoRA does."""
    rows = [len(callee.invocation) for callee in callees]
    return prompt + max(N_WRITTEN, N_NEW, sum(rows), max(prompt, *rows) + max(rows))


def _why_not(model: Model, prompt: int, need: int, n_ctx: int | None) -> str | None:
    if prompt + max(N_WRITTEN, N_NEW) > model.n_ctx_train:
        return f"the model was trained for {model.n_ctx_train} tokens"
    if n_ctx is not None and need > n_ctx:
        return f"it takes {need} KV cells, n_ctx (-c) is {n_ctx}"
    return None


def _rounds(
    context: Context, callees: Sequence[Callee], prompt: int, n_rounds: int | None, seconds: float
) -> Iterator[Mapping[str, Sample]]:
    """As many rounds as were asked for; else the usual number, or as many as fit into the seconds, at least one."""
    tokens, new = (random_tokens(context.model, count, seed=0) for count in (prompt, N_NEW))
    began = time.perf_counter()
    _round(context, callees, tokens[:_N_WARM_UP], new, is_backwards=False)
    last = 0.0
    for number in range(n_rounds or ROUNDS):
        start = time.perf_counter()
        if n_rounds is None and number and start - began + last > seconds:
            break
        # No way always comes behind the same other one.
        yield _round(context, callees, tokens, new, is_backwards=number % 2 == 1)
        last = time.perf_counter() - start


def _round(
    context: Context, callees: Sequence[Callee], tokens: Sequence[int], new: Sequence[int], *, is_backwards: bool
) -> dict[str, Sample]:
    """Each work once, on a conversation that is read for that."""
    works = Works(context, tokens)
    samples = {"read": works.read(), "write": works.write(N_WRITTEN)}
    ways: dict[str, Callable[[], Sample]] = {
        "verdict": partial(works.judge_together, callees[:1]),
        "verdict_as_lora": partial(works.judge_as_lora, callees[0]),
    }
    for size in (3, N_CALLEES):
        if size <= len(callees):
            ways[f"together_{size}"] = partial(works.judge_together, callees[:size])
            ways[f"one_by_one_{size}"] = partial(works.judge_one_by_one, callees[:size])
    for name in reversed(ways) if is_backwards else ways:
        samples[name] = ways[name]()
    samples["go_on"] = works.go_on(new)
    works.close()
    return samples
