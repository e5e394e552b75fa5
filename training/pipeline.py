"""The whole making of the bundled model, stage by stage: what `python -m training` runs.

python -m training --data DIR --out build/bundled
"""

from __future__ import annotations

import argparse
import logging
import math
import multiprocessing
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import GraniteForCausalLM

from training.base_model import granite_config, load_model, save_model
from training.base_training import Schedule, train_base
from training.certainty import measure
from training.commands import record
from training.corpus import Corpus, sample_texts
from training.fleet.intrinsics import train_intrinsics
from training.reading.mix import Phase
from training.showcase import showcase
from training.tasks.example import Sources
from training.tasks.intrinsics import INTRINSICS
from training.tokenizer import CONTEXT_LENGTH, load_tokenizer, train_tokenizer

_log = logging.getLogger("training")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of real data; without it, generated text alone")
    parser.add_argument("--out", type=Path, default=Path("build/bundled"), help="folder to write to")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), help="what to do; all by default")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--windows", type=int, default=240_000, help="size of the corpus, in windows of 1,024 tokens")
    parser.add_argument("--steps", type=int, default=14_000, help="steps of the base model")
    parser.add_argument("--seconds", type=float, default=math.inf, help="shortens the schedule if it binds")
    parser.add_argument("--refine-windows", type=int, default=80_000, help="of the second phase, of 2,048 tokens")
    parser.add_argument("--refine-steps", type=int, default=6_000, help="likewise")
    parser.add_argument("--refine-seconds", type=float, default=math.inf, help="likewise")
    parser.add_argument("--tokens-per-step", type=int, default=65_536)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the certainty questions to ask")
    parser.add_argument("--examples", type=int, default=120_000, help="examples per task, of safety twice as many")
    parser.add_argument("--intrinsics", nargs="+", choices=list(INTRINSICS), default=list(INTRINSICS))
    parser.add_argument("--intrinsic-seconds", type=float, default=math.inf, help="for all of them together")
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    return parser.parse_args()


def _sources(options: argparse.Namespace) -> Sources:
    return Sources(data=options.data, measured=options.out / "measured")


def _make_tokenizer(options: argparse.Namespace) -> None:
    texts = sample_texts(options.data, max(500, min(40_000, options.windows)), options.seed)
    train_tokenizer(texts).save_pretrained(options.out / "base")


def _read(
    options: argparse.Namespace, model: GraniteForCausalLM, phase: Phase, length: int, schedule: Schedule
) -> None:
    base = options.out / "base"
    windows = options.windows if phase == "pretrain" else options.refine_windows
    corpus = Corpus(options.data, base, phase, windows, length, options.seed)
    train_base(model, corpus.shards(options.processes), length, schedule)
    save_model(model, base)
    showcase(base)


def _make_base(options: argparse.Namespace) -> None:
    torch.manual_seed(options.seed)
    model = GraniteForCausalLM(granite_config(load_tokenizer(options.out / "base")))
    _log.info("base model: %.2f M parameters", sum(p.numel() for p in model.parameters()) / 1e6)
    schedule = Schedule(options.steps, 2e-3, options.tokens_per_step, seconds=options.seconds, seed=options.seed)
    _read(options, model, "pretrain", CONTEXT_LENGTH // 2, schedule)


def _refine_base(options: argparse.Namespace) -> None:
    model = load_model(options.out / "base")
    schedule = Schedule(
        options.refine_steps,
        1.2e-3,
        options.tokens_per_step,
        rounds=0.4,
        seconds=options.refine_seconds,
        seed=options.seed,
    )
    _read(options, model, "refine", CONTEXT_LENGTH, schedule)


def _measure(options: argparse.Namespace) -> None:
    base = options.out / "base"
    measure(load_model(base), load_tokenizer(base), _sources(options), options.seed, options.scale)


def _make_intrinsics(options: argparse.Namespace) -> None:
    train_intrinsics(
        options.out / "base",
        [INTRINSICS[name] for name in options.intrinsics],
        _sources(options),
        options.out,
        examples=options.examples,
        seconds=options.intrinsic_seconds,
        seed=options.seed,
        processes=options.processes,
    )


_ACTIONS: dict[str, Callable[[argparse.Namespace], None]] = {
    "tokenizer": _make_tokenizer,
    "base": _make_base,
    "refine": _refine_base,
    "measure": _measure,
    "intrinsics": _make_intrinsics,
}
STAGES = tuple(_ACTIONS)


def main() -> None:
    """Runs the stages in order."""
    options = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    options.out.mkdir(parents=True, exist_ok=True)
    record(sys.argv[1:], options.out, afresh=STAGES[0] in options.stages)
    for stage in STAGES:
        if stage in options.stages:
            started = time.monotonic()
            _ACTIONS[stage](options)
            _log.info("%s: %.0f s", stage, time.monotonic() - started)
