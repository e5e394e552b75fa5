"""Lets the tests import `benchmarks` and shared modules, however pytest was started."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

_HERE = Path(__file__).resolve().parent

_FOLDERS = (_HERE, _HERE.parent, _HERE.parents[1])
sys.path[:0] = [str(folder) for folder in _FOLDERS if str(folder) not in sys.path]


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two blocks in float32: width 64, 4 heads on 2, 96 in between, 104 tokens, embeddings not tied."""
    from oracle.tiny_models import make_model, write_gguf

    return write_gguf(make_model("llama"), tmp_path_factory.mktemp("tiny") / "model.gguf")
