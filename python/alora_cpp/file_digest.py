"""SHA-256 of files, remembered as long as size, modification time and inode stay the same."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from alora_cpp.whole_file import write_whole

_CHUNK = 1 << 20


@dataclass(frozen=True)
class FileDigest:
    """What a file was when it was read.

    Attributes:
        size: Bytes.
        mtime_ns: When it was changed last, in nanoseconds since 1970.
        inode: Its number in the file system.
        sha256: Of its content, in hexadecimal.
    """

    size: int
    mtime_ns: int
    inode: int
    sha256: str


def digest_of(path: Path, *, known: FileDigest | None = None) -> FileDigest:
    """Digests a file, in pieces.

    Args:
        path: The file.
        known: What an earlier call gave; returned as it is if the file has not been touched since.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if known is not None and (known.size, known.mtime_ns, known.inode) == _touched(status):
            return known
        digest = hashlib.sha256()
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return FileDigest(*_touched(status), digest.hexdigest())


def _touched(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino


def read_digest(path: Path) -> FileDigest | None:
    """Reads what `write_digest` wrote, whatever else is there; None where there is nothing of the kind."""
    try:
        facts = json.loads(path.read_bytes())
        return FileDigest(**{field.name: facts[field.name] for field in fields(FileDigest)})
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def write_digest(path: Path, digest: FileDigest) -> None:
    """Writes a record, whole or not at all.

    Raises:
        OSError: It cannot be written.
    """
    write_whole(path, json.dumps(asdict(digest)))
