"""The bundled model with float32 weights, for what must be the same however rows are batched."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from alora_cpp import Chat, Intrinsic, Model
from alora_cpp.bundled_model import BUNDLED
from tiny import open_exact

NAMES = ("safety", "hallucination", "certainty")


def write_float(source: Path, path: Path, *, endless: bool = False) -> Path:
    """Copies a model or an adapter with float32 weights.

    `endless`: the end of a text is given the logit 0, so that replies go on as long as they may.
    """
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, str(reader.fields["general.architecture"].contents()))
    for name, entry in reader.fields.items():
        if not name.startswith("GGUF.") and name not in ("general.architecture", "general.file_type"):
            kind = entry.types[0]
            items = entry.types[-1] if kind is gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, entry.contents(), kind, items)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        writer.add_tensor(tensor.name, values)
        if endless and tensor.name == "token_embd.weight":
            rows = values.copy()
            rows[int(reader.fields["tokenizer.ggml.eos_token_id"].contents())] = 0.0
            writer.add_tensor("output.weight", rows)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def open_float_model(folder: Path, *, endless: bool = False) -> Model:
    """Writes and loads it, with the bundled intrinsics."""
    model = Model(write_float(BUNDLED, folder / "model.gguf", endless=endless))
    for name in NAMES:
        write_float(BUNDLED.with_name(f"{BUNDLED.stem}.{name}.gguf"), folder / f"{name}.gguf")
        model.load_intrinsic(folder / f"{name}.gguf")
    return model


@contextmanager
def exact_chat(
    model: Model,
    messages: Sequence[Mapping[str, Any]] = (),
    *,
    n_ctx: int = 1024,
    **options: Any,
) -> Iterator[Chat]:
    """A chat in a context that rounds as little as possible and always in the same way."""
    with open_exact(model, n_ctx=n_ctx) as context:
        yield Chat(context, messages, **options)


def load_with(model: Model, folder: Path, name: str, adapter: str = "safety", **io_yaml: Any) -> Intrinsic:
    """Loads one of the adapters in the model's folder with another io.yaml; schemas are given as mappings."""
    settings = {"model": None, "response_format": None, "transformations": [], **io_yaml}
    if settings["response_format"] is not None:
        settings["response_format"] = json.dumps(settings["response_format"])
    file = folder / f"{name}.io.yaml"
    file.write_text(json.dumps(settings), encoding="utf-8")
    return model.load_intrinsic(folder / f"{adapter}.gguf", name=name, io_yaml=file)
