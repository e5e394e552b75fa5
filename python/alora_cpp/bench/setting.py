"""What was measured, and on which machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alora_cpp.bench.buffers import Buffers
from alora_cpp.bench.callees import Callee
from alora_cpp.bench.machine import peak_memory, processor, usable_processors
from alora_cpp.model import Model


@dataclass(frozen=True)
class Setting:
    """What was measured, and on which machine.

    Attributes:
        model: The model's name.
        path: Its file.
        description: Architecture, size and type of numbers.
        n_parameters: Its weights.
        callees: The adapters.
        processor: The processor's name.
        n_processors: Logical processors that may be used.
        n_threads: Threads; 0: one for each physical core.
        devices: Where the weights are, as llama.cpp calls it.
        file_bytes: The weights in the model's file.
        weight_bytes: The buffers for them, more where a processor wants some in another order, too.
        adapter_bytes: The adapters' weights.
        peak_bytes: The most that this process held in main memory so far; None where the system does not say.
    """

    model: str
    path: Path
    description: str
    n_parameters: int
    callees: Sequence[Callee]
    processor: str
    n_processors: int
    n_threads: int
    devices: Sequence[str]
    file_bytes: int
    weight_bytes: int
    adapter_bytes: int
    peak_bytes: int | None


def describe(model: Model, callees: Sequence[Callee], buffers: Buffers, *, n_threads: int) -> Setting:
    """Tells what was measured, right after it was.

    Args:
        model: The model.
        callees: Its adapters.
        buffers: What was overheard of the log since before the model was loaded.
        n_threads: As for `Model.context`.
    """
    return Setting(
        model=model.name,
        path=model.path,
        description=model.description,
        n_parameters=model.n_parameters,
        callees=callees,
        processor=processor(),
        n_processors=usable_processors(),
        n_threads=n_threads,
        devices=buffers.devices,
        file_bytes=model.size,
        weight_bytes=buffers.total("weights"),
        adapter_bytes=sum(callee.adapter.size for callee in callees),
        peak_bytes=peak_memory(),
    )
