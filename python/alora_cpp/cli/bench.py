"""`alora-cli bench`: how fast a model and its intrinsics are on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alora_cpp.cli import options, terminal

if TYPE_CHECKING:
    from alora_cpp.bench import Measurements, Setting


def add_parser(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "bench",
        help="measure how fast a model and its intrinsics are here",
        description="Measure how fast a model and its intrinsics are on this machine, each kind of work beside what it "
        "would take otherwise. Takes about a minute, and less where the model is small.",
    )
    parser.add_argument("model", metavar="MODEL", help=options.MODEL_HELP)
    parser.add_argument(
        "--prompt",
        metavar="N[,N]",
        type=_counts,
        help="tokens of the conversations to measure after (default: those of 256, 1024 and 4096 that fit in a minute)",
    )
    parser.add_argument(
        "--rounds", metavar="N", type=_count, help="how often each work is done (default: 3 times, if time allows)"
    )
    options.add_adapter_options(parser)
    parser.add_argument("--json", action="store_true", help="all figures as JSON")
    parser.add_argument("--plot", metavar="FILE.png", type=Path, help="draw the figures (needs the extra 'eval')")
    options.add_model_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    if arguments.plot is not None:
        from alora_cpp.evaluation.plots import check_plottable

        check_plottable(arguments.plot)
    from alora_cpp.cli.bench_text import as_dict, summary

    setting, measurements = _measure(arguments)
    if arguments.json:
        print(json.dumps(as_dict(setting, measurements), ensure_ascii=False, indent=2))
    else:
        print(summary(setting, measurements))
    if arguments.plot is not None:
        from alora_cpp.bench.plot import draw

        draw(setting, measurements, arguments.plot)
    return 0


def _measure(arguments: argparse.Namespace) -> tuple[Setting, Measurements]:
    # The other commands start without these.
    from alora_cpp.bench import callees, describe, measure, overheard

    with (
        overheard(sys.stderr.write if arguments.verbose else None) as buffers,
        options.load_model(arguments.model, n_gpu_layers=arguments.gpu_layers) as model,
    ):
        with terminal.Progress("loading adapters"):
            called = callees(model, arguments.adapter, force=arguments.force, switch_folder=arguments.switch_folder)
        with terminal.Progress("measuring") as progress:
            measurements = measure(
                model,
                called,
                buffers,
                prompts=arguments.prompt,
                rounds=arguments.rounds,
                n_ctx=arguments.ctx_size,
                n_threads=arguments.threads,
                progress=progress.update,
            )
        return describe(model, called, buffers, n_threads=arguments.threads), measurements


def _count(text: str) -> int:
    """Reads a number from 1 on."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _counts(text: str) -> list[int]:
    """Reads N[,N]."""
    return [_count(part.strip()) for part in text.split(",")]
