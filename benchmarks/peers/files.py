"""The files that contenders load: written once, the same numbers for all of them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from benchmarks.composed import adapter_stacks, rank_of, write_composed
from benchmarks.models import INVOCATION, Shape, adapter_files, model_file
from benchmarks.peers.contender import Files
from benchmarks.peers.huggingface import huggingface_folder
from benchmarks.quantize import quantize_q4_k_m

QUANTIZATIONS = ("q4_k_m", "q8_0")
N_ADAPTERS = 8


def prepare(shape: Shape, quantization: str, cache: Path, contenders: Collection[str]) -> Files:
    """Writes what these contenders need and is not in `cache`."""
    exact = model_file(shape, cache)
    adapters = adapter_files(shape, cache, N_ADAPTERS)
    switch = huggingface = None
    if "llama-server-switch" in contenders:
        switch = _quantized(_composed(exact, adapters), quantization)
    if "peft" in contenders:
        huggingface = huggingface_folder(exact, adapters, cache / f"{exact.stem}-huggingface")
    return Files(_quantized(exact, quantization), tuple(adapters), switch, huggingface)


def _quantized(exact: Path, quantization: str) -> Path:
    if quantization == "q8_0":
        return exact
    return quantize_q4_k_m(exact, exact.with_name(exact.name.replace("q8_0", quantization)))


def _composed(exact: Path, adapters: list[Path]) -> Path:
    # Composed in Q8_0: in Q4_K_M, queries, keys and values have several number types.
    path = exact.with_name(f"switch-{len(adapters)}-{exact.name}")
    if not path.exists():
        names = [f"adapter-{number}" for number in range(len(adapters))]
        stacks = adapter_stacks(exact, adapters)
        write_composed(exact, path, names, stacks, rank=rank_of(adapters[0]), first_token=INVOCATION[0])
    return path
