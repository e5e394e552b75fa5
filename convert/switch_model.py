"""What a Granite Switch model's GGUF holds: a granite with query, key and value in one weight, and stacked adapters.

Each projection has two stacks, `<projection>.lora_a` [slots, rank, in] and `<projection>.lora_b`
[slots, out, rank]. Slot 0 is empty, for the base; slot i is the adapter i - 1. Adapters of a lower
rank are padded with zeros, and their scale is within B.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

from alora_cpp.errors import ConversionError

from .adapter_file import StoredMatrix
from .gguf_header import GGUFHeader, read_header

ARCHITECTURE = "graniteswitch"
TOKENS = "tokenizer.ggml.tokens"

_CONTROL_TOKENS = f"{ARCHITECTURE}.adapters.token_ids_activate"
_STACK = re.compile(r"(?P<projection>blk\.(0|[1-9][0-9]{0,5})\.[a-z_]+)\.lora_(?P<half>[ab])")


@dataclass(frozen=True)
class Stack:
    """The matrices of all adapters for one projection.

    Attributes:
        projection: Its name, such as `blk.0.attn_q`.
        a: The stack of A, [slots, rank, in].
        b: The stack of B, [slots, out, rank].
    """

    projection: str
    a: StoredMatrix
    b: StoredMatrix

    def slot(self, index: int) -> tuple[StoredMatrix, StoredMatrix]:
        """One slot's A and B."""
        return _slot(self.a, index), _slot(self.b, index)


@dataclass(frozen=True)
class SwitchModel:
    """A composed model's file.

    Attributes:
        path: The file.
        header: Its header, with the items of the tokens.
        n_adapters: How many adapters it holds.
        stacks: Their matrices, by projection.
    """

    path: Path
    header: GGUFHeader
    n_adapters: int
    stacks: Mapping[str, Stack]

    def tensor(self, name: str) -> StoredMatrix:
        """A tensor of the file."""
        return _tensor(self.path, self.header, name)

    def count(self, key: str) -> int:
        """A positive number of the architecture's.

        Raises:
            ConversionError: It is none.
        """
        value = self.header.values.get(f"{ARCHITECTURE}.{key}")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConversionError(
                f"{self.path} says {ARCHITECTURE}.{key} = {value!r}; expected a positive number: the file is damaged"
            )
        return value


def read_switch_model(path: Path) -> SwitchModel:
    """Reads what a composed model's file holds, and checks that all of it is there.

    Raises:
        ConversionError: It is no Granite Switch model, or damaged.
    """
    try:
        header = read_header(path, arrays=[TOKENS, _CONTROL_TOKENS])
        size = path.stat().st_size
    except OSError as error:
        raise ConversionError(f"cannot read {path} ({error.strerror}); expected a Granite Switch model") from error
    except ValueError as error:
        raise ConversionError(f"{path} cannot be read as GGUF ({error}); download it again") from error
    values = header.values
    if values.get("general.architecture") != ARCHITECTURE or values.get("split.count", 0) not in (0, 1):
        raise ConversionError(
            f"{path} has general.architecture {values.get('general.architecture')!r} and is part of"
            f" {max(1, _number(values.get('split.count')))} files; expected a Granite Switch model ({ARCHITECTURE})"
            " in one file"
        )
    for name in header.shapes:
        tensor = _tensor(path, header, name)
        if tensor.offset + tensor.size > size:
            raise ConversionError(f"{path} ends at byte {size}, within or before its tensor {name}; download it again")
    controls = values.get(_CONTROL_TOKENS)
    if not isinstance(controls, list) or not controls or not isinstance(values.get(TOKENS), list):
        raise ConversionError(f"{path} has no {_CONTROL_TOKENS} or no {TOKENS}; it was converted wrongly")
    return SwitchModel(path, header, len(controls), _stacks(path, header, len(controls)))


def _stacks(path: Path, header: GGUFHeader, n_adapters: int) -> dict[str, Stack]:
    found: dict[str, dict[str, StoredMatrix]] = {}
    for name in header.shapes:
        if match := _STACK.fullmatch(name):
            found.setdefault(match["projection"], {})[match["half"]] = _tensor(path, header, name)
    stacks = {}
    for projection, halves in found.items():
        a, b = halves.get("a"), halves.get("b")
        if (
            a is None
            or b is None
            or not len(a.shape) == len(b.shape) == 3
            or not a.shape[0] == b.shape[0] == n_adapters + 1
            or a.shape[1] != b.shape[2]
        ):
            shapes = {half: list(matrix.shape) for half, matrix in halves.items()}
            raise ConversionError(
                f"{path} stacks adapters for {projection} as {shapes}; expected a [slots, rank, in] and"
                f" b [slots, out, rank] with {n_adapters + 1} slots: the file is damaged"
            )
        stacks[projection] = Stack(projection, a, b)
    return stacks


def _tensor(path: Path, header: GGUFHeader, name: str) -> StoredMatrix:
    try:
        kind = gguf.GGMLQuantizationType(header.types[name])
        stored = StoredMatrix(path, name, header.shapes[name], kind, header.offsets[name])
        if not stored.shape or not stored.size:
            raise ValueError(f"its shape is {list(stored.shape)}")
    except (ValueError, KeyError) as error:
        raise ConversionError(f"{path} stores {name} in a way that is not known ({error})") from error
    return stored


def _slot(stack: StoredMatrix, index: int) -> StoredMatrix:
    offset = stack.offset + index * (stack.size // stack.shape[0])
    return StoredMatrix(stack.path, stack.name, stack.shape[1:], stack.type, offset)


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 1
