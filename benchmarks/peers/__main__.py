"""How fast we are beside what people use today, on this machine.

    python -m benchmarks.peers --cache FOLDER --out results.json [--shape 1b|3b|tiny] [--quantization q4_k_m|q8_0]
                               [--contenders NAME ...] [--works NAME ...] [--prompts 256 1024 4096] [--rounds 5]
                               [--threads N] [--patience 120]

Models with random weights are written to the cache first. Every contender runs in a process of its own; what it prints
is in `FOLDER/logs`. Finished rounds are in the results file at once, and are not measured again.
`python -m benchmarks.peers.report results.json` makes tables and plots of it.
"""

from __future__ import annotations

import argparse
import logging
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

from alora_cpp.bench.machine import processor, usable_processors
from benchmarks.models import INVOCATION, SHAPES, Shape
from benchmarks.peers.contender import CONTENDERS, CannotDoError, Setting
from benchmarks.peers.driver import WorkerFailedError, started
from benchmarks.peers.files import QUANTIZATIONS, prepare
from benchmarks.peers.results import ResultsError, resume
from benchmarks.peers.rounds import Plan, play
from benchmarks.peers.works import WORKS, room

_F16_BYTES = 2


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, required=True, help="folder that keeps the generated models")
    parser.add_argument("--out", type=Path, required=True, help="results file; finished rounds in it are kept")
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    parser.add_argument("--quantization", choices=QUANTIZATIONS, default="q4_k_m")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--prompts", nargs="+", type=int, default=[256, 1024, 4096], help="tokens of the prompts")
    parser.add_argument("--rounds", type=int, default=5, help="for each work and prompt, after one that warms up")
    parser.add_argument("--threads", type=int, default=usable_processors(), help="for each; they take turns")
    parser.add_argument("--patience", type=float, default=120, help="seconds; who takes longer is measured only once")
    return parser.parse_args()


def main() -> None:
    """Measures what the results file does not have."""
    options = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    shape: Shape = SHAPES[options.shape]
    settings = {
        "shape": shape.name,
        "quantization": options.quantization,
        "threads": options.threads,
        "contenders": options.contenders,
        "machine": f"{processor()}, {usable_processors()} logical processors, {platform.system()}",
    }
    plan = Plan(options.works, options.prompts, options.rounds, shape.vocab, options.patience)
    try:
        results = resume(options.out, settings)
        if not plan.left(results):
            raise SystemExit(f"{options.out} has all of these rounds already")
        options.cache.mkdir(parents=True, exist_ok=True)
        files = prepare(shape, options.quantization, options.cache, options.contenders)
        setting = Setting(
            n_ctx=max(room(prompt, options.works) for prompt in options.prompts),
            threads=options.threads,
            invocation=INVOCATION,
            kv_token_bytes=2 * shape.layers * shape.kv * _F16_BYTES,
        )
        with started(options.contenders, options.cache / "logs") as remotes:
            loaded = {name: remote.load(files, setting) for name, remote in remotes.items()}

            def finished() -> None:
                for name, remote in remotes.items():
                    held: dict[str, Any] = {**asdict(loaded[name]), **remote.memory()}
                    results.contenders[name] = {**held, "n_ctx": setting.n_ctx, "waiting": remote.waiting_seconds}
                results.write(options.out)

            play(plan, remotes, results, finished)
    except (CannotDoError, ResultsError, WorkerFailedError) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
