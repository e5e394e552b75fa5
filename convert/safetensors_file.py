"""Reads safetensors files: a length, a JSON header, and raw little-endian numbers."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf.utility import LocalTensor, SafetensorsLocal

from alora_cpp.errors import ConversionError

_ITEM_BYTES: Mapping[str, int] = {"F32": 4, "F16": 2, "BF16": 2}


def open_tensors(path: Path) -> dict[str, LocalTensor]:
    """Reads the header of a safetensors file and checks all of it.

    Args:
        path: The file.

    Returns:
        The tensors by name; their data stays on disk until `load` is asked for it.

    Raises:
        ConversionError: The file is unreadable, damaged or truncated, or holds numbers of a type
            other than F32, F16 and BF16.
    """
    try:
        with path.open("rb") as file:
            start = 8 + int.from_bytes(file.read(8), "little")
        end = path.stat().st_size
        tensors = SafetensorsLocal(path).tensors
        spans = sorted(_span(name, tensor) for name, tensor in tensors.items())
    except OSError as error:
        raise ConversionError(f"cannot read {path} ({error.strerror})") from error
    # The reader takes the header's word for everything, so a damaged one fails in many ways.
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ConversionError(
            f"{path} is no valid safetensors file ({error}); it is damaged or truncated: download or save it again"
        ) from error
    # The format allows no gaps: a file that has one was cut, or pasted together wrongly.
    for stop, begin in zip([start, *(s[1] for s in spans)], [*(s[0] for s in spans), end], strict=True):
        if stop != begin:
            raise ConversionError(
                f"{path} is damaged or truncated: a tensor's data ends at byte {stop}, and the"
                f" next tensor or the end of the file is at {begin}; download or save it again"
            )
    return tensors


def _span(name: str, tensor: LocalTensor) -> tuple[int, int]:
    shape: tuple[Any, ...] = tensor.shape
    if not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in shape):
        raise ValueError(f"tensor {name} has shape {list(shape)}")
    if tensor.dtype not in _ITEM_BYTES:
        raise ValueError(f"tensor {name} has type {tensor.dtype}, expected F32, F16 or BF16")
    offset, size = tensor.data_range.offset, tensor.data_range.size
    # JSON's 128.0 equals 128, but no place in a file can be asked for with it.
    if not (isinstance(offset, int) and isinstance(size, int) and size == prod(shape) * _ITEM_BYTES[tensor.dtype]):
        raise ValueError(f"tensor {name} of shape {list(shape)} has {size} bytes")
    return offset, offset + size


def load(tensor: LocalTensor) -> npt.NDArray[np.float32]:
    """Reads one tensor's numbers as float32, which holds all three input types exactly."""
    raw = tensor.mmap_bytes()
    values: npt.NDArray[np.float32]
    if tensor.dtype == "BF16":
        values = (raw.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
    else:
        values = raw.view("<f4" if tensor.dtype == "F32" else "<f2").astype(np.float32)
    return values.reshape(tensor.shape)
