"""Draws the tiny models' weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from .configs import ALL_FAMILIES, COMMON, N_VOCAB, SPECIFIC

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TinyModel:
    """A model's configuration and its weights, as Hugging Face names them."""

    family: str
    config: Mapping[str, Any]
    weights: Mapping[str, Array]

    @property
    def head_dim(self) -> int:
        """The width of one attention head."""
        default = self.config["hidden_size"] // self.config["num_attention_heads"]
        return int(self.config.get("head_dim", default))

    @property
    def n_layers(self) -> int:
        """The number of blocks."""
        return int(self.config["num_hidden_layers"])


def make_model(family: str, *, seed: int = 0, changes: Mapping[str, Any] = MappingProxyType({})) -> TinyModel:
    """Draws a model's weights.

    Args:
        family: One of `ALL_FAMILIES`.
        seed: Another seed, another model.
        changes: Settings that differ from the family's usual ones.
    """
    config = {**COMMON, "model_type": family, **SPECIFIC[family], **changes}
    draw = _Draw(family, config, np.random.Generator(np.random.PCG64([seed, ALL_FAMILIES.index(family)])))
    # Small embeddings: where they drown what the layers add, a model only repeats its last token.
    scale = config["hidden_size"] ** 0.5 if draw.gemma else config.get("embedding_multiplier", 1.0)
    draw.matrix("model.embed_tokens", N_VOCAB, config["hidden_size"], 2.0 / scale)
    for layer in range(config["num_hidden_layers"]):
        _draw_block(draw, layer)
    draw.norm("model.norm", config["hidden_size"])
    if not config["tie_word_embeddings"]:
        draw.matrix("lm_head", N_VOCAB, config["hidden_size"], 2.0)
    return TinyModel(family, config, draw.weights)


class _Draw:
    """Draws one weight after the other."""

    def __init__(self, family: str, config: Mapping[str, Any], random: np.random.Generator) -> None:
        self.family = family
        self.config = config
        self.weights: dict[str, Array] = {}
        self.gemma = family.startswith("gemma")
        self._random = random

    def matrix(self, name: str, rows: int, columns: int, gain: float = 1.0) -> None:
        drawn = self._random.standard_normal((rows, columns)) * (gain / np.sqrt(columns))
        self.weights[f"{name}.weight"] = drawn.astype(np.float32)

    def vector(self, name: str, size: int, center: float, spread: float) -> None:
        self.weights[name] = (center + spread * self._random.standard_normal(size)).astype(np.float32)

    def norm(self, name: str, size: int, center: float = 1.0, spread: float = 0.1) -> None:
        # Gemma's norms store how far they are from one.
        self.vector(f"{name}.weight", size, center - self.gemma, spread)


def _draw_block(draw: _Draw, layer: int) -> None:
    config, prefix = draw.config, f"model.layers.{layer}."
    hidden = config["hidden_size"]
    if draw.family != "olmo2":
        draw.norm(prefix + "input_layernorm", hidden)
    draw.norm(prefix + "post_attention_layernorm", hidden)
    if draw.family == "olmo2" or draw.gemma:
        # ggml rounds GELU; the less comes of it, the less it matters when another machine rounds the other way.
        draw.norm(prefix + "post_feedforward_layernorm", hidden, 0.3 if draw.gemma else 1.0)
    if draw.gemma:
        draw.norm(prefix + "pre_feedforward_layernorm", hidden)
    if config.get("layer_types", ["attention"] * (layer + 1))[layer] == "mamba":
        _draw_mamba(draw, prefix + "mamba.")
    else:
        _draw_attention(draw, prefix + "self_attn.")
    _draw_feed_forward(draw, prefix)
    # Last, so that the older families are drawn as they were recorded.
    if draw.family in ("qwen3", "gemma3", "olmo2"):
        heads = (1, 1)
        if draw.family == "olmo2":
            heads = (config["num_attention_heads"], config["num_key_value_heads"])
        for letter, n in zip("qk", heads, strict=True):
            draw.norm(f"{prefix}self_attn.{letter}_norm", n * _head_dim(config), 1.5, 0.2)
    if draw.family == "qwen2":
        for letter in "qkv":
            module = f"{prefix}self_attn.{letter}_proj"
            draw.vector(f"{module}.bias", len(draw.weights[f"{module}.weight"]), 0.0, 0.5)


def _head_dim(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim", config["hidden_size"] // config["num_attention_heads"]))


def _draw_attention(draw: _Draw, prefix: str) -> None:
    config = draw.config
    hidden = config["hidden_size"]
    query = config["num_attention_heads"] * _head_dim(config)
    key = config["num_key_value_heads"] * _head_dim(config)
    # A gain on q and k sharpens attention, so that positions and rotation really matter.
    draw.matrix(prefix + "q_proj", query, hidden, 1.7)
    draw.matrix(prefix + "k_proj", key, hidden, 1.7)
    draw.matrix(prefix + "v_proj", key, hidden)
    draw.matrix(prefix + "o_proj", hidden, query)
    if draw.family == "phi3":
        _fuse(draw, prefix + "qkv_proj", [f"{prefix}{letter}_proj" for letter in "qkv"])


def _draw_feed_forward(draw: _Draw, prefix: str) -> None:
    config = draw.config
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    if "shared_intermediate_size" in config:
        shared = config["shared_intermediate_size"]
        draw.matrix(prefix + "shared_mlp.input_linear", 2 * shared, hidden)
        draw.matrix(prefix + "shared_mlp.output_linear", hidden, shared)
        if config["num_local_experts"]:
            _draw_experts(draw, prefix + "block_sparse_moe.")
        return
    draw.matrix(prefix + "mlp.gate_proj", inner, hidden)
    draw.matrix(prefix + "mlp.up_proj", inner, hidden)
    draw.matrix(prefix + "mlp.down_proj", hidden, inner)
    if draw.family == "phi3":
        _fuse(draw, prefix + "mlp.gate_up_proj", [f"{prefix}mlp.{part}_proj" for part in ("gate", "up")])


def _fuse(draw: _Draw, name: str, modules: list[str]) -> None:
    draw.weights[f"{name}.weight"] = np.concatenate([draw.weights.pop(f"{module}.weight") for module in modules])


def _draw_experts(draw: _Draw, prefix: str) -> None:
    config = draw.config
    hidden, inner, n = config["hidden_size"], config["intermediate_size"], config["num_local_experts"]
    draw.matrix(prefix + "router.layer", n, hidden, 3.0)
    for name, rows, columns in (("input_linear", 2 * inner, hidden), ("output_linear", hidden, inner)):
        draw.matrix(prefix + name, n * rows, columns)
        flat = draw.weights[f"{prefix}{name}.weight"]
        draw.weights[f"{prefix}{name}.weight"] = flat.reshape(n, rows, columns)


def _draw_mamba(draw: _Draw, prefix: str) -> None:
    config = draw.config
    hidden, heads, kernel = config["hidden_size"], config["mamba_n_heads"], config["mamba_d_conv"]
    inner = config["mamba_expand"] * hidden
    mixed = inner + 2 * config["mamba_n_groups"] * config["mamba_d_state"]
    draw.matrix(prefix + "in_proj", inner + mixed + heads, hidden)
    draw.matrix(prefix + "conv1d", mixed, kernel)
    draw.weights[prefix + "conv1d.weight"] = draw.weights[prefix + "conv1d.weight"][:, None]
    draw.vector(prefix + "conv1d.bias", mixed, 0.0, 0.2)
    # Some heads forget at once and some remember long.
    draw.vector(prefix + "dt_bias", heads, -1.0, 1.0)
    draw.vector(prefix + "A_log", heads, 0.0, 1.0)
    draw.vector(prefix + "D", heads, 1.0, 0.3)
    draw.norm(prefix + "norm", inner)
    draw.matrix(prefix + "out_proj", hidden, inner)


def write_hf(model: TinyModel, folder: Path) -> Path:
    """Writes a model as the folder that transformers loads."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model.config, indent=2), encoding="utf-8")
    save_file(dict(model.weights), folder / "model.safetensors", metadata={"format": "pt"})
    return folder
