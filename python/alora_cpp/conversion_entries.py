"""Converted adapters on disk: which of them are in use, which may go, and how much room they take."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl

UNFINISHED = ".converting-"
_DAY = 24 * 60 * 60  # seconds; no conversion takes that long


def entries_folder() -> Path:
    """The folder that they lie in. It need not exist yet."""
    from alora_cpp.hub.cache_folder import cache_folder

    return cache_folder() / "converted"


def record_of(entry: Path) -> Path:
    """The file with what is known of an entry."""
    return entry.with_suffix(".json")


def hold(entry: Path) -> BinaryIO:
    """Keeps `remove_earlier` of any process from removing an entry, until what is returned is closed.

    Raises:
        FileNotFoundError: It has just been removed.
    """
    file = entry.open("rb")
    # Windows removes no file that is open. Where a disk has no locks, `_remove` gets none either, and removes nothing.
    if sys.platform != "win32":
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_SH)
    if not entry.exists():
        file.close()
        raise FileNotFoundError(entry)
    return file


def remove_earlier(entry: Path, series: str) -> None:
    """Removes an entry's forerunners, but for those that are held: they go the next time.

    Args:
        entry: The newest entry of its series.
        series: What is noted as `series` in the records of all entries that replace one another.
    """
    for record in entry.parent.glob("*.json"):
        if record != record_of(entry) and _series(record) == series:
            with suppress(OSError):
                _remove(record.with_suffix(".gguf"))
                record.unlink()


def _series(record: Path) -> object:
    try:
        return json.loads(record.read_bytes())["series"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _remove(entry: Path) -> None:
    """Removes an entry; an OSError says that it is in use."""
    with ExitStack() as stack, suppress(FileNotFoundError):
        if sys.platform != "win32":
            file = stack.enter_context(entry.open("r+b"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        entry.unlink()


def remove_leftovers(folder: Path) -> None:
    """Removes what conversions left that were broken off, once it is a day old."""
    for leftover in folder.glob(f"{UNFINISHED}*"):
        with suppress(OSError):
            if time.time() - leftover.lstat().st_mtime > _DAY:
                shutil.rmtree(leftover)


def room_taken(folder: Path) -> tuple[int, int]:
    """How many entries there are, and the bytes of all files in their folder, those of broken-off conversions too."""
    n_entries, size = 0, 0
    for within, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size += Path(within, name).lstat().st_size
                n_entries += Path(within) == folder and name.endswith(".gguf")
    return n_entries, size
