"""What asking K adapters at once costs, on a generated model of about one billion parameters.

    python benchmarks/fused.py [--shape 1b|tiny] [--adapters 1,2,4,8] [--prompt 400] [--rounds 7]
                               [--threads N] [--cache FOLDER] [--json]

After a shared prompt, K branches get their adapter's four invocation tokens. Measured, in alternating rounds: all of
them in one fused batch; the same one after another; the same rows in one batch of the base model alone. Then a fork at
8,192 tokens, and a check from fork to close.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from models import INVOCATION, SHAPES, adapter_files, cache_folder, model_file

from alora_cpp import Adapter, Branch, Context, Model

FORK_AT = 8192


def open_branches(trunk: Branch, adapters: list[Adapter | None]) -> list[Branch]:
    """Forks a branch for each adapter, or for the base, with its invocation queued."""
    branches = [trunk.fork() for _ in adapters]
    for branch, adapter in zip(branches, adapters, strict=True):
        if adapter is not None:
            branch.activate(adapter)
        branch.append(INVOCATION)
    return branches


def timed(work: Callable[[], None]) -> float:
    """Runs it and returns the seconds it took."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def decode_once(context: Context, trunk: Branch, adapters: list[Adapter | None]) -> float:
    """Seconds of one decode of all branches."""
    branches = open_branches(trunk, adapters)
    seconds = timed(context.decode)
    for branch in branches:
        branch.close()
    return seconds


def measure(context: Context, trunk: Branch, adapters: list[Adapter], rounds: int) -> dict[str, float]:
    """Medians of the three ways, each round taking all of them in turn, and the ratios within the rounds."""
    base: list[Adapter | None] = [None] * len(adapters)
    ways: dict[str, Callable[[], float]] = {
        "fused": lambda: decode_once(context, trunk, list(adapters)),
        "base": lambda: decode_once(context, trunk, base),
        "one_by_one": lambda: sum(decode_once(context, trunk, [adapter]) for adapter in adapters),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        # The order changes from round to round, so that no way always follows the same other one.
        order = [*ways] if number % 2 else [*reversed(ways)]
        for name in order:
            taken = ways[name]()
            if number:  # the first round warms up
                seconds[name].append(taken)
    ratios = [fused / alone for fused, alone in zip(seconds["fused"], seconds["base"], strict=True)]
    return {
        "adapters": len(adapters),
        "rows": len(adapters) * len(INVOCATION),
        **{f"{name}_ms": 1000 * statistics.median(values) for name, values in seconds.items()},
        **{f"{name}_min_ms": 1000 * min(values) for name, values in seconds.items()},
        "fused_over_base": statistics.median(ratios),
        "fused_over_base_min": min(seconds["fused"]) / min(seconds["base"]),
        "one_by_one_over_fused": statistics.median(seconds["one_by_one"]) / statistics.median(seconds["fused"]),
    }


def measure_fork(model: Model, adapter: Adapter) -> dict[str, float]:
    """Microseconds of a fork at 8,192 tokens, and milliseconds of a whole check there."""
    tokens = np.random.default_rng(2).integers(2, 1000, FORK_AT).tolist()
    with model.context(n_ctx=FORK_AT + 256) as context:
        trunk = context.branch()
        trunk.append(tokens)
        prefill = timed(context.decode)
        forks, checks = [], []
        for _ in range(300):
            start = time.perf_counter()
            branch = trunk.fork()
            forks.append(time.perf_counter() - start)
            branch.close()
        for _ in range(5):
            checks.append(decode_once(context, trunk, [adapter]))
    return {
        "fork_tokens": FORK_AT,
        "fork_median_us": 1e6 * statistics.median(forks),
        "fork_max_us": 1e6 * max(forks),
        "check_ms": 1000 * statistics.median(checks),
        "prefill_ms": 1000 * prefill,
    }


def plot(table: list[dict[str, float]], title: str, file: Path) -> None:
    """Draws the three ways beside one another."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    _, axes = pyplot.subplots(figsize=(7, 3.4), layout="constrained")
    ways = (("base_ms", "base rows only", "0.75"), ("fused_ms", "fused", "C0"), ("one_by_one_ms", "one by one", "C1"))
    for i, (key, label, colour) in enumerate(ways):
        places = [x + 0.27 * (i - 1) for x in range(len(table))]
        axes.bar(places, [row[key] for row in table], 0.25, label=label, color=colour)
    axes.set_xticks(range(len(table)), [f"{row['adapters']:.0f}" for row in table])
    axes.set(xlabel="adapters, four invocation tokens each", ylabel="milliseconds", title=title)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    pyplot.savefig(file, dpi=150)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    parser.add_argument("--adapters", default="1,2,4,8", help="how many at once, for each row of the table")
    parser.add_argument("--prompt", type=int, default=400, help="tokens of the shared prompt")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="folder that keeps the generated files")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the table to a picture, too (needs matplotlib)")
    options = parser.parse_args()
    shape, cache = SHAPES[options.shape], cache_folder(options.cache)
    counts = [int(count) for count in options.adapters.split(",")]
    print(f"generated files are in {cache}", file=sys.stderr)
    with Model(model_file(shape, cache)) as model:
        adapters = [model.load_adapter(path) for path in adapter_files(shape, cache, max(counts))]
        with model.context(n_ctx=options.prompt + 256, n_threads=options.threads) as context:
            trunk = context.branch()
            trunk.append(np.random.default_rng(1).integers(2, 1000, options.prompt).tolist())
            context.decode()
            table = [measure(context, trunk, adapters[:count], options.rounds) for count in counts]
            buffers = context.counters.compute_bytes
        parameters = model.n_parameters
    tiny = SHAPES["tiny"]
    with Model(model_file(tiny, cache)) as small:
        fork = measure_fork(small, small.load_adapter(adapter_files(tiny, cache, 1)[0]))
    if options.plot:
        plot(table, f"{parameters / 1e9:.1f} B Llama, Q8_0, {options.prompt} tokens before", options.plot)
    if options.json:
        result = {"parameters": parameters, "prompt": options.prompt, "rounds": options.rounds, "fused": table}
        print(json.dumps({**result, "compute_bytes": buffers, "fork": fork}, indent=2))
        return
    print(f"{parameters / 1e9:.2f} B parameters, Q8_0, {options.prompt} tokens before, {options.rounds} rounds\n")
    print("adapters  rows   fused ms   base ms   fused/base   one by one ms   one by one/fused")
    for row in table:
        print(
            f"{row['adapters']:8d} {row['rows']:5d} {row['fused_ms']:10.1f} {row['base_ms']:9.1f} "
            f"{row['fused_over_base']:12.3f} {row['one_by_one_ms']:15.1f} {row['one_by_one_over_fused']:18.2f}"
        )
    print(
        f"\nfork at {FORK_AT} tokens: {fork['fork_median_us']:.1f} us (largest of 300: {fork['fork_max_us']:.1f}); "
        f"a check there, in a small model: {fork['check_ms']:.1f} ms, its prefill: {fork['prefill_ms']:.0f} ms"
    )


if __name__ == "__main__":
    main()
