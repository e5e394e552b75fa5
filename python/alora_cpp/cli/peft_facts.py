"""The facts of an adapter in a PEFT folder, under the keys that `gguf_facts` gives those of a GGUF."""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

from alora_cpp.cli.adapter_facts import invocation_facts, io_facts
from alora_cpp.cli.gguf_facts import SOURCES, entries_of
from alora_cpp.convert.base_name import hub_name
from alora_cpp.convert.legacy_invocation import LEGACY_OFFSET
from alora_cpp.convert.model_card import read_card
from alora_cpp.convert.peft_config import PeftConfig
from alora_cpp.convert.peft_folder import WEIGHTS_NAME, read_folder


def peft_facts(folder: Path, *, base: Path | None = None) -> dict[str, Any]:
    """Reads the facts of a folder as PEFT saves it. Targets are named as there, and so is the base.

    Args:
        folder: The folder.
        base: The GGUF whose vocabulary spells the invocation; its text is null if not given.

    Raises:
        ConversionError: Something in the folder is missing, damaged or of a kind that cannot be converted.
        AloraError: The base cannot be read, or lacks a token of the invocation.
    """
    adapter = read_folder(folder)
    config, card = adapter.config, read_card(folder).texts
    layers, targets, types = set(), set(), Counter[str]()
    for pair in adapter.pairs.values():
        targets.add(pair.location.module)
        layers.add(pair.location.layer)
        for matrix in (pair.a, pair.b):
            types[matrix.dtype] += prod(matrix.shape)
    return {
        "path": str(folder),
        "kind": "adapter",
        "format": "peft",
        "bytes": (folder / WEIGHTS_NAME).stat().st_size,
        "name": folder.resolve().name,
        "architecture": None,
        "base": _base(config.base),
        "rank": sorted({config.rank_of(module) for module in adapter.pairs}),
        "alpha": config.alpha,
        "scales": sorted({config.scaling_of(module) for module in adapter.pairs}),
        "targets": sorted(targets),
        "layers": sorted(layers),
        "invocation": _invocation(config, base),
        "activation_offset": 0 if config.invocation_string is None else LEGACY_OFFSET,
        "io_yaml": None if adapter.io_yaml is None else io_facts(adapter.io_yaml, source=str(folder / "io.yaml")),
        "weights": sum(types.values()),
        "types": dict(types.most_common()),
        "licence": card.get("general.license"),
        "description": card.get("general.description"),
        "source": next((card[key] for key in SOURCES if key in card), None),
    }


def _invocation(config: PeftConfig, base: Path | None) -> dict[str, Any] | None:
    if config.invocation_string is not None:
        # An adapter of the old `alora` package has the text alone.
        return {"ids": [], "text": config.invocation_string}
    ids = config.invocation_tokens
    return None if ids is None else invocation_facts(ids, None if base is None else entries_of(base, ids))


def _base(name: str | None) -> dict[str, Any] | None:
    """What adapter_config.json calls its base: a repository of the hub, or a folder."""
    if name is None:
        return None
    hub = hub_name(name)
    return {
        "name": hub.name if hub else Path(name).name,
        "repo": hub.url if hub else None,
        "model_type": None,
        "fingerprints": {"vocabulary": None, "weights": None},
    }
