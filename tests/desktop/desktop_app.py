"""The app as its tests open it. Tests that import this are skipped where Qt is not installed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

try:
    from PySide6.QtTest import QTest  # noqa: F401 - with what it needs of the system
    from PySide6.QtWidgets import QApplication
except ImportError as missing:
    pytest.skip(f"the desktop app needs PySide6-Essentials: {missing}", allow_module_level=True)

import shiboken6

from alora_cpp.bundled_model import BUNDLED
from alora_cpp.generation import Generation
from alora_cpp.loaded_model import Isolation
from alora_desktop.app import close
from alora_desktop.driver import Driver
from alora_desktop.engine import Engine
from alora_desktop.window import Phase, Window

__all__ = ["App", "Phase", "memory", "n_threads", "write_slowly"]


class App(Driver):
    """A window, its engine, and who drives them."""

    def __init__(self, *, isolation: Isolation = "none") -> None:
        self.application = QApplication.instance() or QApplication([])
        self.engine = Engine(isolation=isolation, n_threads=1)
        window = Window(self.engine)
        self.engine.start()
        window.show()
        super().__init__(window)

    def load(self, path: Path = BUNDLED) -> None:
        """Loads a model to the end."""
        self.window.open_model(path)
        self.wait_for(lambda: self.window.phase is not Phase.LOADING, "loading has ended")

    def ground(self, *paths: Path) -> None:
        """Drops documents and waits until they are there."""
        expected = len(self.window.documents.titles) + len(paths)
        self.drop(paths)
        self.wait_for(lambda: len(self.window.documents.titles) == expected, "the documents are there")

    def banner(self) -> str:
        """Waits until the banner says something, and gives it."""
        self.wait_for(lambda: bool(self.window.banner.text), "the banner says something")
        return self.window.banner.text

    def chips(self) -> list[list[str]]:
        """What the chips of each turn say."""
        return [[chip.text() for chip in turn.chips] for turn in self.window.conversation.turns]

    def said(self) -> list[str]:
        """What the conversation holds, as the model reads it."""
        assert self.engine._session is not None
        return [message["content"] for message in self.engine._session._chat.messages]

    @property
    def is_closed(self) -> bool:
        """Whether window and engine are gone."""
        return not shiboken6.isValid(self.window) and not shiboken6.isValid(self.engine)

    def close(self) -> None:
        """Closes the window and waits for its engine."""
        if shiboken6.isValid(self.window):
            self.window.close()
            close(self.window, self.engine)


def write_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a reply take a twentieth of a second for each token."""
    write = Generation.next

    def slowly(self: Generation) -> object:
        time.sleep(0.05)
        return write(self)

    monkeypatch.setattr(Generation, "next", slowly)


def n_threads() -> int:
    """Threads of this process."""
    return len(list(Path("/proc/self/task").iterdir()))


def memory() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
