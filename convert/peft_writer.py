"""Writes an adapter's GGUF back as the folder that PEFT, vLLM and transformers load.

What a float32 GGUF of ours holds comes back as it was: the same matrices, to the bit, and the same
scale, for an ordinary LoRA, rsLoRA and rank patterns. Modules whose alpha pattern differed from the
rest had the difference multiplied into their B; they keep that B and get the alpha of the rest, which
is the same product up to rounding. Other number types come back as the float32 they stand for.

The safetensors file is written by hand, for the format is a length, a JSON header and raw numbers:
so one module at a time is in memory, and the `safetensors` package, which wants all of them at once,
is not needed.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alora_cpp.errors import ConversionError

from .adapter_file import GGUFAdapter, read_adapter
from .base import Base, read_base
from .peft_config import CONFIG_NAME
from .peft_config_writer import peft_config
from .peft_folder import WEIGHTS_NAME
from .peft_modules import PeftModule, plan_modules


def write_peft_folder(
    adapter_gguf: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    base: str | os.PathLike[str] | None = None,
) -> Path:
    """Converts an adapter's GGUF into a PEFT folder.

    Modules are spelled as the base's `model_type` has them. The file says it where `convert_adapter`
    wrote it; for others it is the usual one of the architecture, unless a base's folder says
    otherwise (Granite 4's shared networks need that).

    Args:
        adapter_gguf: The file.
        folder: The folder to write. It appears only when it is complete.
        base: The base model, a GGUF or a Hugging Face folder with a config.json: for files that do
            not say themselves how many heads their base has, and to check that they fit.

    Returns:
        The folder written: adapter_config.json, adapter_model.safetensors, and io.yaml where the
        file has one.

    Raises:
        ConversionError: The adapter cannot be read or has no equal in PEFT; nothing is left behind.
    """
    path, folder = Path(adapter_gguf), Path(folder)
    adapter = read_adapter(path)
    facts = None if base is None else read_base(Path(base))
    model_type = _model_type(adapter, facts)
    _check_activation(adapter)
    try:
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise ConversionError(f"{folder} is there already; expected the name of a new folder")
        modules = plan_modules(adapter, model_type, facts)
        # In a folder beside the target: renaming is atomic there, and nothing can stay behind.
        with tempfile.TemporaryDirectory(prefix=".alora-", dir=folder.parent) as scratch:
            unfinished = Path(scratch) / "adapter"
            unfinished.mkdir()
            config = peft_config(adapter, modules, model_type, facts)
            (unfinished / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            _write_weights(unfinished / WEIGHTS_NAME, modules)
            if (io_yaml := adapter.header.text("alora.io_yaml")) is not None:
                (unfinished / "io.yaml").write_bytes(io_yaml.encode())
            if folder.exists():
                folder.rmdir()
            unfinished.rename(folder)
    except OSError as error:
        raise ConversionError(
            f"cannot write {folder} ({error.strerror}); expected a writable place with room for the adapter"
        ) from error
    return folder


def _model_type(adapter: GGUFAdapter, base: Base | None) -> str:
    if base is not None and base.family != adapter.family:
        raise ConversionError(
            f"{adapter.path} is for the architecture {adapter.family.name}, but {base.source} is"
            f" {base.family.name}; give the base that the adapter was trained on"
        )
    known = adapter.family.model_types
    said = (base and base.model_type) or adapter.header.text("alora.base.model_type") or next(iter(known))
    if said not in known:
        raise ConversionError(
            f"{adapter.path} says alora.base.model_type = {said!r}; expected {' or '.join(known)} for the architecture"
            f" {adapter.family.name}: it is damaged, or from a newer version; give the base's folder (--base)"
        )
    return said


def _check_activation(adapter: GGUFAdapter) -> None:
    offset = adapter.header.count("alora.activation_offset")
    if offset and adapter.invocation_tokens:
        raise ConversionError(
            f"{adapter.path} begins to act {offset} token(s) after the start of its invocation; PEFT has no such"
            " adapters, it begins at the first one: use the GGUF, or the folder it was made from"
        )


def _write_weights(path: Path, modules: Sequence[PeftModule]) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for module in modules:
        for half, shape in (("A", (module.rank, module.shape[1])), ("B", (module.shape[0], module.rank))):
            start, end = end, end + 4 * shape[0] * shape[1]
            name = f"base_model.model.{module.location}.lora_{half}.weight"
            header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    # Spaces at the end, so that the numbers begin where readers can use them in place.
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for module in modules:
            for matrix in module.read():
                file.write(np.ascontiguousarray(matrix, dtype="<f4").tobytes())
