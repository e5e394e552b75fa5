"""Writes an adapter as GGUF.

The file has llama.cpp's keys (`general.type` = adapter, `adapter.type` = lora,
`adapter.lora.alpha`, `adapter.alora.invocation_tokens`) and, for each adapted weight, the two
tensors `<weight>.lora_a` [rank, in] and `<weight>.lora_b` [out, rank]. Keys of our own are told in
`adapter_metadata.py`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from alora_cpp.errors import ConversionError

from .adapter_metadata import add_metadata, gather_facts, identify_base
from .adapter_plan import Matrix, plan_adapter
from .base import Base, read_base
from .base_name import check_base_name
from .legacy_invocation import LEGACY_OFFSET, tokenize_invocation
from .peft_config import CONFIG_NAME, PeftConfig
from .peft_folder import read_folder

Type = gguf.GGMLQuantizationType

_OUTTYPES: Mapping[str, tuple[Type, gguf.LlamaFileType]] = {
    "f32": (Type.F32, gguf.LlamaFileType.ALL_F32),
    "f16": (Type.F16, gguf.LlamaFileType.MOSTLY_F16),
    "bf16": (Type.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "q8_0": (Type.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}

OUTTYPES: tuple[str, ...] = tuple(_OUTTYPES)
"""The names of the number formats that `convert_adapter` can write."""


def convert_adapter(
    folder: str | os.PathLike[str],
    outfile: str | os.PathLike[str],
    *,
    base: str | os.PathLike[str] | None = None,
    outtype: str = "f16",
    name: str | None = None,
    force: bool = False,
    invocation: Sequence[int] | None = None,
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
        force: Whether to convert an adapter that names another base, too.
        invocation: The whole invocation, where adapter_config.json has only its end, from which on
            the adapter acts.

    Returns:
        The file written.

    Raises:
        AdapterMismatchError: The configuration names another base than the one given.
        ConversionError: The adapter cannot be converted; no file is left behind.
    """
    folder, outfile = Path(folder), Path(outfile)
    if outtype not in _OUTTYPES:
        raise ConversionError(f"outtype {outtype!r} is not known; expected {', '.join(OUTTYPES)}")
    adapter = read_folder(folder)
    base_path = _base_path(folder, adapter.config, base)
    facts = read_base(base_path)
    tokens, offset = _invocation(folder, adapter.config, base_path, facts, invocation)
    plan = plan_adapter(folder, adapter, facts, _OUTTYPES[outtype][0])
    about = gather_facts(folder, adapter, name or folder.resolve().name, tokens, offset)
    identity = identify_base(base_path, tokens)
    if not force:
        check_base_name(folder, adapter.config.base, base_path, identity.name)
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
                add_metadata(writer, about, facts, identity, plan)
                writer.add_file_type(_OUTTYPES[outtype][1])
                writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
                write_matrices(writer, plan.matrices)
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


def _invocation(
    folder: Path, config: PeftConfig, base_path: Path, base: Base, written: Sequence[int] | None
) -> tuple[tuple[int, ...] | None, int]:
    """Gives the invocation tokens, and how many of them pass before the adapter acts."""
    tokens, offset = config.invocation_tokens, 0
    if written is not None:
        if not tokens or tuple(written[-len(tokens) :]) != tokens:
            raise ConversionError(
                f"{folder / CONFIG_NAME} has the invocation tokens {list(tokens or ())}, expected the end of"
                f" {list(written)}; give the invocation that the adapter was trained with"
            )
        tokens, offset = tuple(written), len(written) - len(tokens)
    if config.invocation_string is not None:
        tokens, offset = tokenize_invocation(config.invocation_string, folder, base_path), LEGACY_OFFSET
    for token in tokens or ():
        if base.n_vocab is not None and token >= base.n_vocab:
            raise ConversionError(
                f"the invocation has token {token}, but the vocabulary of {base.source} ends at"
                f" {base.n_vocab - 1}; give the base that the adapter was trained on"
            )
    return tokens, offset


def write_matrices(writer: gguf.GGUFWriter, matrices: Sequence[Matrix]) -> None:
    """Writes a file's header with all that was added to it, and its matrices.

    Raises:
        ConversionError: A number is too large for its type.
        OSError: The file cannot be written.
    """
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
