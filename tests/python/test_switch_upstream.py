"""The tiny Granite Switch model of our tests is what llama.cpp's own converter makes of the composed checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from oracle.adapter_files import AdapterFile
from oracle.tiny_models import N_LAYERS, Array, TinyModel, adapter_weights, make_model
from oracle.upstream import convert_model
from tiny_switch import ADAPTERS, NAMES, Composed, compose, control_token

pytestmark = pytest.mark.oracle

_PIECES = {
    "self_attn.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attn.o_proj": ("self_attn.o_proj",),
    "shared_mlp.input_linear": ("mlp.gate_proj", "mlp.up_proj"),
    "shared_mlp.output_linear": ("mlp.down_proj",),
}


def stacked(model: TinyModel, module: str, half: str) -> Array:
    """All adapters' A or B of a module, padded, as a composed checkpoint has them: [adapters, 1, rows, columns]."""
    n_out, n_in = model.weights[f"{module}.weight"].shape
    rank = max(spec.rank for spec in ADAPTERS)
    stack = np.zeros((len(ADAPTERS), 1, *((rank, n_in) if half == "A" else (n_out, rank))), np.float32)
    for number, spec in enumerate(ADAPTERS):
        matrix = adapter_weights(model, spec, seed=number).get(f"base_model.model.{module}.lora_{half}.weight")
        if matrix is not None:
            scale = np.float32(1 if half == "A" else spec.alpha / spec.rank)
            stack[number, 0, : matrix.shape[0], : matrix.shape[1]] = matrix * scale
    return stack


def write_checkpoint(folder: Path) -> Path:
    """Writes the composed checkpoint: projections fused as transformers has them, a layer more for the router."""
    model = make_model("granite")
    weights = {name: rows for name, rows in model.weights.items() if ".layers." not in name or "layernorm" in name}
    weights["model.embed_tokens.weight"] = np.pad(weights["model.embed_tokens.weight"], ((0, len(NAMES)), (0, 0)))
    del weights["lm_head.weight"]
    for layer in range(N_LAYERS):
        for fused, pieces in _PIECES.items():
            modules = [f"model.layers.{layer}.{piece}" for piece in pieces]
            name = f"model.layers.{layer}.{fused}"
            weights[f"{name}.base_layer.weight"] = np.concatenate([model.weights[f"{one}.weight"] for one in modules])
            for number, one in enumerate(modules):
                for half in "AB":
                    suffix = f"_slices.{number}" if len(modules) > 1 else ""
                    weights[f"{name}.lora_{half}{suffix}"] = stacked(model, one, half)
    config = {
        **model.config,
        "architectures": ["GraniteSwitchForCausalLM"],
        "model_type": "granite_switch",
        "num_hidden_layers": N_LAYERS + 1,
        "shared_intermediate_size": model.config["intermediate_size"],
        "num_local_experts": 0,
        "vocab_size": model.config["vocab_size"] + len(NAMES),
        "tie_word_embeddings": True,
        "num_adapters": len(NAMES),
        "max_lora_rank": max(spec.rank for spec in ADAPTERS),
        "adapter_token_ids": [control_token(name) for name in NAMES],
        "adapter_substitute_token_ids": [3] * len(NAMES),
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def composed(tmp_path: Path) -> Composed:
    return compose(tmp_path / "ours")


def test_our_composed_model_is_upstreams(composed: Composed, tmp_path: Path) -> None:
    theirs = AdapterFile(convert_model(write_checkpoint(tmp_path / "checkpoint"), tmp_path / "theirs.gguf"))
    ours = AdapterFile(composed.path)
    # The checkpoint's output is its embedding; ours has one of its own.
    assert theirs.tensors.keys() == ours.tensors.keys() - {"output.weight"}
    for name, values in theirs.tensors.items():
        np.testing.assert_array_equal(ours.tensors[name], values, err_msg=name)
    for key, value in ours.fields.items():
        if key.startswith("graniteswitch.adapters."):
            assert theirs.fields[key] == value
