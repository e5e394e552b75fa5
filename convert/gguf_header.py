"""Reads what a GGUF says about itself, without its tensors' data.

The `gguf` package's reader builds an array for each token and each merge, and trusts the counts in
the file: seconds for a large vocabulary, and no end at all where a count is damaged. This one
steps over what is not needed, and every step is checked against the file's end.

The format, all little-endian: "GGUF", version (u32), number of tensors (u64), number of keys (u64);
each key: name, type (u32), value; each tensor: name, number of dimensions (u32), dimensions (u64
each), type (u32), offset (u64). Strings have their length (u64) before them; arrays the type of
their elements (u32) and their number (u64).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gguf import GGUF_DEFAULT_ALIGNMENT, GGUFValueType

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MAX_DIMENSIONS = 4

_SCALARS: dict[int, struct.Struct] = {
    GGUFValueType.UINT8: struct.Struct("<B"),
    GGUFValueType.INT8: struct.Struct("<b"),
    GGUFValueType.UINT16: struct.Struct("<H"),
    GGUFValueType.INT16: struct.Struct("<h"),
    GGUFValueType.UINT32: struct.Struct("<I"),
    GGUFValueType.INT32: struct.Struct("<i"),
    GGUFValueType.FLOAT32: struct.Struct("<f"),
    GGUFValueType.BOOL: struct.Struct("<?"),
    GGUFValueType.UINT64: struct.Struct("<Q"),
    GGUFValueType.INT64: struct.Struct("<q"),
    GGUFValueType.FLOAT64: struct.Struct("<d"),
}


@dataclass
class GGUFHeader:
    """A file's keys, and where and what its tensors are.

    Attributes:
        values: Numbers, truth values and texts by key, and the arrays asked for, as lists.
        lengths: Lengths of the other arrays by key.
        shapes: Shapes by tensor, in numpy's order: [out, in] for a weight.
        types: Number types by tensor, as the file counts them (`gguf.GGMLQuantizationType`).
        offsets: Where each tensor's data begins, in bytes from the file's start.
        spans: Where each key's type and value begin and end, in bytes from the file's start.
    """

    values: dict[str, Any] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)

    def text(self, key: str) -> str | None:
        """Gives a key's text; None where it has none."""
        value = self.values.get(key)
        return value if isinstance(value, str) and value else None

    def count(self, key: str) -> int | None:
        """Gives a key's whole number; None where it has none."""
        value = self.values.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_header(path: Path, *, arrays: Collection[str] = ()) -> GGUFHeader:
    """Reads a GGUF's header.

    Args:
        path: The file.
        arrays: The keys of arrays whose items are wanted; others are stepped over.

    Raises:
        OSError: The file cannot be opened.
        ValueError: It is no GGUF, or damaged or truncated inside its header.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        cursor = _Cursor(data)
        if cursor.take(4) != _MAGIC:
            raise ValueError("it does not begin with GGUF")
        version = cursor.u32()
        if version not in _VERSIONS:
            raise ValueError(f"version {version}, expected 2 or 3")
        n_tensors, n_keys = cursor.u64(), cursor.u64()
        header = GGUFHeader()
        for _ in range(n_keys):
            key, start = cursor.text(), cursor.position
            _read_value(key, cursor, header, arrays)
            header.spans[key] = (start, cursor.position)
        for _ in range(n_tensors):
            name, n_dimensions = cursor.text(), cursor.u32()
            if n_dimensions > _MAX_DIMENSIONS:
                raise ValueError(f"tensor {name} has {n_dimensions} dimensions")
            sizes = [cursor.u64() for _ in range(n_dimensions)]
            header.shapes[name] = tuple(reversed(sizes))
            header.types[name] = cursor.u32()
            header.offsets[name] = cursor.u64()
        alignment = header.values.get("general.alignment", GGUF_DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError(f"general.alignment is {alignment!r}")
        start = -(-cursor.position // alignment) * alignment
        header.offsets = {name: start + offset for name, offset in header.offsets.items()}
        return header


def read_first_keys(data: bytes) -> dict[str, Any]:
    """Reads the keys at the beginning of a GGUF, as far as the bytes at hand go.

    Args:
        data: The first bytes of a file.

    Returns:
        Numbers, truth values and texts by key; an array's length for an array.

    Raises:
        ValueError: It does not begin as a GGUF does.
    """
    cursor, header = _Cursor(data), GGUFHeader()
    if cursor.take(4) != _MAGIC or cursor.u32() not in _VERSIONS:
        raise ValueError("it does not begin as a GGUF of version 2 or 3")
    cursor.u64()
    with suppress(ValueError):
        for _ in range(cursor.u64()):
            _read_value(cursor.text(), cursor, header, ())
    return header.values | header.lengths


def _read_value(key: str, cursor: _Cursor, header: GGUFHeader, arrays: Collection[str]) -> None:
    kind = cursor.u32()
    if kind in _SCALARS or kind == GGUFValueType.STRING:
        header.values[key] = cursor.value(kind)
    elif kind == GGUFValueType.ARRAY:
        element, length = cursor.u32(), cursor.u64()
        if element not in _SCALARS and element != GGUFValueType.STRING:
            raise ValueError(f"{key} is an array of elements of type {element}")
        if key in arrays:
            # A damaged length ends where the file does: each item is at least a byte.
            header.values[key] = [cursor.value(element) for _ in range(length)]
            return
        header.lengths[key] = length
        if element in _SCALARS:
            cursor.skip(length * _SCALARS[element].size)
        else:
            for _ in range(length):
                cursor.skip(cursor.u64())
    else:
        raise ValueError(f"{key} is of type {kind}")


class _Cursor:
    """A position in the file that never passes its end."""

    def __init__(self, data: mmap.mmap | bytes) -> None:
        self._data = data
        self.position = 0

    def skip(self, size: int) -> int:
        """Moves on, and says where it was."""
        start, self.position = self.position, self.position + size
        if self.position > len(self._data):
            raise ValueError(f"it ends at byte {len(self._data)}, in the middle of its header")
        return start

    def take(self, size: int) -> bytes:
        start = self.skip(size)
        return self._data[start : start + size]

    def value(self, kind: int) -> object:
        if kind == GGUFValueType.STRING:
            return self.text()
        scalar = _SCALARS[kind]
        return scalar.unpack_from(self._data, self.skip(scalar.size))[0]

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def text(self) -> str:
        return self.take(self.u64()).decode("utf-8")
