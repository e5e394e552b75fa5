"""How fast one installation of alora_cpp is against another: a wheel's chosen kernels against a build for this machine.

    python benchmarks/variants.py --native PYTHON --wheel PYTHON [--model FILE] [--rounds 9] [--threads 1] [--json]

Each PYTHON is the interpreter of an environment that has one of them. Both are asked in turns, each in a process of its
own that holds the model throughout; the order changes from round to round, and the first round does not count. Printed
are medians in milliseconds, and the median of the ratios within the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from alora_cpp.bundled_model import BUNDLED

# Rows of a pass, and tokens before it.
WORKS = {
    "reading 256 tokens": (256, 1),
    "a token after 256": (1, 256),
    "four rows after 1,024": (4, 1024),
    "sixteen rows after 1,024": (16, 1024),
}
_TOKEN = 2
_REPEATS = 5  # of a pass; the shortest counts


def serve(model_path: str, threads: int) -> None:
    """Does the works that are named on stdin, and says on stdout how many seconds a pass took."""
    from alora_cpp import Model
    from alora_cpp.processor import chosen_variant

    with Model(model_path) as model, model.context(n_ctx=2048, n_ubatch=256, n_threads=threads) as context:
        print(chosen_variant()[0].name, flush=True)
        for line in sys.stdin:
            rows, before = WORKS[line.strip()]
            with context.branch() as trunk:
                trunk.append([_TOKEN] * before)
                context.decode()
                taken = []
                for _ in range(_REPEATS):
                    with trunk.fork() as branch:
                        branch.append([_TOKEN] * rows)
                        began = time.perf_counter()
                        context.decode()
                        taken.append(time.perf_counter() - began)
            print(min(taken), flush=True)


class Installation:
    """A process with one of them."""

    def __init__(self, python: Path, model: Path, threads: int) -> None:
        command = [str(python), __file__, "--serve", str(model), "--threads", str(threads)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.variant = self._answer()

    def seconds(self, work: str) -> float:
        """What a pass of that work takes now."""
        print(work, file=_open(self._process.stdin), flush=True)
        return float(self._answer())

    def close(self) -> None:
        """Ends the process."""
        _open(self._process.stdin).close()
        self._process.wait()

    def _answer(self) -> str:
        line = _open(self._process.stdout).readline()
        if not line:
            raise SystemExit(f"{self._process.args!r} ended with {self._process.wait()}: see what it said above")
        return line.strip()


def _open(stream: IO[str] | None) -> IO[str]:
    assert stream is not None  # it is a pipe
    return stream


def measure(native: Installation, wheel: Installation, rounds: int) -> dict[str, dict[str, float]]:
    """Medians of what each takes, in milliseconds, and of how much longer the wheel takes."""
    taken: dict[str, list[tuple[float, float]]] = {work: [] for work in WORKS}
    for number in range(rounds + 1):
        for work, pairs in taken.items():
            order = (native, wheel) if number % 2 else (wheel, native)
            seconds = {one: one.seconds(work) for one in order}
            if number:
                pairs.append((seconds[native], seconds[wheel]))
    return {
        work: {
            "native": 1000 * statistics.median(pair[0] for pair in pairs),
            "wheel": 1000 * statistics.median(pair[1] for pair in pairs),
            "ratio": statistics.median(pair[1] / pair[0] for pair in pairs),
        }
        for work, pairs in taken.items()
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--native", type=Path, help="Python of the environment with a build for this machine")
    parser.add_argument("--wheel", type=Path, help="Python of the environment with the wheel")
    parser.add_argument("--model", type=Path, default=BUNDLED, help="a GGUF (default: the bundled model)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.threads)
        return
    if options.native is None or options.wheel is None or options.rounds < 1:
        parser.error("--native and --wheel are needed, and one round or more")
    native, wheel = (
        Installation(one, options.model.resolve(), options.threads) for one in (options.native, options.wheel)
    )
    found = measure(native, wheel, options.rounds)
    native.close()
    wheel.close()
    if options.json:
        print(json.dumps({"native": native.variant, "wheel": wheel.variant, "works": found}, indent=1))
        return
    print(f"{'':26}{native.variant + ' ms':>14}{wheel.variant + ' ms':>18}{'ratio':>8}")
    for work, figures in found.items():
        print(f"{work:26}{figures['native']:14.2f}{figures['wheel']:18.2f}{figures['ratio']:8.3f}")


if __name__ == "__main__":
    main()
