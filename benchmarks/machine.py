"""What this machine can do at most: how fast it reads memory, and how fast the engine multiplies, by rows and threads.

    python -m benchmarks.machine --model FILE --out machine.json [--threads 1 2] [--prefix 4096] [--rounds 5]

Memory: each thread goes over its own part of one GiB with numpy, which does nothing but read it; or what the engine
reads of the weights in a pass of one row, where that is faster. Products: passes of 1 to 512 rows through the model, an
almost empty cache before them. Attention: what the same passes take longer behind `--prefix` tokens. Of several rounds
the shortest counts, since other work on the machine can only slow it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alora_cpp import Branch, Context, Model
from alora_cpp.bench.machine import processor, usable_processors
from alora_cpp.errors import AloraError, ArgumentError
from benchmarks.model_shape import ModelShape, read_shape
from benchmarks.pass_cost import Cost, Pass, pass_costs

ROWS = (1, 2, 4, 8, 11, 12, 16, 32, 64, 128, 256, 512)
_MEMORY = 1 << 30  # bytes; more than caches hold
_NO_CONTEXT = 1  # cells; a branch begins with a row
_TOKEN = 2


@dataclass(frozen=True)
class Machine:
    """The limits of a machine, and of the kernels on it.

    Attributes:
        name: What it is.
        bandwidth: Bytes read in a second.
        products: Operations in a second of products with weights, by the rows of a pass.
        attention: Operations in a second of attention, likewise.
    """

    name: str
    bandwidth: float
    products: Mapping[int, float]
    attention: Mapping[int, float]

    @property
    def best(self) -> float:
        """The most operations in a second."""
        return max([*self.products.values(), *self.attention.values()])

    def limit(self, costs: Mapping[str, Cost]) -> float:
        """Seconds that a pass takes at least: memory and processor at their best, one part after the other."""
        return sum(max(cost.bytes / self.bandwidth, cost.operations / self.best) for cost in costs.values())

    def expected(self, costs: Mapping[str, Cost]) -> float:
        """Seconds that it takes where the kernels are as fast for its rows as was measured."""
        seconds = 0.0
        for part, cost in costs.items():
            rates = self.attention if part == "attention" else self.products
            seconds += max(cost.bytes / self.bandwidth, cost.operations / _rate(rates, cost.rows))
        return seconds

    def like(self, name: str, *, bandwidth: float, products: float) -> Machine:
        """Another machine of which only the limits are known, with kernels as good as here for few rows.

        Args:
            name: What it is.
            bandwidth: As in `Machine`.
            products: Operations in a second at their best.
        """
        faster = products / max(self.products.values())
        scaled = ({rows: rate * faster for rows, rate in rates.items()} for rates in (self.products, self.attention))
        return Machine(name, bandwidth, *scaled)


def _rate(rates: Mapping[int, float], rows: int) -> float:
    """Operations in a second for so many rows; between measured ones, seconds grow evenly."""
    measured = sorted(rates)
    n = min(max(rows, measured[0]), measured[-1])
    return n / float(np.interp(n, measured, [one / rates[one] for one in measured]))


@dataclass(frozen=True)
class MeasuredPass:
    """A pass that was timed.

    Attributes:
        context: Cells before it.
        rows: Its rows.
        seconds: What it took.
        limit: What it takes at least.
    """

    context: int
    rows: int
    seconds: float
    limit: float


@dataclass(frozen=True)
class Measurements:
    """What `python -m benchmarks.machine` writes.

    Attributes:
        model: Name of the model that it was measured with.
        file_type: How that is quantized.
        machines: The machine with each number of threads, the fewest first.
        passes: What passes took with the most threads.
    """

    model: str
    file_type: str
    machines: Mapping[int, Machine]
    passes: tuple[MeasuredPass, ...]

    @property
    def machine(self) -> Machine:
        """The machine with the most threads."""
        return self.machines[max(self.machines)]

    def write(self, path: Path) -> None:
        """Writes them as JSON."""
        part = path.with_name(f"{path.name}.part")
        part.write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")
        part.replace(path)


def read_measurements(path: Path) -> Measurements:
    """Reads what `Measurements.write` wrote.

    Raises:
        ArgumentError: There is no such file, or it is something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        machines = {int(threads): _machine(one) for threads, one in found["machines"].items()}
        passes = tuple(MeasuredPass(**one) for one in found["passes"])
        if not machines:
            raise ValueError("no machines")
        return Measurements(found["model"], found["file_type"], machines, passes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArgumentError(
            f"{path} cannot be read ({error!r}); expected what `python -m benchmarks.machine --out {path}` writes"
        ) from error


def _machine(found: Mapping[str, Any]) -> Machine:
    rates = ({int(rows): rate for rows, rate in found[key].items()} for key in ("products", "attention"))
    return Machine(found["name"], found["bandwidth"], *rates)


def memory_bandwidth(threads: int, rounds: int) -> float:
    """Bytes that so many threads read in a second."""
    parts = np.split(np.ones(_MEMORY // 8 // threads * threads, np.int64), threads)
    with ThreadPoolExecutor(threads) as pool:

        def read_all() -> float:
            start = time.perf_counter()
            # numpy lets other threads run while it reduces.
            list(pool.map(np.bitwise_or.reduce, parts))
            return time.perf_counter() - start

        return sum(part.nbytes for part in parts) / min(read_all() for _ in range(rounds))


def pass_seconds(context: Context, trunk: Branch, rounds: int) -> dict[int, float]:
    """Seconds of a pass behind a branch, by its rows."""
    found: dict[int, list[float]] = {rows: [] for rows in ROWS}
    for _ in range(rounds + 1):  # the first one warms up, and can only be slower
        for rows, seconds in found.items():
            with trunk.fork() as branch:
                branch.append([_TOKEN] * rows)
                start = time.perf_counter()
                context.decode()
                seconds.append(time.perf_counter() - start)
    return {rows: min(seconds) for rows, seconds in found.items()}


def measure(model: Model, shape: ModelShape, *, threads: Sequence[int], prefix: int, rounds: int) -> Measurements:
    """Measures everything.

    Args:
        model: A loaded model.
        shape: Its shape.
        threads: Numbers of threads.
        prefix: Tokens that attention is measured behind.
        rounds: How often; the shortest counts.

    Raises:
        ArgumentError: The prefix is too short, or an option is outside its range.
    """
    for name, value in (("threads", min(threads, default=0)), ("prefix", prefix), ("rounds", rounds)):
        if value < 1:
            raise ArgumentError(f"{name} is {value}, expected 1 or more")
    machines: dict[int, Machine] = {}
    behind: dict[int, dict[int, float]] = {}
    for n in sorted(threads):
        print(f"threads: {n}", file=sys.stderr)
        with (
            model.context(n_ctx=prefix + max(ROWS), n_ubatch=max(ROWS), n_threads=n) as context,
            context.branch() as trunk,
        ):
            for length in (_NO_CONTEXT, prefix):
                trunk.append([_TOKEN] * (length - trunk.length))
                context.decode()
                behind[length] = pass_seconds(context, trunk, rounds)
        read = max(memory_bandwidth(n, rounds), shape.weight_bytes / behind[_NO_CONTEXT][1])
        machines[n] = Machine(processor(), read, *rates(shape, behind[_NO_CONTEXT], behind[prefix], prefix))
    passes = tuple(
        MeasuredPass(length, rows, taken, machines[n].limit(pass_costs(shape, (), Pass(length, rows))))
        for length, seconds in behind.items()
        for rows, taken in seconds.items()
    )
    return Measurements(shape.name, shape.file_type, machines, passes)


def rates(
    shape: ModelShape, alone: Mapping[int, float], behind: Mapping[int, float], prefix: int
) -> tuple[dict[int, float], dict[int, float]]:
    """Operations in a second of products and of attention, by rows.

    Args:
        shape: The model.
        alone: Seconds of passes with almost nothing before them, by their rows.
        behind: Seconds of the same behind a prefix.
        prefix: Its tokens.

    Raises:
        ArgumentError: The prefix is too short to make a difference.
    """
    products, attention = {}, {}
    for rows, seconds in alone.items():
        near, far = (pass_costs(shape, (), Pass(length, rows)) for length in (_NO_CONTEXT, prefix))
        products[rows] = (near["weights"].operations + near["logits"].operations) / seconds
        # Noise may leave nothing of the difference where there are few rows.
        if (longer := behind[rows] - seconds) > 0:
            attention[rows] = (far["attention"].operations - near["attention"].operations) / longer
    if not attention:
        raise ArgumentError(
            f"passes behind {prefix} tokens took no longer than with nothing before them; take a longer prefix"
        )
    return products, attention


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a GGUF, larger than the processor's caches")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, usable_processors()}))
    parser.add_argument("--prefix", type=int, default=4096, help="tokens that attention is measured behind")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    try:
        shape = read_shape(options.model)
        with Model(options.model) as model:
            found = measure(model, shape, threads=options.threads, prefix=options.prefix, rounds=options.rounds)
        found.write(options.out)
    except AloraError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
