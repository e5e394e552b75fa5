"""A tiny Granite Switch model: a random granite with three adapters built in, and the very same adapters apart.

Composed here from the granite's own file, as the format says: q, k and v in one weight, each adapter's A and B in a
slot of a stack, behind an empty slot 0 for the base, padded with zeros to the largest rank, the scale within B, and a
control token at the vocabulary's end for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from oracle.tiny_models import ALL_LINEAR, ATTENTION, AdapterSpec
from tiny import N_VOCAB, AdapterFile, Array, Key, Kind, adapter_file, make_model, rewrite_gguf, write_gguf
from tiny_chats import ASSISTANT, TEMPLATE, template_tokens

ASSISTANT_PROMPT = tuple(template_tokens(ASSISTANT))
NAMES = ("certainty", "safety", "answerability")
ADAPTERS = (
    AdapterSpec(targets=ALL_LINEAR, rank=4, alpha=8.0),
    AdapterSpec(targets=ATTENTION, rank=8, alpha=16.0),
    AdapterSpec(targets=("self_attn.o_proj",), rank=6, alpha=12.0),
)
"""The shapes of the adapters, in the order of their names; the number of each is its seed."""

_STACKED = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
_FUSED = ("attn_q", "attn_k", "attn_v")


@dataclass(frozen=True)
class Composed:
    """A composed model's file, its base's, and its adapters before they were built in."""

    path: Path
    base: Path
    adapters: Mapping[str, AdapterFile]

    def write_adapters(self, folder: Path) -> dict[str, Path]:
        """Writes each adapter as a file of its own."""
        return {name: one.write(folder / f"{name}.gguf") for name, one in self.adapters.items()}


def control_token(name: str) -> int:
    """The token that calls an adapter."""
    return N_VOCAB + NAMES.index(name)


def compose(
    folder: Path,
    *,
    stem: str = "switch",
    invocation: tuple[int, ...] = ASSISTANT_PROMPT,
    template: str = TEMPLATE,
    **changed: Key,
) -> Composed:
    """Writes a granite and what is composed of it and three random adapters.

    Args:
        folder: Where to.
        stem: The composed model's name.
        invocation: What invokes the adapters; a control token stands for its first token.
        template: The chat template.
        changed: Keys of the composed model to change; a double underscore stands for a dot.
    """
    folder.mkdir(exist_ok=True)
    model = make_model("granite")
    adapters = {
        name: adapter_file(model, seed=seed, rank=one.rank, targets=one.targets, invocation=invocation, name=name)
        for seed, (name, one) in enumerate(zip(NAMES, ADAPTERS, strict=True))
    }
    base = rewrite_gguf(
        write_gguf(model, folder / "plain.gguf"),
        folder / "base.gguf",
        tokenizer__chat_template=Key(template, Kind.STRING),
    )
    keys = _model_keys(base)
    arch = "graniteswitch.adapters"
    keys |= {
        f"{arch}.count": Key(len(adapters), Kind.UINT32),
        f"{arch}.lora_rank": Key(max(one.rank for one in ADAPTERS), Kind.UINT32),
        f"{arch}.token_ids_activate": Key([control_token(name) for name in NAMES], Kind.ARRAY, Kind.INT32),
        f"{arch}.token_ids_substitute": Key([invocation[0]] * len(adapters), Kind.ARRAY, Kind.INT32),
        f"{arch}.router_gain": Key(15.0, Kind.FLOAT32),
    }
    tensors = _base_tensors(base) | _stacks(base, list(adapters.values()))
    path = AdapterFile("graniteswitch", keys, tensors).write(folder / f"{stem}.gguf", **changed)
    return Composed(path, base, adapters)


def _model_keys(base: Path) -> dict[str, Key]:
    keys: dict[str, Key] = {}
    for name, entry in gguf.GGUFReader(base).fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value: Any = entry.contents()
        if name == "tokenizer.ggml.tokens":
            value = [*value, *(f"<|{name}|>" for name in NAMES)]
        elif name == "tokenizer.ggml.token_type":
            value = [*value, *[int(gguf.TokenType.CONTROL)] * len(NAMES)]
        elif name.endswith(".vocab_size"):
            value += len(NAMES)
        items = entry.types[-1] if entry.types[0] is Kind.ARRAY else None
        prefix, _, rest = name.partition(".")
        keys[f"graniteswitch.{rest}" if prefix == "granite" else name] = Key(value, entry.types[0], items)
    return keys


def _base_tensors(base: Path) -> dict[str, Array]:
    """The granite's weights with q, k and v in one, and empty rows for the control tokens."""
    tensors = {one.name: np.array(one.data) for one in gguf.GGUFReader(base).tensors}
    for name in ("token_embd.weight", "output.weight"):
        tensors[name] = np.pad(tensors[name], ((0, len(NAMES)), (0, 0)))
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
