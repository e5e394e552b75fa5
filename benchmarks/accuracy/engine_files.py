"""The files that the engine is asked with: the base in float32, as it is shipped, and in four bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

from alora_cpp.bundled_model import BUNDLED
from alora_cpp.convert import convert_adapter
from benchmarks.quantize import quantize_q4_k_m
from training.export_gguf import export


@dataclass(frozen=True)
class Way:
    """A way to ask: files, and how to compute with them.

    Attributes:
        base: The base model's GGUF.
        adapters: The adapters' GGUFs, by intrinsic.
        context: Options of the context.
        goal: The share of verdicts that must be PEFT's.
    """

    base: Path
    adapters: Mapping[str, Path]
    goal: float
    context: Mapping[str, Any]


def prepare(build: Path, names: Iterable[str], folder: Path) -> dict[str, Way]:
    """Writes what is not shipped.

    Args:
        build: What the training wrote: `base`, and a PEFT folder for each intrinsic.
        names: The intrinsics.
        folder: Where to write.

    Returns:
        The ways by name. The adapters are float32 for the first, as shipped for the others.
    """
    names = tuple(names)
    folder.mkdir(parents=True, exist_ok=True)
    exact, coarse = folder / "base.F32.gguf", folder / "base.Q4_K_M.gguf"
    export(build / "base", exact, gguf.GGMLQuantizationType.F32)
    coarse.unlink(missing_ok=True)  # of another base
    quantize_q4_k_m(exact, coarse)
    converted = {
        name: convert_adapter(build / name, folder / f"{name}.F32.gguf", base=exact, outtype="f32", name=name)
        for name in names
    }
    shipped = {name: BUNDLED.with_name(f"{BUNDLED.stem}.{name}.gguf") for name in names}
    return {
        # Nothing is rounded here but sums, as in PEFT.
        "F32": Way(exact, converted, 1.0, {"kv_type": "f32", "flash_attention": False}),
        "Q8_0": Way(BUNDLED, shipped, 0.995, {}),
        "Q4_K_M": Way(coarse, shipped, 0.98, {}),
    }
