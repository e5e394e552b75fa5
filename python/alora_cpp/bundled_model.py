"""The small model that comes with the package, and its adapters."""

from __future__ import annotations

from pathlib import Path

BUNDLED = Path(__file__).parent / "bundled" / "alora-tiny.gguf"


def bundled_adapters() -> dict[str, Path]:
    """The adapters' files, by name."""
    files = sorted(BUNDLED.parent.glob(f"{BUNDLED.stem}.*.gguf"))
    return {file.name[len(BUNDLED.stem) + 1 : -len(".gguf")]: file for file in files}
