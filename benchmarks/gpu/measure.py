"""Verdicts, fused adapters and whole pipelines on one model; run by `python -m benchmarks.gpu`, a process a model.

    python -m benchmarks.gpu.measure MODEL ADAPTER... --prompts 1024 4096 --layers 99 --out FILE

After each prompt the file is written anew, so that what was measured is kept when time runs out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alora_cpp import Adapter, Branch, Context, Model, set_log_sink
from benchmarks.models import INVOCATION


def milliseconds(work: Callable[[], object]) -> float:
    """Runs it and says how long it took."""
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def median(work: Callable[[], float], rounds: int) -> float:
    """The median of some rounds; one before them warms up."""
    work()
    return statistics.median(work() for _ in range(rounds))


def verdicts(context: Context, trunk: Branch, adapters: Sequence[Adapter | None]) -> float:
    """Milliseconds of one fused batch of invocations, from the fork to the logits in hand."""

    def ask() -> None:
        branches = [trunk.fork() for _ in adapters]
        for branch, adapter in zip(branches, adapters, strict=True):
            if adapter is not None:
                branch.activate(adapter)
            branch.append(INVOCATION)
        context.decode()
        for branch in branches:
            branch.logits()
            branch.close()

    return milliseconds(ask)


def reread(context: Context, prompt: list[int], adapter: Adapter, written: int = 0) -> float:
    """Milliseconds of the same verdict, or of an answer, by an ordinary LoRA, which reads the whole prompt."""

    def ask() -> None:
        branch = context.branch()
        branch.activate(adapter)
        branch.append([*prompt, *INVOCATION])
        context.decode()
        branch.logits()
        write(context, [branch], written)
        branch.close()

    return milliseconds(ask)


def write(context: Context, branches: list[Branch], count: int) -> None:
    """Writes greedily on all branches at once; tokens of random models end where they like, so ends are ignored."""
    for _ in range(count):
        for branch in branches:
            branch.append([int(branch.logits().argmax())])
        context.decode()


def pipeline(
    context: Context, prompt: list[int], adapters: list[Adapter], tokens: tuple[int, int], *, lora: bool, back: bool
) -> tuple[float, float]:
    """Milliseconds of base -> adapters (-> base), reading the prompt included, and of them the adapters' step.

    Args:
        context: An empty one.
        prompt: Token ids.
        adapters: All of them are asked about prompt and reply.
        tokens: Written by the base, and by each adapter.
        lora: Whether adapters read everything again, one after another.
        back: Whether the base goes on at the end.
    """
    trunk = context.branch()

    def begin() -> None:
        trunk.append(prompt)
        context.decode()
        write(context, [trunk], tokens[0])

    def evaluate() -> None:
        if lora:
            for adapter in adapters:
                reread(context, trunk.tokens, adapter, tokens[1])
            return
        checks = [trunk.fork() for _ in adapters]
        for check, adapter in zip(checks, adapters, strict=True):
            check.activate(adapter)
            check.append(INVOCATION)
        context.decode()
        write(context, checks, tokens[1])
        for check in checks:
            check.close()

    def go_on() -> None:
        trunk.append(INVOCATION)
        context.decode()
        write(context, [trunk], tokens[0])

    total = milliseconds(begin)
    step = milliseconds(evaluate)
    total += step + (milliseconds(go_on) if back else 0.0)
    trunk.close()
    return total, step


def measure(
    model: Model, adapters: list[Adapter], n_prompt: int, tokens: tuple[int, int], rounds: int, threads: int
) -> dict[str, Any]:
    """Everything after one prompt."""
    prompt = np.random.default_rng(1).integers(2, 1000, n_prompt).tolist()
    lines: list[str] = []
    base: list[Adapter | None] = [None] * len(adapters)
    # Room for the trunk, for a LoRA's copy of it, and for what is written.
    with model.context(n_ctx=2 * n_prompt + 4096, n_threads=threads, flash_attention=True) as context:
        trunk = context.branch()
        trunk.append(prompt)
        result: dict[str, Any] = {"prompt": n_prompt, "prefill_ms": milliseconds(context.decode)}
        sizes = {context.counters.compute_bytes}
        set_log_sink(lambda _, line: lines.append(line))
        try:
            result["verdict_ms"] = median(lambda: verdicts(context, trunk, adapters[:1]), rounds)
            result["base_batch_ms"] = median(lambda: verdicts(context, trunk, base), rounds)
            result["fused_batch_ms"] = median(lambda: verdicts(context, trunk, list(adapters)), rounds)
            # Another adapter each time: what changing them costs.
            turns = [verdicts(context, trunk, [adapters[i % len(adapters)]]) for i in range(2 * rounds)]
            result["changing_ms"] = statistics.median(turns)
            sizes.add(context.counters.compute_bytes)
            result["reallocations"] = len(sizes) - 1
            result["reservations"] = sum("reserving" in line or "reallocating" in line for line in lines)
        finally:
            set_log_sink(None)
        result["lora_verdict_ms"] = reread(context, prompt, adapters[0])
        trunk.close()
        for name, asked, back in (("a", adapters[:1], False), ("c", adapters, True)):
            for way, lora in (("ours", False), ("lora", True)):
                total, step = pipeline(context, prompt, asked, tokens, lora=lora, back=back)
                result[f"pipeline_{name}_{way}_ms"], result[f"step_{name}_{way}_ms"] = total, step
    return result


def main() -> None:
    """Measures prompt after prompt."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("adapters", type=Path, nargs="+")
    parser.add_argument("--prompts", type=int, nargs="+", required=True)
    parser.add_argument("--layers", type=int, default=-1)
    parser.add_argument("--tokens", type=int, nargs=2, default=(256, 16), help="written by the base, by each adapter")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="of the processor; 0: one for each physical core")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    with Model(options.model, n_gpu_layers=options.layers) as model:
        adapters = [model.load_adapter(path) for path in options.adapters]
        for n_prompt in options.prompts:
            results.append(measure(model, adapters, n_prompt, tuple(options.tokens), options.rounds, options.threads))
            options.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
