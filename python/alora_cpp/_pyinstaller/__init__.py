"""What PyInstaller asks an installed package: where the hooks are that say what has to be frozen with it."""

from __future__ import annotations

from pathlib import Path


def get_hook_dirs() -> list[str]:
    """Folders with hooks; named as an entry point of the package."""
    return [str(Path(__file__).parent)]
