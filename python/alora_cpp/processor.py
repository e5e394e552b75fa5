"""What computes on this machine: the processor, the kernels that were chosen for it, and GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alora_cpp import _core


@dataclass(frozen=True)
class CpuVariant:
    """ggml's CPU kernels, compiled for one kind of processor.

    Attributes:
        name: What `ALORA_CPU_VARIANT` calls it.
        needs: The instruction sets that it uses, in ggml's spelling.
        library: Its file; None where it is linked into the package's own module.
    """

    name: str
    needs: tuple[str, ...]
    library: Path | None


@dataclass(frozen=True)
class Device:
    """Something that computes.

    Attributes:
        name: The backend's name for it, such as `CUDA0`.
        description: What the hardware calls itself.
        backend: `CPU`, `CUDA`, `MTL`, ...
        gpu: Whether layers can be offloaded to it.
        memory_free: Bytes that can still be had. Of main memory, what limits on this process or its container leave,
            with swap.
        memory_total: Bytes that the hardware has.
    """

    name: str
    description: str
    backend: str
    gpu: bool
    memory_free: int
    memory_total: int


def features() -> tuple[str, ...]:
    """The instruction sets that make a difference here and that this processor has, in ggml's spelling."""
    return tuple(_core.cpu_features())


def physical_cores() -> int:
    """Cores that this process may use: as many threads compute, unless asked for otherwise."""
    return _core.n_physical_cores()


def variants() -> list[CpuVariant]:
    """The variants that this build has, the most demanding last."""
    return [
        CpuVariant(one.name, tuple(one.needs), Path(one.path) if one.path else None) for one in _core.cpu_variants()
    ]


def chosen_variant() -> tuple[CpuVariant, list[str]]:
    """The variant that computes in this process: the best that the processor can run, or `ALORA_CPU_VARIANT`.

    Returns:
        The variant, and for each better one that could not be loaded, which it is and why not.

    Raises:
        BackendError: `ALORA_CPU_VARIANT` names none that there is and that the processor can run, or none can be
            loaded.
    """
    chosen = _core.chosen_cpu_variant()
    (variant,) = (one for one in variants() if one.name == chosen.name)
    return variant, list(chosen.passed_over)


def devices() -> list[Device]:
    """The processor, and the GPUs for which this build has a backend.

    Raises:
        BackendError: As in `chosen_variant`.
    """
    return [
        Device(one.name, one.description, one.backend, one.gpu, one.memory_free, one.memory_total)
        for one in _core.devices()
    ]
