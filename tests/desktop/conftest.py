"""Lets the tests import the example and gives them windows to drive, without a screen."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

_HERE = Path(__file__).resolve().parent
_FOLDERS = (_HERE, _HERE.parent, _HERE.parent / "python", _HERE.parents[1] / "examples" / "desktop")
sys.path[:0] = [str(folder) for folder in _FOLDERS if str(folder) not in sys.path]
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

if TYPE_CHECKING:
    from desktop_app import App

    from alora_cpp.loaded_model import Isolation


@pytest.fixture
def open_app() -> Iterator[Callable[..., App]]:
    """Opens apps without a model; what is left open is closed at the end."""
    from desktop_app import App

    opened: list[App] = []

    def open_one(isolation: Isolation = "none") -> App:
        opened.append(App(isolation=isolation))
        return opened[-1]

    yield open_one
    for app in opened:
        app.close()


@pytest.fixture
def app(open_app: Callable[[], App]) -> App:
    """An app with the bundled model."""
    app = open_app()
    app.load()
    return app


@pytest.fixture
def museum(tmp_path: Path) -> Path:
    """A document that the bundled model can read."""
    from alora_desktop.self_test import DOCUMENT

    path = tmp_path / "museum.md"
    path.write_text(DOCUMENT, encoding="utf-8")
    return path
