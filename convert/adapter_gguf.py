"""Writes an adapter as GGUF.

The file has llama.cpp's keys (`general.type` = adapter, `adapter.type` = lora,
`adapter.lora.alpha`, `adapter.alora.invocation_tokens`) and, for each adapted weight, the two
tensors `<weight>.lora_a` [rank, in] and `<weight>.lora_b` [out, rank]. Ours are `alora.io_yaml`,
the text that says how to ask and how to read the answer, and `alora.activation_offset`, how many
tokens after the start of the invocation the adapter begins to act.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from alora_cpp.errors import ConversionError

from .adapter_plan import AdapterPlan, Matrix, plan_adapter
from .base import Base, read_base
from .peft_config import CONFIG_NAME, PeftConfig
from .peft_folder import PeftFolder, read_folder

Type = gguf.GGMLQuantizationType

_OUTTYPES: Mapping[str, tuple[Type, gguf.LlamaFileType]] = {
    "f32": (Type.F32, gguf.LlamaFileType.ALL_F32),
    "f16": (Type.F16, gguf.LlamaFileType.MOSTLY_F16),
    "bf16": (Type.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "q8_0": (Type.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}

OUTTYPES: tuple[str, ...] = tuple(_OUTTYPES)
"""The names of the number formats that `convert_adapter` can write."""

_HUB_NAME = re.compile(r"(?P<organization>[\w.-]+)/(?P<name>[\w.-]+)")


def convert_adapter(
    folder: str | os.PathLike[str],
    outfile: str | os.PathLike[str],
    *,
    base: str | os.PathLike[str] | None = None,
    outtype: str = "f16",
    name: str | None = None,
) -> Path:
    """Converts an adapter that PEFT saved into a GGUF.

    Args:
        folder: The folder with adapter_config.json and adapter_model.safetensors, and io.yaml
            where there is one.
        outfile: The file to write. It appears only when it is complete.
        base: The base model: a GGUF, or a Hugging Face folder with a config.json. Without it,
            the folder that adapter_config.json names, where that is a local one.
        outtype: One of `OUTTYPES`. A matrix whose rows q8_0 cannot hold is written as f16.
        name: The adapter's name; the folder's, if not given.

    Returns:
        The file written.

    Raises:
        ConversionError: The adapter cannot be converted; no file is left behind.
    """
    folder, outfile = Path(folder), Path(outfile)
    if outtype not in _OUTTYPES:
        raise ConversionError(f"outtype {outtype!r} is not known; expected {', '.join(OUTTYPES)}")
    adapter = read_folder(folder)
    base_path = _base_path(folder, adapter.config, base)
    facts = read_base(base_path)
    _check_invocation(adapter.config, facts)
    plan = plan_adapter(folder, adapter, facts, _OUTTYPES[outtype][0])
    if outfile.exists() and (outfile.is_dir() or outfile.samefile(base_path)):
        raise ConversionError(
            f"{outfile} is {'a folder' if outfile.is_dir() else 'the base model'}; expected the name of a new file"
        )
    try:
        # In a folder beside the target: replacing is atomic there, and nothing can stay behind.
        with tempfile.TemporaryDirectory(prefix=".alora-", dir=outfile.parent) as scratch:
            unfinished = Path(scratch) / "adapter.gguf"
            writer = gguf.GGUFWriter(unfinished, facts.family.name)
            try:
                _add_metadata(writer, adapter, facts, plan, name or folder.resolve().name)
                writer.add_file_type(_OUTTYPES[outtype][1])
                writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
                _write(writer, plan.matrices)
            finally:
                writer.close()
            unfinished.replace(outfile)
    except OSError as error:
        raise ConversionError(
            f"cannot write {outfile} ({error.strerror}); expected an existing, writable folder"
            " with room for the adapter"
        ) from error
    return outfile


def _base_path(folder: Path, config: PeftConfig, base: str | os.PathLike[str] | None) -> Path:
    if base is not None:
        return Path(base)
    if config.base is not None and Path(config.base).is_dir():
        return Path(config.base)
    raise ConversionError(
        f"{folder / CONFIG_NAME} names the base {config.base!r}, which is no local folder; name the"
        " base's GGUF or its Hugging Face folder (--base)"
    )


def _check_invocation(config: PeftConfig, base: Base) -> None:
    for token in config.invocation_tokens or ():
        if base.n_vocab is not None and token >= base.n_vocab:
            raise ConversionError(
                f"the invocation has token {token}, but the vocabulary of {base.source} ends at"
                f" {base.n_vocab - 1}; give the base that the adapter was trained on"
            )


def _add_metadata(writer: gguf.GGUFWriter, adapter: PeftFolder, base: Base, plan: AdapterPlan, name: str) -> None:
    config = adapter.config
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_name(name)
    writer.add_base_model_count(1)
    hub = _HUB_NAME.fullmatch(config.base or "")
    if hub is not None and not Path(hub[0]).exists():
        writer.add_base_model_name(0, hub["name"])
        writer.add_base_model_organization(0, hub["organization"])
        writer.add_base_model_repo_url(0, f"https://huggingface.co/{hub[0]}")
    else:
        writer.add_base_model_name(0, base.name)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(plan.alpha))
    if config.invocation_tokens is not None:
        # llama.cpp refuses the array where its type is int32, which the writer would infer.
        writer.add_key_value(
            gguf.Keys.Adapter.ALORA_INVOCATION_TOKENS,
            list(config.invocation_tokens),
            gguf.GGUFValueType.ARRAY,
            gguf.GGUFValueType.UINT32,
        )
    writer.add_uint32("alora.activation_offset", 0)
    if adapter.io_yaml is not None:
        writer.add_string("alora.io_yaml", adapter.io_yaml)


def _write(writer: gguf.GGUFWriter, matrices: Sequence[Matrix]) -> None:
    for matrix in matrices:
        size = int(np.prod(matrix.byte_shape))
        writer.add_tensor_info(matrix.name, matrix.byte_shape, np.dtype(np.uint8), size, raw_dtype=matrix.type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    # One at a time, so that the memory needed is that of one matrix.
    for matrix in matrices:
        writer.write_tensor_data(_encode(matrix))


def _encode(matrix: Matrix) -> npt.NDArray[Any]:
    # Large values may overflow here, which the check below reports.
    with np.errstate(over="ignore", invalid="ignore"):
        values = matrix.read()
        encoded = gguf.quantize(np.ascontiguousarray(values), matrix.type)
        if not np.isfinite(gguf.dequantize(encoded, matrix.type)).all():
            raise ConversionError(
                f"the numbers for {matrix.name} reach {np.abs(values).max():g}, too much for"
                f" {matrix.type.name.lower()}; convert to bf16 or f32"
            )
    return encoded
