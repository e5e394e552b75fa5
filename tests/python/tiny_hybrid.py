"""Tiny models with recurrent layers, and adapters for them."""

from __future__ import annotations

from pathlib import Path

from alora_cpp.convert import convert_adapter
from oracle.tiny_models import ALL_LINEAR, ATTENTION, AdapterSpec, make_model, write_adapter
from tiny import write_gguf


def write_hybrid(family: str, folder: Path) -> tuple[Path, list[Path]]:
    """Writes a model and three adapters that differ in rank, targets and weights."""
    tiny = make_model(family)
    path = write_gguf(tiny, folder / "model.gguf")
    files = []
    for seed, (rank, targets) in enumerate([(4, ALL_LINEAR), (8, ATTENTION), (2, ALL_LINEAR)]):
        peft = write_adapter(tiny, AdapterSpec(targets=targets, rank=rank), folder / f"peft-{seed}", seed=seed)
        files.append(convert_adapter(peft, folder / f"adapter-{seed}.gguf", base=path, outtype="f32"))
    return path, files
