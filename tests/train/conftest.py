"""Lets the tests import shared modules of the other folders, and gives them a tiny base with a chat template."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(folder) for folder in (_TESTS, _TESTS / "python", _TESTS / "train") if str(folder) not in sys.path]


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Granite as GGUF, with a chat template in which each role begins a turn."""
    from tiny import make_model, write_gguf
    from tiny_chats import write_chat_model

    folder = tmp_path_factory.mktemp("tiny_base")
    return write_chat_model(write_gguf(make_model("granite"), folder / "plain.gguf"), folder / "base.gguf")
