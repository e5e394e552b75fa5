"""Which commands made a folder: they are recorded beside the hashes of what is shipped from it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

COMMANDS = "commands.txt"
# Folders of the machine that ran it say nothing to others.
_FOLDERS = {"--data": "DATA", "--out": "OUT"}


def record(arguments: Sequence[str], out: Path, *, afresh: bool) -> None:
    """Appends a command line to those that made a folder.

    Args:
        arguments: What follows `python -m training`.
        out: The folder.
        afresh: Whether nothing that was made before is used.
    """
    told = [_FOLDERS.get(before, own) for before, own in zip(["", *arguments], arguments, strict=False)]
    line = shlex.join(["python", "-m", "training", *told]) + "\n"
    with (out / COMMANDS).open("w" if afresh else "a", encoding="utf-8") as file:
        file.write(line)
