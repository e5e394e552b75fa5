"""What adapters cost that are built into a model, next to the same ones taken out of it.

    python benchmarks/switch.py [--shape 1b|tiny] [--adapters 3] [--prompt 400] [--rounds 7] [--threads N]
                                [--cache FOLDER] [--json]

Writes a random Granite Switch model with adapters of rank 32 on all projections, takes it apart, and measures both, a
round of each in turn: reading a prompt, writing one token, and asking one adapter (its four invocation rows).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from composed import write_composed
from models import INVOCATION, SHAPES, Shape, cache_folder, model_file

from alora_cpp import Adapter, Branch, Context, Model
from alora_cpp.convert import take_apart

RANK = 32


def composed_file(shape: Shape, cache: Path, count: int) -> Path:
    """The path of a random composed model in `cache`; writes it and its adapters' descriptions if it is not there."""
    names = [f"adapter-{number}" for number in range(count)]
    path = cache / f"switch-{shape.name}-{count}.gguf"
    for name in names:
        described = cache / f"{path.stem}.intrinsics" / name / "adapter_config.json"
        described.parent.mkdir(parents=True, exist_ok=True)
        described.write_text(json.dumps({"alora_invocation_tokens": INVOCATION}))
    if path.exists():
        return path
    stacks = _random_stacks(shape, count)
    return write_composed(model_file(shape, cache), path, names, stacks, rank=RANK, first_token=INVOCATION[0])


def _random_stacks(shape: Shape, count: int) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    random = np.random.default_rng(1)
    for name, outputs, inputs in shape.weights():
        if name.startswith("blk."):
            for half, (rows, columns) in {"a": (RANK, inputs), "b": (outputs, RANK)}.items():
                stack = random.standard_normal((count + 1, rows, columns), np.float32) * (0.3 / np.sqrt(columns))
                stack[0] = 0
                yield f"{name.removesuffix('.weight')}.lora_{half}", stack


def seconds(context: Context, trunk: Branch, tokens: list[int], adapter: Adapter | None = None) -> float:
    """Seconds of the decode of some rows behind the trunk's."""
    with trunk.fork() as branch:
        if adapter is not None:
            branch.activate(adapter)
        branch.append(tokens)
        start = time.perf_counter()
        context.decode()
        return time.perf_counter() - start


def ways(context: Context, adapter: Adapter, prompt: list[int]) -> dict[str, Callable[[], float]]:
    """What is measured, by its name."""
    empty, trunk = context.branch(), context.branch()
    trunk.append(prompt)
    context.decode()
    return {
        "prompt": lambda: seconds(context, empty, prompt),
        "token": lambda: seconds(context, trunk, prompt[:1]),
        "check": lambda: seconds(context, trunk, list(adapter.invocation_tokens), adapter),
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    parser.add_argument("--adapters", type=int, default=3)
    parser.add_argument("--prompt", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cache = cache_folder(options.cache)
    path = composed_file(SHAPES[options.shape], cache, options.adapters)
    base_path, *adapter_paths = take_apart(path, cache / f"{path.stem}-apart")
    prompt = np.random.default_rng(2).integers(400, 900, options.prompt).tolist()
    with Model(path) as switch, Model(base_path) as base:
        context_of = {
            "composed": (switch.context(n_ctx=4096, n_threads=options.threads), switch.load_adapter("adapter-0")),
            "apart": (base.context(n_ctx=4096, n_threads=options.threads), base.load_adapter(adapter_paths[0])),
        }
        measured = {name: ways(context, adapter, prompt) for name, (context, adapter) in context_of.items()}
        found = [_compare(what, measured, options.rounds) for what in ("prompt", "token", "check")]
    if options.json:
        print(json.dumps(found))
        return
    print(f"{'':8}{'composed':>12}{'apart':>12}{'ratio':>8}")
    for one in found:
        print(f"{one['what']:8}{one['composed_ms']:9.1f} ms{one['apart_ms']:9.1f} ms{one['ratio']:8.2f}")


def _compare(what: str, measured: dict[str, dict[str, Callable[[], float]]], rounds: int) -> dict[str, str | float]:
    """Medians of both, each round taking them in turn, and of the ratios within the rounds."""
    taken: dict[str, list[float]] = {name: [] for name in measured}
    for number in range(rounds + 1):
        for name in [*measured] if number % 2 else [*reversed(measured)]:
            once = measured[name][what]()
            if number:  # the first round warms up
                taken[name].append(once)
    ratios = [one / other for one, other in zip(taken["composed"], taken["apart"], strict=True)]
    return {
        "what": what,
        **{f"{name}_ms": 1000 * statistics.median(values) for name, values in taken.items()},
        "ratio": statistics.median(ratios),
    }


if __name__ == "__main__":
    main()
