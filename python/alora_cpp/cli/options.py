"""Options that several commands share, in llama.cpp's spelling where llama.cpp has them."""

from __future__ import annotations

import argparse
import sys

from alora_cpp.cli.terminal import Progress
from alora_cpp.log import set_log_sink
from alora_cpp.model import Model


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """How to load and compute."""
    group = parser.add_argument_group("model and machine")
    group.add_argument("-c", "--ctx-size", type=int, metavar="N", help="KV cells (default: the model's, at most 8192)")
    group.add_argument("-t", "--threads", type=int, default=0, metavar="N", help="threads (default: physical cores)")
    group.add_argument(
        "-ngl", "--gpu-layers", type=int, default=-1, metavar="N", help="layers on the GPU (default: all)"
    )
    add_verbose_option(parser)


def add_conversation_options(parser: argparse.ArgumentParser) -> None:
    """Which adapters to load, and what the conversation is grounded in."""
    parser.add_argument(
        "--adapter",
        metavar="NAME=PATH",
        action="append",
        default=[],
        type=named_value,
        help="an intrinsic's adapter file (repeatable)",
    )
    parser.add_argument(
        "--documents", metavar="FILE", action="append", default=[], help="text or JSON documents (repeatable)"
    )


def names(text: str) -> list[str]:
    """Reads NAME[,NAME]."""
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} names none; expected NAME[,NAME]")
    return found


def named_value(text: str) -> tuple[str, str]:
    """Reads NAME=VALUE."""
    name, _, value = text.partition("=")
    if not name or not value:
        raise argparse.ArgumentTypeError(f"{text!r} has no name or nothing after '='; expected NAME=VALUE")
    return name, value


def add_verbose_option(parser: argparse.ArgumentParser) -> None:
    """Whether llama.cpp's log shows."""
    parser.add_argument("-v", "--verbose", action="store_true", help="show llama.cpp's log on stderr")


def show_log(arguments: argparse.Namespace) -> None:
    """Sends llama.cpp's log to stderr if that was asked for."""

    def write(_level: int, line: str) -> None:
        sys.stderr.write(line)

    if arguments.verbose:
        set_log_sink(write)


def load_model(name: str, arguments: argparse.Namespace) -> Model:
    """The model of that name: `bundled`, or a GGUF file."""
    if name == "bundled":
        return Model.bundled()
    with Progress(f"loading {name}") as progress:
        return Model(name, n_gpu_layers=arguments.gpu_layers, progress=progress.update)
