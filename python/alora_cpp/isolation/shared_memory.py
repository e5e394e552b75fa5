"""Memory that a process and its worker share, for what is too large for a pipe.

It has no name in the file system, so nothing is left of it, however either of them ends. Only pages that were written
to count as used.
"""

from __future__ import annotations

import mmap
import os
import queue
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

SLOT_SIZE = 4 * 1024 * 1024
_N_SLOTS = 4
_SIZE = SLOT_SIZE * _N_SLOTS


class SharedMemory:
    """Slots of `SLOT_SIZE` bytes each.

    Attributes:
        view: All bytes.
    """

    def __init__(self, mapped: mmap.mmap) -> None:
        self.view = memoryview(mapped)
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(_N_SLOTS):
            self._free.put(slot * SLOT_SIZE)

    @contextmanager
    def slot(self) -> Iterator[int]:
        """Where a slot begins that nobody else uses meanwhile; waits until there is one."""
        offset = self._free.get()
        try:
            yield offset
        finally:
            self._free.put(offset)


@contextmanager
def make_shared_memory() -> Iterator[tuple[SharedMemory, str, tuple[int, ...]]]:
    """Makes memory and says how a new process opens it.

    Yields:
        The memory, what `open_shared_memory` takes, and the file descriptors that the process has to inherit, which
        are closed afterwards.

    Raises:
        OSError: There is no room for it.
    """
    if sys.platform == "win32":
        name = f"alora_cpp-{uuid.uuid4()}"
        yield SharedMemory(mmap.mmap(-1, _SIZE, tagname=name)), name, ()
        return
    descriptor = _unnamed_file()
    try:
        os.ftruncate(descriptor, _SIZE)
        yield SharedMemory(mmap.mmap(descriptor, _SIZE)), str(descriptor), (descriptor,)
    finally:
        os.close(descriptor)


def open_shared_memory(name: str) -> SharedMemory:
    """The memory that the process which started this one made."""
    if sys.platform == "win32":
        return SharedMemory(mmap.mmap(-1, _SIZE, tagname=name))
    descriptor = int(name)
    try:
        return SharedMemory(mmap.mmap(descriptor, _SIZE))
    finally:
        os.close(descriptor)


def _unnamed_file() -> int:
    if sys.platform == "linux":
        return os.memfd_create("alora_cpp")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
