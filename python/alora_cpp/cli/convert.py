"""`alora-cli convert`: PEFT folders to GGUF adapters and back, and Granite Switch models taken apart."""

from __future__ import annotations

import argparse
from enum import Enum
from pathlib import Path
from typing import Any

from alora_cpp.errors import ConversionError

DESCRIPTION = """\
Convert what INPUT is:
  a PEFT folder            to a GGUF adapter (FILE)
  a GGUF adapter           to a PEFT folder (FOLDER)
  a Granite Switch model   to a base and one GGUF adapter for each of its built-in ones (FOLDER)
"""

_SWITCH_ARCHITECTURE = "graniteswitch"


class _Input(Enum):
    PEFT_FOLDER = "a PEFT folder"
    ADAPTER = "a GGUF adapter"
    SWITCH_MODEL = "a Granite Switch model"


# Which kinds of input an option is for.
_OPTIONS: dict[str, tuple[_Input, ...]] = {
    "base": (_Input.PEFT_FOLDER, _Input.ADAPTER),
    "outtype": (_Input.PEFT_FOLDER,),
    "force": (_Input.PEFT_FOLDER,),
    "name": (_Input.PEFT_FOLDER, _Input.SWITCH_MODEL),
}


def add_parser(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "convert",
        help="convert adapters from PEFT to GGUF or back, or take a Granite Switch model apart",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", metavar="INPUT", help="a folder or a GGUF file")
    parser.add_argument("--outfile", metavar="FILE|FOLDER", required=True, help="what to write")
    parser.add_argument("--base", metavar="MODEL", help="the base: a GGUF file or a folder with config.json")
    parser.add_argument(
        "--outtype", choices=["f32", "f16", "bf16", "q8_0"], help="the numbers of a GGUF adapter (default: f16)"
    )
    parser.add_argument(
        "--name",
        metavar="NAME",
        action="append",
        help="the GGUF adapter's name (default: the folder's); or only this one of the built-in adapters"
        " (may be given several times)",
    )
    parser.add_argument(
        "--force", action="store_true", default=None, help="convert an adapter that names another base, too"
    )
    parser.set_defaults(run=run, usage_error=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    source = Path(arguments.input)
    kind = _kind_of(source)
    for option, kinds in _OPTIONS.items():
        if getattr(arguments, option) is not None and kind not in kinds:
            arguments.usage_error(f"--{option} means nothing where INPUT is {kind.value}, as {source} is")
    for path in _convert(source, kind, arguments):
        print(path)
    return 0


def _convert(source: Path, kind: _Input, arguments: argparse.Namespace) -> list[Path]:
    from alora_cpp.convert import convert_adapter, take_apart, write_peft_folder

    if kind is _Input.SWITCH_MODEL:
        return list(take_apart(source, arguments.outfile, names=arguments.name))
    if kind is _Input.ADAPTER:
        return [write_peft_folder(source, arguments.outfile, base=arguments.base)]
    if arguments.name is not None and len(arguments.name) > 1:
        arguments.usage_error("an adapter has one --name")
    name = None if arguments.name is None else arguments.name[0]
    outtype = arguments.outtype or "f16"
    force = bool(arguments.force)
    return [convert_adapter(source, arguments.outfile, base=arguments.base, outtype=outtype, name=name, force=force)]


def _kind_of(source: Path) -> _Input:
    from alora_cpp.convert.gguf_header import read_header

    if source.is_dir():
        return _Input.PEFT_FOLDER
    if not source.is_file():
        raise ConversionError(f"{source} does not exist; expected a PEFT folder or a GGUF file")
    try:
        values = read_header(source).values
    except ValueError as error:
        raise ConversionError(
            f"{source} cannot be read as GGUF ({error});"
            " expected a PEFT folder, a GGUF adapter or a Granite Switch model"
        ) from error
    if values.get("general.type") == "adapter":
        return _Input.ADAPTER
    architecture = values.get("general.architecture")
    if architecture == _SWITCH_ARCHITECTURE:
        return _Input.SWITCH_MODEL
    raise ConversionError(
        f"{source} is a model of architecture {architecture!r}; expected a PEFT folder, a GGUF adapter or a Granite"
        " Switch model: an ordinary model has no adapters in it"
    )
