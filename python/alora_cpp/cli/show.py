"""`alora-cli show`: the facts of a GGUF file, a model or an adapter, without loading its weights."""

from __future__ import annotations

import argparse
import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alora_cpp.cli import terminal
from alora_cpp.errors import AloraError
from alora_cpp.model import BUNDLED

if TYPE_CHECKING:
    from gguf import GGUFReader


def add_parser(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "show",
        help="print the facts of a GGUF model or adapter",
        description="Print the facts of a GGUF file, a model or an adapter.",
    )
    parser.add_argument("file", metavar="FILE", help="a GGUF file, or 'bundled'")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    facts = read_facts(BUNDLED if arguments.file == "bundled" else Path(arguments.file))
    if arguments.json:
        print(json.dumps(facts, ensure_ascii=False, indent=2))
        return 0
    width = max(map(len, facts))
    for key, value in facts.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        indented = text.rstrip().replace("\n", "\n" + " " * (width + 2))
        print(f"{terminal.paint(key.ljust(width), terminal.BOLD)}  {indented}")
    return 0


def read_facts(path: Path) -> dict[str, Any]:
    """The facts of a GGUF file.

    Raises:
        AloraError: It is no GGUF file that can be read.
    """
    from gguf import GGUFReader

    if not path.is_file():
        raise AloraError(f"{path}: no such file; expected a GGUF model or adapter")
    try:
        reader = GGUFReader(path)
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError, struct.error) as error:
        raise AloraError(f"{path}: not a complete GGUF file: {error}") from None
    kind = _text(reader, "general.type") or "model"
    facts: dict[str, Any] = {"file": str(path), "kind": kind, "size": f"{path.stat().st_size / 1e6:.1f} MB"}
    facts.update(_adapter_facts(reader) if kind == "adapter" else _model_facts(reader))
    facts["licence"] = _text(reader, "general.license")
    facts["description"] = _text(reader, "general.description")
    return {key: value for key, value in facts.items() if value not in (None, "", [])}


def _model_facts(reader: GGUFReader) -> dict[str, Any]:
    architecture = _text(reader, "general.architecture")
    return {
        "name": _text(reader, "general.name"),
        "architecture": architecture,
        "parameters": f"{sum(int(tensor.n_elements) for tensor in reader.tensors):,}",
        "blocks": _value(reader, f"{architecture}.block_count"),
        "width": _value(reader, f"{architecture}.embedding_length"),
        "context": _value(reader, f"{architecture}.context_length"),
        "vocabulary": len(_values(reader, "tokenizer.ggml.tokens")),
        "types": _tensor_types(reader),
        "chat template": "yes" if _text(reader, "tokenizer.chat_template") else "no",
    }


def _adapter_facts(reader: GGUFReader) -> dict[str, Any]:
    low = [tensor for tensor in reader.tensors if tensor.name.endswith(".lora_a")]
    return {
        "name": _text(reader, "general.name"),
        "base": _text(reader, "general.base_model.0.name"),
        "architecture": _text(reader, "general.architecture"),
        "rank": sorted({int(tensor.shape[1]) for tensor in low}),
        "alpha": _value(reader, "adapter.lora.alpha"),
        "targets": sorted({tensor.name.split(".")[2] for tensor in low if tensor.name.startswith("blk.")}),
        "invocation": _values(reader, "adapter.alora.invocation_tokens"),
        "activation offset": _value(reader, "alora.activation_offset"),
        "types": _tensor_types(reader),
        "io.yaml": _text(reader, "alora.io_yaml"),
    }


def _tensor_types(reader: GGUFReader) -> list[str]:
    return sorted({tensor.tensor_type.name for tensor in reader.tensors})


def _value(reader: GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None else field.contents()


def _values(reader: GGUFReader, key: str) -> list[Any]:
    value = _value(reader, key)
    return list(value) if isinstance(value, list) else []


def _text(reader: GGUFReader, key: str) -> str | None:
    value = _value(reader, key)
    return value if isinstance(value, str) else None
