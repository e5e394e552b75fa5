"""The modules of the example `examples/rag`, which is no package."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "examples" / "rag"
sys.path.insert(0, str(FOLDER))
index = importlib.import_module("index")
rag = importlib.import_module("rag")


def open_passages() -> Any:
    """An index of the example's own documents."""
    return index.PassageIndex(index.read_folder(FOLDER / "documents"))
