"""Writes one trained adapter as PEFT would."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file

from training.fleet.group import Group


def save_adapter(group: Group, position: int, base_name: str, folder: Path) -> None:
    """Writes adapter_config.json and adapter_model.safetensors of one member.

    Args:
        group: The group that it was trained in.
        position: Which of the group's members.
        base_name: What to call the base model.
        folder: Made if it is not there.
    """
    member, adapters = group.members[position], group.adapters
    tensors = {}
    for layer in range(len(adapters.a)):
        for name, (a, b) in adapters.matrices(position, layer).items():
            stem = f"base_model.model.model.layers.{layer}.self_attn.{name}_proj"
            tensors[f"{stem}.lora_A.weight"] = a.contiguous().cpu()
            tensors[f"{stem}.lora_B.weight"] = b.contiguous().cpu()
    config = {
        "alora_invocation_tokens": member.recognised_by,
        "base_model_name_or_path": base_name,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_alpha": member.rank,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": member.rank,
        "target_modules": ["k_proj", "q_proj", "v_proj"],
        "task_type": "CAUSAL_LM",
        "use_rslora": False,
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
