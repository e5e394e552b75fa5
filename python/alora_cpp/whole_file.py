"""Writes files so that no reader sees half of one."""

from __future__ import annotations

import uuid
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file, or replaces it, at one stroke; its folder is made if need be.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not a file of tempfile's: those are closed to other users, whatever the umask says.
    unfinished = path.with_name(f".unfinished-{uuid.uuid4().hex}")
    try:
        with unfinished.open("xb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
