"""LoRA against aLoRA: ranks, activations, one token or several, on three tasks and over several seeds.

python -m benchmarks.accuracy --base build/bundled/base --measured build/bundled/measured --data DIR --out results.json

Every task and seed is a run; a finished run is in the file at once, and is not made again. With several GPUs, runs are
spread over them. `python -m benchmarks.accuracy.plot results.json` makes plots and tables of the file.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import multiprocessing
import os
import platform
import queue
import time
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import torch

from benchmarks.accuracy.comparison import TASKS, configurations
from benchmarks.accuracy.one_run import Run, Runner
from training.examples import Rows, start_training_rows
from training.tasks.example import Sources

_log = logging.getLogger("benchmarks.accuracy")
Job = tuple[str, int]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="the base model, a folder of transformers")
    parser.add_argument("--measured", type=Path, required=True, help="the base model's measured answers, for certainty")
    parser.add_argument("--data", type=Path, help="folder of real data; without it, generated text alone")
    parser.add_argument("--out", type=Path, required=True, help="results file; finished runs in it are kept")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--rates", nargs="+", type=float, default=[1e-3, 3e-3], help="the best is chosen by validation")
    parser.add_argument("--examples", type=int, default=50_000, help="conversations to learn from, for each run")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="for everything; shortens schedules if it binds"
    )
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count(), help="that make examples")
    return parser.parse_args()


def _setup() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")


def _work(
    options: argparse.Namespace, device: str, jobs: list[Job], processes: int, ends: float, finished: Queue[Run]
) -> None:
    """One device's runs, one after the other, while other processes make the rows of the next."""
    _setup()
    torch.set_num_threads(max(1, torch.get_num_threads() // 2))
    sources = Sources(options.data, options.measured)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pending = {
            job: start_training_rows(pool, job[0], sources, options.base, options.examples, job[1]) for job in jobs
        }
        runner = Runner(options.base, sources, torch.device(device))
        for position, (task, seed) in enumerate(jobs):
            rows = Rows.joined(pending.pop((task, seed)).get())
            seconds = max(1.0, (ends - time.time()) / (len(jobs) - position))
            finished.put(runner.run(task, seed, rows, options.rates, seconds))


def _devices() -> list[str]:
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu"]


def _environment() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "devices": [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] or [platform.processor()],
        "cores": os.cpu_count(),
    }


def _write(path: Path, results: dict[str, Any]) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(results, separators=(",", ":")), encoding="utf-8")
    part.replace(path)


def main() -> None:
    """Makes the runs that the results file does not have."""
    options = _arguments()
    _setup()
    results: dict[str, Any] = {"environment": _environment(), "settings": {}, "runs": []}
    if options.out.exists():
        results = json.loads(options.out.read_text(encoding="utf-8"))
    settings = {"rates": options.rates, "examples": options.examples, "real data": options.data is not None}
    if results["runs"] and results["settings"] != settings:
        raise SystemExit(f"{options.out} was made with {results['settings']}, not {settings}: name another file")
    results["settings"] = settings
    done = {(run["task"], run["seed"]) for run in results["runs"]}
    jobs = [(task, seed) for seed in options.seeds for task in options.tasks if (task, seed) not in done]
    devices = _devices()[: len(jobs)]
    trainings = sum(len(configurations(task)) * len(options.rates) for task, _ in jobs)
    _log.info("%d runs with %d trainings in all, on %s; %d were made before", len(jobs), trainings, devices, len(done))
    if math.isfinite(options.seconds) and jobs:
        _log.info("at most %.0f s for each run", options.seconds * len(devices) / len(jobs))
    context = multiprocessing.get_context("spawn")
    finished: Queue[Run] = context.Queue()
    ends = time.time() + options.seconds
    workers = [
        context.Process(
            target=_work,
            args=(options, device, jobs[n :: len(devices)], max(1, options.processes // len(devices)), ends, finished),
        )
        for n, device in enumerate(devices)
    ]
    for worker in workers:
        worker.start()
    while len(results["runs"]) < len(done) + len(jobs):
        try:
            results["runs"].append(finished.get(timeout=1))
            _write(options.out, results)
        except queue.Empty:
            if not any(worker.is_alive() for worker in workers):
                raise SystemExit("a run failed; its log is above, and finished runs are kept") from None
    for worker in workers:
        worker.join()
