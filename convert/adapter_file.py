"""Reads an adapter's GGUF: what it says, and its matrices one at a time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, prod
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from alora_cpp.errors import ConversionError

from .families import ARCHITECTURES, WEIGHTS, Family, Part, family_of_architecture, weight_name
from .gguf_header import GGUFHeader, read_header

Array = npt.NDArray[np.float32]

_INVOCATION = gguf.Keys.Adapter.ALORA_INVOCATION_TOKENS
_TENSOR = re.compile(r"(?P<weight>blk\.(?P<layer>0|[1-9][0-9]{0,5})\..+)\.lora_(?P<half>[ab])")


@dataclass(frozen=True)
class StoredMatrix:
    """One tensor of the file; its numbers stay on disk until `read`.

    Attributes:
        path: The file.
        name: Its name there.
        shape: [rank, in] for an A, [out, rank] for a B.
        type: The type its numbers are stored as.
        offset: Where they begin, in bytes from the file's start.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    type: gguf.GGMLQuantizationType
    offset: int

    @property
    def byte_shape(self) -> tuple[int, ...]:
        """Its shape where the last dimension counts bytes."""
        return gguf.quant_shape_to_byte_shape(self.shape, self.type)

    @property
    def size(self) -> int:
        """Its bytes."""
        return prod(self.byte_shape)

    def raw(self) -> npt.NDArray[np.uint8]:
        """Reads its numbers as the bytes they are stored as, in `byte_shape`.

        Raises:
            OSError: The file cannot be read any longer.
        """
        return np.fromfile(self.path, np.uint8, self.size, offset=self.offset).reshape(self.byte_shape)

    def read(self) -> Array:
        """Reads its numbers.

        Raises:
            ConversionError: They are not finite, or of a type that cannot be read.
            OSError: The file cannot be read any longer.
        """
        try:
            # Scales that are no finite numbers, which the check below reports.
            with np.errstate(over="ignore", invalid="ignore"):
                values = gguf.dequantize(self.raw(), self.type).astype(np.float32, copy=False)
        except NotImplementedError as error:
            raise ConversionError(
                f"{self.path} stores {self.name} as {self.type.name}, which cannot be read back;"
                " expected f32, f16, bf16 or a common quantization"
            ) from error
        if not np.isfinite(values).all():
            raise ConversionError(f"the numbers of {self.name} in {self.path} contain NaN or infinity; it is damaged")
        return values.reshape(self.shape)


@dataclass(frozen=True)
class StoredPair:
    """An adapted weight of the base.

    Attributes:
        layer: Its block.
        parts: The parts in its rows.
        a: A, [rank, in].
        b: B, [out, rank].
    """

    layer: int
    parts: tuple[Part, ...]
    a: StoredMatrix
    b: StoredMatrix

    @property
    def rank(self) -> int:
        """Its rank."""
        return self.a.shape[0]


@dataclass(frozen=True)
class GGUFAdapter:
    """An adapter as found in a GGUF.

    Attributes:
        path: The file.
        family: The rules of its base's architecture.
        alpha: Its one alpha; zero stands for "scale by one", as the engines read it.
        pairs: Its matrices by the name of the weight they change.
        header: What else it says.
    """

    path: Path
    family: Family
    alpha: float
    pairs: Mapping[str, StoredPair]
    header: GGUFHeader

    @property
    def invocation_tokens(self) -> list[int] | None:
        """What activates an aLoRA; None for an ordinary LoRA."""
        return self.header.values.get(_INVOCATION)


def read_adapter(path: Path) -> GGUFAdapter:
    """Reads and checks an adapter's GGUF; the matrices' numbers stay on disk.

    Raises:
        ConversionError: It is missing, damaged, no LoRA adapter, or for a base that is not known.
    """
    try:
        header = read_header(path, arrays=(_INVOCATION,))
    except OSError as error:
        raise ConversionError(f"cannot read {path} ({error.strerror}); expected an adapter's GGUF") from error
    except ValueError as error:
        raise ConversionError(
            f"{path} cannot be read as GGUF ({error}); it is damaged or of another format: get it again"
        ) from error
    values = header.values
    kinds = values.get("general.type"), values.get(gguf.Keys.Adapter.TYPE)
    if kinds != ("adapter", "lora"):
        raise ConversionError(
            f"{path} has general.type {kinds[0]!r} and adapter.type {kinds[1]!r}; expected 'adapter' and 'lora'"
        )
    family = family_of_architecture(str(values.get("general.architecture")))
    if family is None:
        raise ConversionError(
            f"{path} is for the architecture {values.get('general.architecture')!r}; expected one of"
            f" {', '.join(ARCHITECTURES)}: adapters for other bases are not supported yet"
        )
    alpha = values.get(gguf.Keys.Adapter.LORA_ALPHA)
    if not isinstance(alpha, float) or not isfinite(alpha):
        raise ConversionError(f"{path} says adapter.lora.alpha = {alpha!r}; expected a finite number: it is damaged")
    tokens = values.get(_INVOCATION, [0])
    if not isinstance(tokens, list) or not tokens or not all(type(token) is int and token >= 0 for token in tokens):
        raise ConversionError(f"{path} says {_INVOCATION} = {tokens!r:.100}; expected token ids: it is damaged")
    return GGUFAdapter(path, family, alpha, _pairs(path, header, family), header)


def _pairs(path: Path, header: GGUFHeader, family: Family) -> dict[str, StoredPair]:
    found: dict[tuple[int, str], dict[str, StoredMatrix]] = {}
    for name in header.shapes:
        match = _TENSOR.fullmatch(name)
        if match is None:
            raise ConversionError(f"{path} has {name}; expected lora_a and lora_b of weights of a block only")
        found.setdefault((int(match["layer"]), match["weight"]), {})[match["half"]] = _matrix(path, header, name)
    if not found:
        raise ConversionError(f"{path} holds no tensors; it is damaged: get it again")
    pairs = {}
    for (layer, weight), halves in found.items():
        parts = {weight_name(tensor, layer): family.parts(tensor) for tensor in WEIGHTS}.get(weight)
        if parts is None:
            raise ConversionError(f"{path} adapts {weight}, which is no projection that PEFT's LoRA could train here")
        if halves.keys() != {"a", "b"}:
            raise ConversionError(f"{path} has not both lora_a and lora_b for {weight}; it is damaged: get it again")
        pair = StoredPair(layer, parts, halves["a"], halves["b"])
        if pair.rank < 1 or pair.b.shape[1] != pair.rank:
            raise ConversionError(
                f"{path} has lora_a of shape {list(pair.a.shape)} and lora_b of shape {list(pair.b.shape)} for"
                f" {weight}; expected [rank, in] and [out, rank]: it is damaged"
            )
        pairs[weight] = pair
    return pairs


def _matrix(path: Path, header: GGUFHeader, name: str) -> StoredMatrix:
    shape = header.shapes[name]
    try:
        if len(shape) != 2 or 0 in shape:
            raise ValueError(f"its shape is {list(shape)}")
        kind = gguf.GGMLQuantizationType(header.types[name])
        n_bytes = prod(gguf.quant_shape_to_byte_shape(shape, kind))
    except ValueError as error:
        raise ConversionError(f"{path} has a tensor {name} that cannot be ({error}); it is damaged") from error
    if header.offsets[name] + n_bytes > path.stat().st_size:
        raise ConversionError(f"{path} ends inside the numbers of {name}; it is truncated: get it again")
    return StoredMatrix(path, name, shape, kind, header.offsets[name])
