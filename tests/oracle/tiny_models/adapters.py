"""Random adapters for the tiny models, as PEFT saves them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors.numpy import save_file

from .model import Array, TinyModel

_Number = TypeVar("_Number", int, float)

ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
ALL_LINEAR = (
    *ATTENTION,
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
STATE_SPACE = ("mamba.in_proj", "mamba.out_proj")
INVOCATION = (5, 6, 7)

# What families call the modules of `ALL_LINEAR` where they have them under another name.
_FUSED = {
    **dict.fromkeys(ATTENTION, "self_attn.qkv_proj"),
    **dict.fromkeys(("mlp.gate_proj", "mlp.up_proj"), "mlp.gate_up_proj"),
}
_SHARED = {
    **dict.fromkeys(("mlp.gate_proj", "mlp.up_proj"), "shared_mlp.input_linear"),
    "mlp.down_proj": "shared_mlp.output_linear",
}


@dataclass(frozen=True)
class AdapterSpec:
    """What a random adapter looks like; `invocation` is None for an ordinary LoRA."""

    targets: tuple[str, ...] = ATTENTION
    rank: int = 4
    alpha: float = 8
    use_rslora: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    invocation: tuple[int, ...] | None = INVOCATION


def target_modules(model: TinyModel, spec: AdapterSpec) -> list[str]:
    """Lists the modules that an adapter changes, with the names they have in this model."""
    names = _FUSED if model.family == "phi3" else _SHARED if model.family.startswith("granitemoe") else {}
    names = _SHARED if model.family == "granite4" else names
    modules = dict.fromkeys(names.get(target, target) for target in spec.targets)
    return [
        f"model.layers.{layer}.{module}"
        for layer in range(model.n_layers)
        for module in modules
        if f"model.layers.{layer}.{module}.weight" in model.weights
    ]


def adapter_weights(model: TinyModel, spec: AdapterSpec, *, seed: int = 0) -> dict[str, Array]:
    """Draws an adapter's matrices, as PEFT names them.

    A and B are drawn so that the adapter changes a projection's output by about half of its
    size, whatever the rank and the scale.
    """
    random = np.random.Generator(np.random.PCG64([seed, 1000]))
    weights: dict[str, Array] = {}
    for module in target_modules(model, spec):
        out, inputs = model.weights[module + ".weight"].shape
        rank = _by_suffix(spec.rank_pattern, module, spec.rank)
        alpha = _by_suffix(spec.alpha_pattern, module, spec.alpha)
        scale = alpha / (rank**0.5 if spec.use_rslora else rank)
        a = random.standard_normal((rank, inputs)) / np.sqrt(inputs)
        b = random.standard_normal((out, rank)) * (0.5 / (scale * np.sqrt(rank)))
        weights[f"base_model.model.{module}.lora_A.weight"] = a.astype(np.float32)
        weights[f"base_model.model.{module}.lora_B.weight"] = b.astype(np.float32)
    return weights


def _by_suffix(pattern: Mapping[str, _Number], module: str, default: _Number) -> _Number:
    # Enough for the plain names in our specifications; PEFT itself matches expressions.
    return next((v for k, v in pattern.items() if f".{module}".endswith(f".{k}")), default)


def write_adapter(
    model: TinyModel,
    spec: AdapterSpec,
    folder: Path,
    *,
    seed: int = 0,
    base: str | None = None,
) -> Path:
    """Writes a random adapter as PEFT saves it."""
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": spec.rank,
        "lora_alpha": spec.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": spec.use_rslora,
        "rank_pattern": dict(spec.rank_pattern),
        "alpha_pattern": dict(spec.alpha_pattern),
        "target_modules": sorted({module.rpartition(".")[2] for module in target_modules(model, spec)}),
        "alora_invocation_tokens": None if spec.invocation is None else list(spec.invocation),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    weights = adapter_weights(model, spec, seed=seed)
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder
