"""Options that several commands share, in llama.cpp's spelling where llama.cpp has them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from alora_cpp.bundled_model import BUNDLED
from alora_cpp.cli.terminal import Progress
from alora_cpp.errors import AdapterNotFoundError

# Parsers are made of what is here: what computes is imported when a command does its work.
if TYPE_CHECKING:
    from alora_cpp.model import Model

MODEL_HELP = "a GGUF file, 'bundled', or REPO[:QUANTIZATION] on the Hugging Face hub"


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
    add_adapter_options(parser)
    parser.add_argument(
        "--documents", metavar="FILE", action="append", default=[], help="text or JSON documents (repeatable)"
    )


def add_adapter_options(parser: argparse.ArgumentParser) -> None:
    """Which adapters to load."""
    parser.add_argument(
        "--adapter",
        metavar="NAME=PATH",
        action="append",
        default=[],
        type=named_value,
        help="an intrinsic's adapter: a GGUF file, a PEFT folder, or REPO#NAME on the hub (repeatable)",
    )
    parser.add_argument(
        "--force", action="store_true", help="use adapters that were made for another base, if they can be computed"
    )
    add_switch_option(parser)


def add_argument_option(parser: argparse.ArgumentParser) -> None:
    """What the intrinsics are asked with."""
    parser.add_argument(
        "--argument",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        type=named_value,
        help="what an intrinsic's instruction inserts (repeatable)",
    )


def add_switch_option(parser: argparse.ArgumentParser) -> None:
    """Where the adapters within a Granite Switch model are described."""
    parser.add_argument(
        "--switch-folder",
        metavar="FOLDER",
        type=_folder,
        help="of a Granite Switch model: holds adapter_index.json and io_configs/ (default: beside the model)",
    )


def _folder(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is no folder")
    return path


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
        from alora_cpp.log import set_log_sink

        set_log_sink(write)


def load_model(name: str, *, n_gpu_layers: int) -> Model:
    """The model of that name: `bundled`, a GGUF file, or one on the hub, which is downloaded unless that was done.

    Raises:
        AloraError: It cannot be had or loaded.
    """
    from alora_cpp.model import Model

    path = _model_path(name)
    with Progress(f"loading {name}") as progress:
        return Model(path, n_gpu_layers=n_gpu_layers, progress=progress.update)


def _model_path(name: str) -> Path:
    if name == "bundled":
        return BUNDLED
    path = Path(name)
    if not path.exists():
        from alora_cpp.hub import download_model, is_reference

        if is_reference(name):
            return download_model(name)
    return path


def load_intrinsics(model: Model, asked: Iterable[str], arguments: argparse.Namespace) -> None:
    """Loads the adapters that were given, and finds those that are asked for besides.

    Raises:
        AloraError: One given cannot be loaded, or one asked for is not found.
    """
    for name, source in arguments.adapter:
        model.load_intrinsic(source, name=name, force=arguments.force)
    for name in asked:
        find_intrinsic(model, name, arguments)


def find_intrinsic(model: Model, name: str, arguments: argparse.Namespace) -> None:
    """Loads an intrinsic by its name, unless it is loaded already.

    Raises:
        AloraError: It is not found, or cannot be loaded.
    """
    from alora_cpp.finding import find

    try:
        model.intrinsic(name)
    except AdapterNotFoundError:
        with Progress(f"loading {name}"):
            place = find(model, name, force=arguments.force, switch_folder=arguments.switch_folder)
            model.load_intrinsic(place, name=name)
