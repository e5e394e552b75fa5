"""Makes the adapter_config.json of an adapter that comes from a GGUF."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np

from .adapter_file import GGUFAdapter
from .base_sizes import Base
from .families import Location, block_modules
from .peft_modules import PeftModule

_V = TypeVar("_V", int, float)

# Models that have modules of the same names outside of the text's blocks.
_WITH_OTHER_TOWERS = ("gemma3",)


def peft_config(
    adapter: GGUFAdapter, modules: Sequence[PeftModule], model_type: str, base: Base | None
) -> dict[str, Any]:
    """Makes the configuration under which PEFT builds and scales just these modules.

    Args:
        adapter: What the file says.
        modules: The modules.
        model_type: The kind of model they are in.
        base: The base, where it is at hand.
    """
    ranks = {module.location: module.rank for module in modules}
    alphas = {module.location: _spelled(module.alpha) for module in modules}
    rank, alpha = _most_common(ranks), _most_common(alphas)
    uniform = set(ranks.values()) == {rank} and set(alphas.values()) == {alpha}
    root = _root_alpha(alpha, rank) if uniform else None
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": _base_name(adapter),
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha if root is None else root,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": root is not None,
        "rank_pattern": _pattern(ranks, rank),
        "alpha_pattern": _pattern(alphas, alpha),
        **_targets(set(ranks), model_type, base),
    }
    if adapter.invocation_tokens is not None:
        config["alora_invocation_tokens"] = adapter.invocation_tokens
    return config


def _spelled(alpha: float) -> float:
    """Gives the shortest number that the file's float32 stands for: 0.1, not 0.10000000149."""
    shortest = float(str(np.float32(alpha)))
    return int(shortest) if shortest.is_integer() else shortest


def _root_alpha(alpha: float, rank: int) -> float | None:
    """Gives the alpha of an rsLoRA, where the file's is the product of a short number and the root of the rank.

    Only then can a float32 give the very scale it was trained with. A short number is its own alpha.
    """
    if float(f"{alpha:.6g}") == alpha:
        return None
    root = _spelled(float(f"{alpha / sqrt(rank):.6g}"))
    return root if np.float32(root / sqrt(rank) * rank) == np.float32(alpha) else None


def _most_common(values: Mapping[Location, _V]) -> _V:
    return Counter(values.values()).most_common(1)[0][0]


def _pattern(values: Mapping[Location, _V], default: _V) -> dict[str, _V]:
    """Says where a value differs: once for a module where it is the same in all blocks, else for each."""
    found = defaultdict(set)
    for location, value in values.items():
        found[location.module].add(value)
    return {
        location.module if len(found[location.module]) == 1 else str(location): value
        for location, value in values.items()
        if value != default
    }


def _targets(locations: set[Location], model_type: str, base: Base | None) -> dict[str, Any]:
    """Names the modules: as short as PEFT lets us while it finds no other.

    Without a base, its last block is taken to be the last adapted one.
    """
    blocks = defaultdict(set)
    for location in locations:
        blocks[location.layer].add(location.module)
    wanted = set().union(*blocks.values())
    n_blocks = max(blocks) + 1 if base is None else len(base.blocks)
    there = {
        layer: wanted if base is None else set(block_modules(wanted, base.parts(layer))) for layer in range(n_blocks)
    }
    if model_type in _WITH_OTHER_TOWERS or any(blocks[layer] != there[layer] for layer in list(blocks)):
        ordered = sorted(locations, key=lambda location: (location.layer, location.module))
        return {"target_modules": list(map(str, ordered))}
    targets: dict[str, Any] = {"target_modules": sorted(map(_short, wanted))}
    if set(blocks) != {layer for layer, modules in there.items() if modules}:
        targets["layers_to_transform"] = sorted(blocks)
    return targets


def _short(module: str) -> str:
    # Experts have an input_linear, too, which is none that PEFT could adapt.
    return module.rpartition(".")[2] if module.startswith(("self_attn.", "mlp.")) else module


def _base_name(adapter: GGUFAdapter) -> str | None:
    key = "general.base_model.0"
    name, organization = adapter.header.text(f"{key}.name"), adapter.header.text(f"{key}.organization")
    repository = urlsplit(adapter.header.text(f"{key}.repo_url") or "").path.strip("/")
    return repository or (f"{organization}/{name}" if organization and name else name)
