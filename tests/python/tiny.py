"""Small random models and adapters for the engine's tests, written with gguf alone.

The weights come from the oracle's generator. An adapter file can be bent before it is written: the tests of bad input
change a key's value or its type, or a tensor.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import numpy.typing as npt

from oracle.tiny_models import (
    ALL_LINEAR,
    INVOCATION,
    N_LAYERS,
    N_VOCAB,
    AdapterSpec,
    TinyModel,
    adapter_weights,
    make_model,
    to_gguf_rows,
    write_gguf,
)

if TYPE_CHECKING:
    from alora_cpp import Adapter, Branch, Context, Model

__all__ = [
    "EXACT",
    "INVOCATION",
    "N_VOCAB",
    "Array",
    "Key",
    "Kind",
    "adapter_file",
    "base_named",
    "begin",
    "fresh_logits",
    "go_on",
    "make_model",
    "open_exact",
    "random_tokens",
    "rewrite_gguf",
    "write_byte_model",
    "write_gguf",
]

Array = npt.NDArray[np.float32]
Kind = gguf.GGUFValueType
# How far apart logits may be that should be equal; on a GPU, where F32 is multiplied in fewer bits, farther.
EXACT = float(os.environ.get("ALORA_TEST_TOLERANCE", "1e-5"))


@dataclass(frozen=True)
class Key:
    """A metadata value with its type; `items` is the type of an array's items."""

    value: Any
    kind: Kind
    items: Kind | None = None


@dataclass
class AdapterFile:
    """An adapter's GGUF before it is written."""

    architecture: str
    keys: dict[str, Key]
    tensors: dict[str, Array] = field(default_factory=dict)

    def write(self, path: Path, **changed: Key) -> Path:
        """Writes it, with some keys changed; a double underscore stands for a dot in their names."""
        writer = gguf.GGUFWriter(path, self.architecture)
        keys = self.keys | {name.replace("__", "."): key for name, key in changed.items()}
        for name, key in keys.items():
            writer.add_key_value(name, key.value, key.kind, key.items)
        for name, tensor in self.tensors.items():
            writer.add_tensor(name, tensor)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path


def adapter_file(
    model: TinyModel,
    *,
    seed: int = 0,
    rank: int = 4,
    targets: tuple[str, ...] = ALL_LINEAR,
    invocation: tuple[int, ...] | None = INVOCATION,
    name: str = "",
) -> AdapterFile:
    """Makes a random adapter that changes every projection by about half of its size."""
    spec = AdapterSpec(targets=targets, rank=rank, alpha=2.0 * rank, invocation=invocation)
    architecture = gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.GRANITE if model.family == "granite" else _arch(model.family)]
    keys = {
        "general.type": Key("adapter", Kind.STRING),
        "general.name": Key(name or f"random-{seed}", Kind.STRING),
        "adapter.type": Key("lora", Kind.STRING),
        "adapter.lora.alpha": Key(float(spec.alpha), Kind.FLOAT32),
    }
    if invocation is not None:
        keys["adapter.alora.invocation_tokens"] = Key(list(invocation), Kind.ARRAY, Kind.UINT32)
    return AdapterFile(architecture, keys, _tensors(model, adapter_weights(model, spec, seed=seed)))


def base_named(name: str) -> dict[str, Key]:
    """The keys of an adapter that was made for a base of that name on the hub."""
    return {
        "general__base_model__0__name": Key(name, Kind.STRING),
        "general__base_model__0__organization": Key("org", Kind.STRING),
    }


def _arch(family: str) -> gguf.MODEL_ARCH:
    return {"qwen2": gguf.MODEL_ARCH.QWEN2, "qwen3": gguf.MODEL_ARCH.QWEN3}.get(family, gguf.MODEL_ARCH.LLAMA)


def _tensors(model: TinyModel, weights: Mapping[str, Array]) -> dict[str, Array]:
    names = gguf.get_tensor_name_map(_arch(model.family), N_LAYERS)
    tensors: dict[str, Array] = {}
    for name, weight in weights.items():
        module, _, half = name.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".")
        tensor = f"{names.get_name(module)}.weight.{half.lower()}"
        tensors[tensor] = to_gguf_rows(model, module, weight) if half == "lora_B" else weight
    return tensors


def rewrite_gguf(
    source: Path,
    path: Path,
    *,
    tensors: Mapping[str, Array | npt.NDArray[np.uint8]] = MappingProxyType({}),
    tensor_type: gguf.GGMLQuantizationType | None = None,
    **changed: Key | None,
) -> Path:
    """Copies a GGUF with some tensors replaced or added, and some keys changed or left out.

    A double underscore stands for a dot in the keys' names; `tensor_type` is what given bytes are blocks of.
    """
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, str(reader.fields["general.architecture"].contents()))
    keys: dict[str, Key | None] = {
        name: Key(entry.contents(), entry.types[0], entry.types[-1] if entry.types[0] is Kind.ARRAY else None)
        for name, entry in reader.fields.items()
        if not name.startswith("GGUF.") and name != "general.architecture"
    }
    for name, key in (keys | {name.replace("__", "."): key for name, key in changed.items()}).items():
        if key is not None:
            writer.add_key_value(name, key.value, key.kind, key.items)
    kept = {tensor.name: tensor.tensor_type for tensor in reader.tensors if tensor.name not in tensors}
    for name, values in ({tensor.name: tensor.data for tensor in reader.tensors} | dict(tensors)).items():
        writer.add_tensor(name, values, raw_dtype=kept.get(name, tensor_type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_byte_model(source: Path, path: Path, values: list[int]) -> Path:
    """Copies a model so that its printable tokens stand for single bytes, as a byte-level tokenizer spells them."""
    plain = [*range(33, 127), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    spelled = {byte: chr(byte) for byte in plain}
    spelled |= {byte: chr(256 + i) for i, byte in enumerate(b for b in range(256) if b not in spelled)}
    texts = list(gguf.GGUFReader(source).fields["tokenizer.ggml.tokens"].contents())
    first = texts.index("!")
    texts[first : first + len(values)] = [spelled[value] for value in values]
    return rewrite_gguf(source, path, tokenizer__ggml__tokens=Key(texts, Kind.ARRAY, Kind.STRING))


def open_exact(model: Model, *, n_ctx: int = 1024, n_branches: int = 64, n_ubatch: int = 512) -> Context:
    """Opens a context that rounds as little as possible and always in the same way: one thread, float32 cache."""
    return model.context(
        n_ctx=n_ctx,
        n_branches=n_branches,
        n_ubatch=n_ubatch,
        n_threads=1,
        kv_type="f32",
        flash_attention=False,
    )


def random_tokens(seed: int, count: int) -> list[int]:
    """Draws tokens that are no control tokens."""
    random = np.random.Generator(np.random.PCG64([seed, 3000]))
    return [int(token) for token in random.integers(5, N_VOCAB, count)]


def fresh_logits(
    model: Model,
    tokens: list[int],
    *,
    adapter: Adapter | None = None,
    at: int = 0,
    scale: float = 1.0,
) -> Array:
    """Computes the logits of all tokens in a context of their own, with the adapter governing from `at` on."""
    with open_exact(model, n_ctx=max(256, 2 * len(tokens))) as context:
        branch = context.branch()
        if adapter is None:
            branch.append(tokens)
        else:
            branch.append(tokens[:at])
            branch.activate(adapter, scale)
            branch.append(tokens[at:])
        context.decode()
        return branch.logits(rows=len(tokens))


def begin(context: Context, tokens: list[int]) -> Branch:
    """A branch with its tokens computed."""
    branch = context.branch()
    branch.append(tokens)
    context.decode()
    return branch


def go_on(branch: Branch, context: Context, tokens: list[int]) -> Array:
    """The logits after more tokens."""
    branch.append(tokens)
    context.decode()
    return branch.logits()
