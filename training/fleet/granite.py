"""Granite's forward pass, for several adapters at once.

Shapes: G adapters, N conversations, T tokens, D the width. The base's weights are frozen and shared; hidden states are
[G, N, T, D]. The residual stream is in 32 bits, matrices are multiplied in the type of the base's weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """The numbers of a Granite's config.json that its forward pass needs."""

    heads: int
    key_value_heads: int
    head_size: int
    epsilon: float
    rope_theta: float
    embedding_multiplier: float
    attention_multiplier: float
    residual_multiplier: float
    logits_scaling: float

    @property
    def widths(self) -> tuple[int, int, int]:
        """Of queries, keys and values."""
        keys = self.key_value_heads * self.head_size
        return self.heads * self.head_size, keys, keys


class Layer(NamedTuple):
    """One layer's frozen weights; rows are outputs."""

    attention_norm: Tensor
    query_key_value: Tensor
    attention_output: Tensor
    feed_forward_norm: Tensor
    gate_up: Tensor
    down: Tensor


class LayerAdapters(NamedTuple):
    """One layer's A and B of G adapters: `a` is [G, D, 3r], for query, key and value; each B is [G, r, width]."""

    a: Tensor
    b_query: Tensor
    b_key: Tensor
    b_value: Tensor


class Prefix(NamedTuple):
    """What one layer has read: rotated keys and values, each [N, heads, T, size]."""

    keys: Tensor
    values: Tensor


@dataclass(frozen=True)
class Granite:
    """A frozen base model."""

    shape: Shape
    embedding: Tensor
    layers: Sequence[Layer]
    norm: Tensor
    head: Tensor

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.embedding.device

    def embed(self, ids: Tensor) -> Tensor:
        """Hidden states of ids, before the first layer."""
        return self.embedding[ids].float() * self.shape.embedding_multiplier

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits, in 32 bits, of hidden states after the last layer."""
        normed = _rms_norm(hidden, self.norm, self.shape.epsilon).to(self.head.dtype)
        return functional.linear(normed, self.head).float() / self.shape.logits_scaling


def load_granite(folder: Path, device: torch.device, dtype: torch.dtype) -> Granite:
    """Reads a folder that transformers wrote.

    Args:
        folder: With config.json and model.safetensors.
        device: Where to compute.
        dtype: Of the matrices.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return _granite(config, load_file(folder / "model.safetensors"), device, dtype)


def _granite(
    config: Mapping[str, object], state: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype
) -> Granite:
    values: dict[str, float] = {key: float(value) for key, value in config.items() if isinstance(value, (int, float))}
    heads = int(values["num_attention_heads"])
    rope = config.get("rope_parameters")
    shape = Shape(
        heads,
        int(values["num_key_value_heads"]),
        int(values.get("head_dim", values["hidden_size"] / heads)),
        values["rms_norm_eps"],
        float(rope["rope_theta"]) if isinstance(rope, dict) else values["rope_theta"],
        values["embedding_multiplier"],
        values["attention_multiplier"],
        values["residual_multiplier"],
        values["logits_scaling"],
    )

    def matrix(*names: str) -> Tensor:
        return torch.cat([state[name] for name in names]).to(device, dtype)

    def layer(prefix: str) -> Layer:
        attention, feed_forward = f"{prefix}.self_attn", f"{prefix}.mlp"
        return Layer(
            state[f"{prefix}.input_layernorm.weight"].to(device, torch.float32),
            matrix(*(f"{attention}.{name}_proj.weight" for name in "qkv")),
            matrix(f"{attention}.o_proj.weight"),
            state[f"{prefix}.post_attention_layernorm.weight"].to(device, torch.float32),
            matrix(f"{feed_forward}.gate_proj.weight", f"{feed_forward}.up_proj.weight"),
            matrix(f"{feed_forward}.down_proj.weight"),
        )

    embedding = matrix("model.embed_tokens.weight")
    return Granite(
        shape,
        embedding,
        [layer(f"model.layers.{number}") for number in range(int(values["num_hidden_layers"]))],
        state["model.norm.weight"].to(device, torch.float32),
        matrix("lm_head.weight") if "lm_head.weight" in state else embedding,
    )


def angles(shape: Shape, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines, [N, T, 1, size], that turn queries and keys at positions [N, T]."""
    steps = torch.arange(0, shape.head_size, 2, device=positions.device) / shape.head_size
    turns = positions[..., None].float() * shape.rope_theta**-steps
    both = torch.cat([turns, turns], -1)[:, :, None, :]
    return both.cos(), both.sin()


def _rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return functional.rms_norm(x, (x.shape[-1],), weight, epsilon)


def _rotated(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    first, second = x.float().chunk(2, -1)
    return (x * cosines + torch.cat([-second, first], -1) * sines).to(x.dtype)


def _adapted(normed: Tensor, adapters: LayerAdapters, governed: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """What adapters add to query, key and value; `governed`, [G, T], is 1 where a token is theirs."""
    members, rows, length, _ = normed.shape
    low = torch.bmm(normed.flatten(1, 2), adapters.a.to(normed.dtype))
    if governed is not None:
        low = (low.unflatten(1, (rows, length)) * governed[:, None, :, None].to(low.dtype)).flatten(1, 2)
    parts = zip(low.chunk(3, -1), adapters[1:], strict=True)
    query, key, value = (torch.bmm(part, b.to(part.dtype)).view(members, rows, length, -1) for part, b in parts)
    return query, key, value


def _attend_all(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Causal attention within each row: [G, N, T, heads, size] each."""
    # Not every kernel knows grouped heads; repeating them costs little beside falling back to a slow one.
    share = query.shape[3] // key.shape[3]
    turned = (query, key.repeat_interleave(share, 3), value.repeat_interleave(share, 3))
    queries, keys, values = (part.flatten(0, 1).transpose(1, 2) for part in turned)
    mixed = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True, scale=scale)
    return mixed.transpose(1, 2).unflatten(0, query.shape[:2]).flatten(-2)


def _attend_late(query: Tensor, key: Tensor, value: Tensor, scale: float, prefix: Prefix, visible: Tensor) -> Tensor:
    """Attention of the last few tokens to a prefix that all adapters share, and to their own.

    All adapters' queries meet all keys at once; `visible` [N, 1, heads per key head * G * T, prefix + G * T] lets each
    see the prefix and its own past alone.
    """
    members, rows, length, _, size = query.shape
    key_heads = key.shape[3]
    queries = query.unflatten(3, (key_heads, -1)).permute(1, 3, 4, 0, 2, 5).reshape(rows, key_heads, -1, size)
    keys, values = (
        torch.cat([read, new.permute(1, 3, 0, 2, 4).reshape(rows, key_heads, -1, size)], 2)
        for read, new in zip(prefix, (key, value), strict=True)
    )
    mixed = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=visible, scale=scale)
    apart = mixed.view(rows, key_heads, -1, members, length, size).permute(3, 0, 4, 1, 2, 5)
    return apart.reshape(members, rows, length, -1)


def run_layer(
    shape: Shape,
    layer: Layer,
    x: Tensor,
    turning: tuple[Tensor, Tensor],
    adapters: LayerAdapters | None = None,
    governed: Tensor | None = None,
    late: tuple[Prefix, Tensor] | None = None,
) -> tuple[Tensor, Prefix]:
    """One layer.

    Args:
        shape: The model's.
        layer: Its weights.
        x: Hidden states, [G, N, T, D].
        turning: `angles` of the tokens' positions.
        adapters: None for the base alone.
        governed: [G, T], which tokens are the adapters'; all without it.
        late: What was read before these tokens, and who may see what; without it they are whole texts.

    Returns:
        The new hidden states, and the keys and values of the first of the G.
    """
    dtype = layer.query_key_value.dtype
    normed = _rms_norm(x, layer.attention_norm, shape.epsilon).to(dtype)
    parts = functional.linear(normed, layer.query_key_value).split(shape.widths, -1)
    if adapters is not None:
        added = _adapted(normed, adapters, governed)
        parts = tuple(part + more for part, more in zip(parts, added, strict=True))
    query, key, value = (part.unflatten(-1, (-1, shape.head_size)) for part in parts)
    query, key = _rotated(query, *turning), _rotated(key, *turning)
    if late is None:
        mixed = _attend_all(query, key, value, shape.attention_multiplier)
    else:
        mixed = _attend_late(query, key, value, shape.attention_multiplier, *late)
    x = x + functional.linear(mixed, layer.attention_output) * shape.residual_multiplier
    normed = _rms_norm(x, layer.feed_forward_norm, shape.epsilon).to(dtype)
    gate, up = functional.linear(normed, layer.gate_up).chunk(2, -1)
    x = x + functional.linear(functional.silu(gate) * up, layer.down) * shape.residual_multiplier
    return x, Prefix(key[0].transpose(1, 2), value[0].transpose(1, 2))
