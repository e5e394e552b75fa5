"""`alora-cli train`: trains an intrinsic from labelled conversations."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from alora_cpp.cli import options, terminal
from alora_cpp.errors import Cancelled
from alora_cpp.train.options import TrainingOptions

if TYPE_CHECKING:
    from alora_cpp.train import TrainingReport
    from alora_cpp.train.adapter_trainer import Step

_DEFAULT = TrainingOptions(name="default")


def add_parser(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "train",
        help="train an intrinsic from labelled conversations",
        description="Train an intrinsic from labelled conversations. All of them are checked first. It writes a PEFT "
        "folder with the adapter's GGUF, its io.yaml and a model card. Needs the extra 'train'.",
    )
    parser.add_argument(
        "base",
        metavar="BASE",
        help="'bundled', a GGUF file, a Hugging Face folder or hub name, or REPO:QUANTIZATION for a GGUF on the hub",
    )
    parser.add_argument(
        "--data",
        metavar="FILE",
        action="append",
        required=True,
        help="labelled conversations as JSON lines, '-' for stdin (repeatable)",
    )
    parser.add_argument("--name", metavar="NAME", required=True, help="the intrinsic's name")
    parser.add_argument("--out", metavar="FOLDER", required=True, type=Path, help="the folder to write")
    parser.add_argument(
        "--gguf", metavar="FILE", type=Path, help="the GGUF that the adapter will run on, if BASE is none itself"
    )
    parser.add_argument(
        "--validation",
        metavar="FILE",
        action="append",
        default=[],
        help="labelled conversations to measure on (repeatable; default: a share of the data)",
    )
    parser.add_argument("--io-yaml", metavar="FILE", type=Path, help="how to ask and read it (default: made from data)")
    parser.add_argument("--resume", action="store_true", help="go on with an unfinished training of the same")
    _add_adapter_options(parser)
    _add_training_options(parser)
    options.add_verbose_option(parser)
    parser.set_defaults(run=run)


def _add_adapter_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("adapter")
    invocation = group.add_mutually_exclusive_group()
    invocation.add_argument(
        "--invocation", metavar="TEXT", help="what invokes it, with control tokens (default: a turn of a role NAME)"
    )
    invocation.add_argument(
        "--invocation-tokens", metavar="N[,N]", dest="invocation", type=_tokens, help="the same as token ids"
    )
    group.add_argument(
        "--activation",
        choices=("start", "end", "empty"),
        default=_DEFAULT.activation,
        help="where it begins to govern: at the invocation's start, at its end, or without one where the reply begins",
    )
    group.add_argument("--kind", choices=("alora", "lora"), default=_DEFAULT.kind, help="(default: %(default)s)")
    group.add_argument(
        "--targets",
        metavar="NAME[,NAME]",
        type=options.names,
        default=list(_DEFAULT.targets),
        help="modules to adapt, or all-linear (default: " + ",".join(_DEFAULT.targets) + ")",
    )
    group.add_argument("--rank", type=int, default=_DEFAULT.rank, metavar="N", help="(default: %(default)s)")
    group.add_argument("--alpha", type=float, metavar="X", help="(default: twice the rank)")
    group.add_argument("--dropout", type=float, default=_DEFAULT.dropout, metavar="X", help="(default: %(default)s)")


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training")
    group.add_argument("--epochs", type=int, default=_DEFAULT.epochs, metavar="N", help="(default: %(default)s)")
    group.add_argument(
        "--learning-rate", type=float, default=_DEFAULT.learning_rate, metavar="X", help="(default: %(default)s)"
    )
    group.add_argument(
        "--batch-size", type=int, default=_DEFAULT.batch_size, metavar="N", help="(default: %(default)s)"
    )
    group.add_argument("--max-length", type=int, metavar="N", help="tokens of an example (default: the base's context)")
    group.add_argument(
        "--validation-share",
        type=float,
        default=_DEFAULT.validation_share,
        metavar="X",
        help="of the data, where --validation names no file (default: %(default)s)",
    )
    group.add_argument(
        "--checkpoint-steps", type=int, metavar="N", help="steps from one checkpoint to the next (default: a tenth)"
    )
    group.add_argument("--seed", type=int, default=_DEFAULT.seed, metavar="N", help="(default: %(default)s)")


def _tokens(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of token ids; expected such as 1,2,3") from None


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    from alora_cpp.train import train_adapter

    options.show_log(arguments)
    names = [name for name in vars(_DEFAULT) if hasattr(arguments, name)]
    training_options = replace(_DEFAULT, **{name: getattr(arguments, name) for name in names})
    shown = _Progress()
    try:
        with _stop_at_interrupt(shown) as should_stop:
            report = train_adapter(
                arguments.base,
                arguments.data,
                arguments.out,
                training_options,
                gguf=arguments.gguf,
                validation=arguments.validation,
                io_yaml=arguments.io_yaml,
                resume=arguments.resume,
                progress=shown.update,
                should_stop=should_stop,
            )
    except Cancelled as stopped:
        print(f"alora-cli: {stopped}", file=sys.stderr)
        return 130
    finally:
        shown.clear()
    _tell(report, arguments)
    return 0


def _tell(report: TrainingReport, arguments: argparse.Namespace) -> None:
    if arguments.kind == "alora" and not report.over_cache:
        print(
            "alora-cli: the base keeps no plain KV cache (it has recurrent or sliding layers), so whole texts were"
            " trained on: right, but slower",
            file=sys.stderr,
        )
    rows = [["loss on validation", f"{report.validation_loss:.4f}"]]
    rows += [[name.replace("_", " "), f"{value:.4f}"] for name, value in report.figures.items()]
    print(terminal.table([f"{report.n_validation} examples, {report.measured_with}", ""], rows))
    print(report.gguf)


class _Progress:
    """How far the training is: a line that stays in place on a terminal, elsewhere a line for each measurement."""

    def __init__(self) -> None:
        self._in_place = sys.stderr.isatty()
        self._began = time.monotonic()
        self._first: int | None = None
        self._measured: float | None = None
        self.is_under_way = False

    def update(self, step: Step) -> None:
        """Shows a step."""
        if self._first is None:
            self._began, self._first = time.monotonic(), step.step
        self.is_under_way = step.step < step.n_steps
        is_measurement = step.validation_loss != self._measured
        self._measured = step.validation_loss
        if self._in_place:
            sys.stderr.write(f"\r\x1b[K{self._line(step)}")
            sys.stderr.flush()
        elif is_measurement:
            print(self._line(step), file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Removes the line that stays in place."""
        if self._in_place and self._first is not None:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _line(self, step: Step) -> str:
        line = f"step {step.step} of {step.n_steps}, loss {step.loss:.4f}"
        if step.validation_loss is not None:
            line += f", on validation {step.validation_loss:.4f}, {step.exact:.1%} exact"
        done = step.step - (self._first or 0)
        if done and self.is_under_way:
            left = (time.monotonic() - self._began) / done * (step.n_steps - step.step)
            line += f", {left:.0f} s left"
        return line


@contextmanager
def _stop_at_interrupt(progress: _Progress) -> Iterator[Callable[[], bool]]:
    """While training is under way, a first Ctrl-C ends it after its step; any other one at once."""
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked or not progress.is_under_way:
            raise KeyboardInterrupt
        asked = True
        print("\nstopping after this step; Ctrl-C again stops at once", file=sys.stderr)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
