"""`alora-cli convert`: a PEFT folder to a GGUF adapter."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "convert",
        help="convert a PEFT adapter folder to GGUF",
        description="Convert a PEFT LoRA or aLoRA folder to a GGUF adapter.",
    )
    parser.add_argument("folder", metavar="PEFT_FOLDER", help="holds adapter_config.json, adapter_model.safetensors")
    parser.add_argument("--outfile", metavar="FILE", required=True, help="the GGUF file to write")
    parser.add_argument("--base", metavar="MODEL", help="the base: a GGUF file or a folder with config.json")
    parser.add_argument("--outtype", choices=["f32", "f16", "bf16", "q8_0"], default="f16", help="default: f16")
    parser.add_argument("--name", metavar="NAME", help="the adapter's name (default: the folder's)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    from alora_cpp.convert import convert_adapter

    written = convert_adapter(
        arguments.folder, arguments.outfile, base=arguments.base, outtype=arguments.outtype, name=arguments.name
    )
    print(written)
    return 0
