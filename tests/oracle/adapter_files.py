"""Reads converted adapters back, and writes odd ones to convert."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

Array = npt.NDArray[np.float32]


class AdapterFile:
    """An adapter's GGUF, read back: metadata, number types and numbers."""

    def __init__(self, path: Path) -> None:
        """Reads all of it."""
        reader = gguf.GGUFReader(path)
        self.fields = {key: field.contents() for key, field in reader.fields.items()}
        self.kinds = {key: field.types for key, field in reader.fields.items()}
        self.types = {tensor.name: tensor.tensor_type for tensor in reader.tensors}
        self.tensors: dict[str, Array] = {
            tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type).reshape(
                [int(size) for size in reversed(tensor.shape)]
            )
            for tensor in reader.tensors
        }

    def weights(self) -> list[str]:
        """Names the adapted weights."""
        return sorted(name.removesuffix(".lora_a") for name in self.tensors if "lora_a" in name)

    def delta(self, weight: str) -> npt.NDArray[np.float64]:
        """Computes what the file adds to a weight, the way llama.cpp scales it."""
        a = self.tensors[f"{weight}.lora_a"].astype(np.float64)
        b = self.tensors[f"{weight}.lora_b"].astype(np.float64)
        alpha = self.fields["adapter.lora.alpha"]
        product: npt.NDArray[np.float64] = b @ a * (alpha / len(a) if alpha else 1.0)
        return product


def edit_config(folder: Path, **changes: object) -> None:
    """Changes settings in a folder's adapter_config.json."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, change: Callable[[dict[str, Array]], None]) -> None:
    """Changes the tensors in a folder's adapter_model.safetensors."""
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def edit_header(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes the header of a folder's adapter_model.safetensors, leaving the data alone."""
    path = folder / "adapter_model.safetensors"
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])


def write_raw(path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]]) -> None:
    """Writes a safetensors file from (type, shape, bytes), without the library's checks."""
    header, data = {}, b""
    for name, (kind, shape, content) in tensors.items():
        offsets = [len(data), len(data) + len(content)]
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": offsets}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
