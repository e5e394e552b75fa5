"""Which devices hold a model and what is computed with it, as llama.cpp's log says it: nothing else does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from alora_cpp.log import set_log_sink

_LINE = re.compile(r"(\S+) +(model|KV|RS|compute) buffer size = +([0-9.]+) MiB")
_KINDS = {"model": "weights", "KV": "kv", "RS": "kv", "compute": "compute"}


@dataclass
class Buffers:
    """Bytes by kind (`weights`, `kv`: what is kept of a conversation, `compute`) and by device."""

    sizes: dict[str, dict[str, int]] = field(default_factory=dict)

    def read(self, line: str) -> None:
        """Takes in a line of the log, which may say nothing of buffers."""
        if found := _LINE.search(line):
            device, kind, size = found.groups()
            devices = self.sizes.setdefault(_KINDS[kind], {})
            devices[device] = devices.get(device, 0) + round(float(size) * 2**20)

    def total(self, kind: str) -> int:
        """Bytes of a kind on all devices."""
        return sum(self.sizes.get(kind, {}).values())

    @property
    def devices(self) -> list[str]:
        """Where the weights are, as llama.cpp calls it: `CPU`, `CPU_TILES`, `CUDA0`."""
        return list(dict.fromkeys(device.removesuffix("_Mapped") for device in self.sizes.get("weights", {})))

    def forget(self, kind: str) -> None:
        """Forgets what was said of a kind, before it is said of another context."""
        self.sizes.pop(kind, None)


@contextmanager
def overheard(show: Callable[[str], object] | None = None) -> Iterator[Buffers]:
    """Listens to the log, of the whole process, while models are loaded and contexts made.

    Args:
        show: Gets every line, too.
    """
    buffers = Buffers()

    def sink(_level: int, line: str) -> None:
        buffers.read(line)
        if show is not None:
            show(line)

    set_log_sink(sink)
    try:
        yield buffers
    finally:
        set_log_sink(None)
