"""Takes the base out of a Granite Switch model: a granite, its keys and numbers copied byte for byte."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import gguf

from alora_cpp.errors import ConversionError

from .adapter_file import StoredMatrix
from .switch_model import ARCHITECTURE, SwitchModel

BASE_ARCHITECTURE = "granite"

_FUSED = ".attn_qkv.weight"
_PARTS = ("attn_q", "attn_k", "attn_v")
# What only the router and the adapters need; the router counts as one more layer where llama.cpp saved the model.
_LEFT_OUT = (f"{ARCHITECTURE}.adapters.", f"{ARCHITECTURE}.nextn_predict_layers")


class _Piece(NamedTuple):
    """A tensor of the base, and where its bytes are in the composed model."""

    name: str
    shape: tuple[int, ...]
    type: gguf.GGMLQuantizationType
    offset: int
    size: int


def write_base(model: SwitchModel, path: Path) -> None:
    """Writes the base.

    Args:
        model: The composed model.
        path: The file to write.

    Raises:
        ConversionError: The composed model is damaged.
        OSError: It cannot be written.
    """
    pieces = list(_pieces(model))
    alignment = int(model.header.values.get("general.alignment", gguf.GGUF_DEFAULT_ALIGNMENT))
    with (
        model.path.open("rb") as source,
        mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as data,
        path.open("wb") as file,
    ):
        keys = dict(_keys(model, data))
        file.write(struct.pack("<4sIQQ", b"GGUF", gguf.GGUF_VERSION, len(pieces), len(keys)))
        for key, value in keys.items():
            file.write(_text(key) + value)
        start = 0
        for piece in pieces:
            sizes = piece.shape[::-1]
            file.write(_text(piece.name) + struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes))
            file.write(struct.pack("<IQ", piece.type, start))
            start += -(-piece.size // alignment) * alignment
        _pad(file, alignment)
        for piece in pieces:
            # A view: the bytes go from one file to the other without being held.
            with memoryview(data) as view, view[piece.offset : piece.offset + piece.size] as part:
                file.write(part)
            _pad(file, alignment)


def _keys(model: SwitchModel, data: mmap.mmap) -> Iterator[tuple[str, bytes]]:
    for key, (start, end) in model.header.spans.items():
        if key == "general.architecture":
            yield key, struct.pack("<I", gguf.GGUFValueType.STRING) + _text(BASE_ARCHITECTURE)
        elif not key.startswith(_LEFT_OUT):
            own, _, rest = key.partition(".")
            yield f"{BASE_ARCHITECTURE}.{rest}" if own == ARCHITECTURE else key, data[start:end]


def _pieces(model: SwitchModel) -> Iterator[_Piece]:
    for name in model.header.shapes:
        tensor = model.tensor(name)
        if name.endswith(_FUSED):
            yield from _parts(model, tensor)
        elif name.removesuffix(".lora_a").removesuffix(".lora_b") not in model.stacks:
            yield _Piece(name, tensor.shape, tensor.type, tensor.offset, tensor.size)


def _parts(model: SwitchModel, fused: StoredMatrix) -> Iterator[_Piece]:
    """Query, key and value, which lie one below the other; how many rows each has, their stacks tell."""
    block = fused.name.removesuffix(_FUSED)
    stacks = [model.stacks.get(f"{block}.{part}") for part in _PARTS]
    heights = [0 if stack is None else stack.b.shape[1] for stack in stacks]
    if 0 in heights or sum(heights) != fused.shape[0]:
        raise ConversionError(
            f"{model.path} stacks adapters for {heights} rows of query, key and value in {block}, but its weight"
            f" {fused.name} is {list(fused.shape)}; the file is damaged"
        )
    row = fused.size // fused.shape[0]
    offset = fused.offset
    for part, height in zip(_PARTS, heights, strict=True):
        yield _Piece(f"{block}.{part}.weight", (height, *fused.shape[1:]), fused.type, offset, height * row)
        offset += height * row


def _text(value: str) -> bytes:
    encoded = value.encode("utf-8")
    return struct.pack("<Q", len(encoded)) + encoded


def _pad(file: BinaryIO, alignment: int) -> None:
    file.write(bytes(-file.tell() % alignment))
