"""A tiny Granite Switch model: a random granite with three adapters built in, and the very same adapters apart.

Composed here from the granite's own file, as the format says: q, k and v in one weight, each adapter's A and B in a slot
of a stack, behind an empty slot 0 for the base, padded with zeros to the largest rank, the scale within B, and a
control token at the vocabulary's end for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from oracle.tiny_models import ALL_LINEAR, ATTENTION
from tiny import N_VOCAB, AdapterFile, Array, Key, Kind, adapter_file, make_model, write_gguf
from tiny_chats import TEMPLATE

BEGIN_ROLE = 3
"""The token that the adapters' invocations begin with, which stands where their control tokens are."""

ASSISTANT_PROMPT = (BEGIN_ROLE, 71, 89, 89, 79, 89, 90, 71, 84, 90, 4)
"""What begins a reply in `TEMPLATE`; it invokes the adapters."""

_STACKED = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
_FUSED = ("attn_q", "attn_k", "attn_v")


@dataclass(frozen=True)
class Composed:
    """A composed model's file, its base's, and its adapters before they were built in."""

    path: Path
    base: Path
    adapters: Mapping[str, AdapterFile]

    def control_token(self, name: str) -> int:
        """The token that calls an adapter."""
        return N_VOCAB + list(self.adapters).index(name)


def compose(folder: Path, *, stem: str = "switch", gain: float = 15.0, **changed: Key | None) -> Composed:
    """Writes a granite and what is composed of it and three random adapters.

    Args:
        folder: Where to.
        stem: The composed model's name.
        gain: How far the router holds control tokens and others apart.
        changed: Keys of the composed model to change or leave out; a double underscore stands for a dot.
    """
    model = make_model("granite")
    shapes = {"certainty": (4, ALL_LINEAR), "safety": (8, ATTENTION), "answerability": (6, ("self_attn.o_proj",))}
    adapters = {
        name: adapter_file(model, seed=seed, rank=rank, targets=targets, invocation=ASSISTANT_PROMPT, name=name)
        for seed, (name, (rank, targets)) in enumerate(shapes.items())
    }
    base = write_gguf(model, folder / f"{stem}-source.gguf")
    controls = {f"<|{name}|>": N_VOCAB + index for index, name in enumerate(adapters)}
    keys = _model_keys(base, list(controls))
    arch = "graniteswitch.adapters"
    keys |= {
        f"{arch}.count": Key(len(adapters), Kind.UINT32),
        f"{arch}.lora_rank": Key(max(rank for rank, _ in shapes.values()), Kind.UINT32),
        f"{arch}.token_ids_activate": Key(list(controls.values()), Kind.ARRAY, Kind.INT32),
        f"{arch}.token_ids_substitute": Key([BEGIN_ROLE] * len(adapters), Kind.ARRAY, Kind.INT32),
        f"{arch}.router_gain": Key(gain, Kind.FLOAT32),
        "tokenizer.chat_template": Key(TEMPLATE, Kind.STRING),
    }
    keys |= {name.replace("__", "."): key for name, key in changed.items()}  # type: ignore[misc]
    kept = {name: key for name, key in keys.items() if key is not None}
    tensors = _base_tensors(base, len(adapters)) | _stacks(base, list(adapters.values()))
    path = AdapterFile("graniteswitch", kept, tensors).write(folder / f"{stem}.gguf")
    return Composed(path, base, adapters)


def _model_keys(base: Path, controls: list[str]) -> dict[str, Key]:
    keys: dict[str, Key] = {}
    for name, entry in gguf.GGUFReader(base).fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value: Any = entry.contents()
        if name == "tokenizer.ggml.tokens":
            value = [*value, *controls]
        elif name == "tokenizer.ggml.token_type":
            value = [*value, *[int(gguf.TokenType.CONTROL)] * len(controls)]
        elif name.endswith(".vocab_size"):
            value += len(controls)
        items = entry.types[-1] if entry.types[0] is Kind.ARRAY else None
        prefix, _, rest = name.partition(".")
        keys[f"graniteswitch.{rest}" if prefix == "granite" else name] = Key(value, entry.types[0], items)
    return keys


def _base_tensors(base: Path, n_controls: int) -> dict[str, Array]:
    """The granite's weights with q, k and v in one, and empty rows for the control tokens."""
    tensors = {one.name: np.array(one.data) for one in gguf.GGUFReader(base).tensors}
    for name in ("token_embd.weight", "output.weight"):
        tensors[name] = np.pad(tensors[name], ((0, n_controls), (0, 0)))
    for prefix in {name.removesuffix("attn_q.weight") for name in tensors if name.endswith("attn_q.weight")}:
        parts = [tensors.pop(f"{prefix}{part}.weight") for part in _FUSED]
        tensors[f"{prefix}attn_qkv.weight"] = np.concatenate(parts)
    return tensors


def _stacks(base: Path, adapters: list[AdapterFile]) -> dict[str, Array]:
    """For each projection the stacked A [slots, rank, in] and B [slots, out, rank]."""
    max_rank = max(len(a) for one in adapters for name, a in one.tensors.items() if name.endswith("lora_a"))
    stacks: dict[str, Array] = {}
    for weight in gguf.GGUFReader(base).tensors:
        projection = weight.name.removesuffix(".weight")
        if projection.rpartition(".")[2] not in _STACKED:
            continue
        n_out, n_in = weight.data.shape
        stack_a = np.zeros((1 + len(adapters), max_rank, n_in), np.float32)
        stack_b = np.zeros((1 + len(adapters), n_out, max_rank), np.float32)
        for slot, adapter in enumerate(adapters, start=1):
            a, b = (adapter.tensors.get(f"{weight.name}.lora_{half}") for half in "ab")
            if a is not None and b is not None:
                stack_a[slot, : len(a)] = a
                stack_b[slot, :, : len(a)] = b * np.float32(adapter.keys["adapter.lora.alpha"].value / len(a))
        stacks |= {f"{projection}.lora_a": stack_a, f"{projection}.lora_b": stack_b}
    return stacks
