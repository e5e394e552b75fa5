"""The small model that comes with the package, and its adapters."""

from __future__ import annotations

from pathlib import Path

BUNDLED = Path(__file__).parent / "bundled" / "alora-tiny.gguf"
