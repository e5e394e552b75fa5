"""The whole making of the bundled model, stage by stage: what `python -m training` runs.

python -m training --data DIR --out build/bundled
"""

from __future__ import annotations

import argparse
import logging
import math
import multiprocessing
import time
from pathlib import Path

import torch
from transformers import GraniteForCausalLM

from training.base_model import granite_config, load_model, train_base
from training.certainty import Measured, balanced, load, measure, save
from training.corpus import sample_texts, write_corpus
from training.evaluate import report
from training.examples import Row, rows_of, training_rows
from training.export_gguf import export
from training.intrinsics import train_intrinsic
from training.showcase import showcase
from training.tasks import INTRINSICS
from training.tokenizer import Encoder, load_tokenizer, train_tokenizer

_log = logging.getLogger("training")
STAGES = ("tokenizer", "base", "refine", "measure", "intrinsics", "export", "figures")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of real data; without it, generated text alone")
    parser.add_argument("--out", type=Path, default=Path("build/bundled"), help="folder to write to")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, help="what to do; all by default")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--windows", type=int, default=65_536, help="size of the corpus, in context lengths")
    parser.add_argument("--steps", type=int, default=10_250, help="steps of the base model")
    parser.add_argument("--refine-windows", type=int, default=24_576, help="likewise, of the second phase")
    parser.add_argument("--refine-steps", type=int, default=3000, help="likewise")
    parser.add_argument("--examples", type=int, default=120_000, help="examples per intrinsic")
    parser.add_argument("--epochs", type=int, default=4, help="how often an intrinsic sees its examples")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the certainty questions to ask")
    parser.add_argument("--windows-per-step", type=int, default=32)
    parser.add_argument("--pretrain-seconds", type=float, default=math.inf, help="shortens the schedule if it binds")
    parser.add_argument("--refine-seconds", type=float, default=math.inf, help="likewise")
    parser.add_argument("--intrinsics", nargs="+", choices=INTRINSICS, default=INTRINSICS, help="which to train")
    parser.add_argument("--intrinsic-seconds", type=float, default=math.inf, help="likewise, per intrinsic")
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    return parser.parse_args()


def _make_tokenizer(options: argparse.Namespace) -> None:
    texts = sample_texts(options.data, max(500, min(40_000, options.windows)), options.seed)
    train_tokenizer(texts).save_pretrained(options.out / "base")


def _train_base(options: argparse.Namespace, model: GraniteForCausalLM, refine: bool) -> None:
    base = options.out / "base"
    train_base(
        model,
        lambda: write_corpus(
            options.data,
            base,
            options.refine_windows if refine else options.windows,
            options.seed,
            options.processes,
            refine,
        ),
        steps=options.refine_steps if refine else options.steps,
        rate=1.2e-3 if refine else 2e-3,
        windows_per_step=options.windows_per_step,
        seconds=options.refine_seconds if refine else options.pretrain_seconds,
        seed=options.seed,
    )
    model.save_pretrained(base)
    showcase(base)


def _make_base(options: argparse.Namespace) -> None:
    torch.manual_seed(options.seed)
    model = GraniteForCausalLM(granite_config(load_tokenizer(options.out / "base")))
    _log.info("base model: %.2f M parameters", sum(p.numel() for p in model.parameters()) / 1e6)
    _train_base(options, model, refine=False)


def _refine_base(options: argparse.Namespace) -> None:
    _train_base(options, load_model(options.out / "base"), refine=True)


def _make_measurements(options: argparse.Namespace) -> None:
    base = options.out / "base"
    train, held_out = measure(load_model(base), load_tokenizer(base), options.data, options.seed, options.scale)
    save(train, options.out / "certainty_train.jsonl")
    save(balanced(held_out, 60, options.seed), options.out / "certainty_held_out.jsonl")
    for rows, what in ((train, "train"), (held_out, "held out")):
        counts = {label: sum(row.label == label for row in rows) for label in "0123456789"}
        right = sum(row.right for row in rows) / max(1, len(rows))
        _log.info("certainty, %s: %d answers, %.3f right, labels %s", what, len(rows), right, counts)


def _intrinsic_rows(name: str, options: argparse.Namespace) -> list[Row]:
    base = options.out / "base"
    if name != "certainty":
        return training_rows(name, options.data, base, options.examples, options.seed, options.processes)
    rows: list[Measured] = load(options.out / "certainty_train.jsonl")
    chosen = balanced(rows, max(1, options.examples // 40), options.seed)
    return rows_of([row.example(options.data) for row in chosen], name, Encoder(load_tokenizer(base)))


def _make_intrinsic(name: str, options: argparse.Namespace) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    rows = _intrinsic_rows(name, options)
    train_intrinsic(
        options.out / "base",
        name,
        rows,
        options.out / name,
        epochs=options.epochs * (3 if name == "certainty" else 1),  # of those there are fewer
        seconds=options.intrinsic_seconds,
        seed=options.seed,
    )


def _make_intrinsics(options: argparse.Namespace) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_make_intrinsic, args=(name, options)) for name in options.intrinsics]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise RuntimeError("an intrinsic could not be trained; its log is above")


def _write_figures(options: argparse.Namespace) -> None:
    lines = report(options.out, options.data, options.out / "certainty_held_out.jsonl")
    (options.out / "figures.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def main() -> None:
    """Runs the stages in order."""
    options = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    options.out.mkdir(parents=True, exist_ok=True)
    actions = {
        "tokenizer": _make_tokenizer,
        "base": _make_base,
        "refine": _refine_base,
        "measure": _make_measurements,
        "intrinsics": _make_intrinsics,
        "export": lambda o: export(o.out / "base", o.out / "alora-tiny.gguf"),
        "figures": _write_figures,
    }
    for stage in STAGES:
        if stage in options.stages:
            started = time.monotonic()
            actions[stage](options)
            _log.info("%s: %.0f s", stage, time.monotonic() - started)
