"""Writes Granite Switch models: a base, and stacks of adapters built into it.

The format is told in `convert/switch_model.py`: query, key and value in one weight; for each projection the A and the
B of all adapters behind an empty slot 0; a control token for each adapter, which stands for the first token of its
invocation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

ARCHITECTURE = "graniteswitch"
PROJECTIONS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")

_FUSED = PROJECTIONS[:3]
_F16 = gguf.GGMLQuantizationType.F16


def write_composed(
    base: Path,
    path: Path,
    names: Sequence[str],
    stacks: Iterable[tuple[str, Array]],
    *,
    rank: int,
    first_token: int,
) -> Path:
    """Writes a composed model.

    Args:
        base: The base, a Llama or Granite GGUF whose query, key and value are of one number type. The last tokens of
            its vocabulary become control tokens.
        path: The file to write; it appears when it is complete.
        names: What the adapters are called.
        stacks: Name and numbers of each stack, `<projection>.lora_a` [slots, rank, in] and `<projection>.lora_b`
            [slots, out, rank], for all projections.
        rank: The adapters' rank.
        first_token: The first token of the invocations.

    Raises:
        ValueError: Query, key and value of a block are of several number types.
    """
    reader = gguf.GGUFReader(base)
    unfinished = path.with_suffix(".part")
    writer = gguf.GGUFWriter(unfinished, ARCHITECTURE, use_temp_file=True)
    _copy_keys(reader, writer, names)
    writer.add_uint32(f"{ARCHITECTURE}.adapters.count", len(names))
    writer.add_uint32(f"{ARCHITECTURE}.adapters.lora_rank", rank)
    writer.add_array(f"{ARCHITECTURE}.adapters.token_ids_substitute", [first_token] * len(names))
    for name, data, kind in _fused(reader):
        writer.add_tensor(name, data, raw_dtype=kind)
    for name, stack in stacks:
        writer.add_tensor(name, stack.astype(np.float16), raw_dtype=_F16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.rename(path)
    return path


def adapter_stacks(base: Path, adapters: Sequence[Path]) -> Iterator[tuple[str, Array]]:
    """The stacks of adapters that are files of their own; what they leave alone is zero.

    Args:
        base: Their base.
        adapters: Their files, all of one rank.
    """
    readers = [gguf.GGUFReader(path) for path in adapters]
    matrices = [{tensor.name: _numbers(tensor) for tensor in reader.tensors} for reader in readers]
    alphas = [float(reader.fields["adapter.lora.alpha"].contents()) for reader in readers]
    rank = rank_of(adapters[0])
    for weight in gguf.GGUFReader(base).tensors:
        inputs, outputs = (int(size) for size in (*weight.shape, 1)[:2])
        projection = weight.name.removesuffix(".weight")
        if projection.rpartition(".")[2] not in PROJECTIONS:
            continue
        for half, shape in {"a": (rank, inputs), "b": (outputs, rank)}.items():
            stack = np.zeros((1 + len(adapters), *shape), np.float32)
            for slot, (alpha, tensors) in enumerate(zip(alphas, matrices, strict=True), start=1):
                if (matrix := tensors.get(f"{weight.name}.lora_{half}")) is not None:
                    stack[slot] = matrix * (alpha / rank if half == "b" else 1)
            yield f"{projection}.lora_{half}", stack


def rank_of(adapter: Path) -> int:
    """The rank of an adapter's first matrix."""
    return int(next(one for one in gguf.GGUFReader(adapter).tensors if one.name.endswith(".lora_a")).shape[1])


def _numbers(tensor: gguf.ReaderTensor) -> Array:
    numbers: Array = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
    return numbers


def _copy_keys(reader: gguf.GGUFReader, writer: gguf.GGUFWriter, names: Sequence[str]) -> None:
    architecture = str(reader.fields["general.architecture"].contents())
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        value: Any = field.contents()
        if key == "tokenizer.ggml.tokens":
            first = len(value) - len(names)
            writer.add_array(f"{ARCHITECTURE}.adapters.token_ids_activate", list(range(first, len(value))))
            value[first:] = [f"<|{name}|>" for name in names]
        if key == "tokenizer.ggml.token_type":
            value[-len(names) :] = [int(gguf.TokenType.CONTROL)] * len(names)
        items = field.types[-1] if field.types[0] is gguf.GGUFValueType.ARRAY else None
        own, _, rest = key.partition(".")
        writer.add_key_value(f"{ARCHITECTURE}.{rest}" if own == architecture else key, value, field.types[0], items)
    if f"{architecture}.logit_scale" not in reader.fields:
        writer.add_logit_scale(1.0)


def _fused(reader: gguf.GGUFReader) -> Iterator[tuple[str, npt.NDArray[Any], gguf.GGMLQuantizationType]]:
    """The base's tensors, query, key and value in one."""
    parts: dict[str, dict[str, gguf.ReaderTensor]] = {}
    for tensor in reader.tensors:
        block, _, part = tensor.name.removesuffix(".weight").rpartition(".")
        if part in _FUSED:
            parts.setdefault(block, {})[part] = tensor
        else:
            yield tensor.name, tensor.data, tensor.tensor_type
    for block, found in parts.items():
        kinds = {tensor.tensor_type for tensor in found.values()}
        if len(kinds) > 1:
            raise ValueError(
                f"{block} has query, key and value of the types {', '.join(sorted(kind.name for kind in kinds))}, which"
                " cannot be one weight; compose a base of one type, and quantize what is composed"
            )
        yield f"{block}.attn_qkv.weight", np.concatenate([found[part].data for part in _FUSED]), kinds.pop()
