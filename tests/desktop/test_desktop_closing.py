"""Closing, whatever the app does, frees everything."""

from __future__ import annotations

import gc
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from desktop_app import App, Phase, memory, n_threads

from alora_cpp.bundled_model import BUNDLED
from alora_desktop.self_test import QUESTION

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def nothing(app: App) -> None:
    assert app.window.phase is Phase.READY


def loading(app: App) -> None:
    app.window.open_model(BUNDLED)


def reading(app: App) -> None:
    app.send(QUESTION)
    app.work_for(0.03)


def stopping(app: App) -> None:
    reading(app)
    app.press_escape()


@on_linux
@pytest.mark.parametrize("doing", [nothing, loading, reading, stopping])
def test_no_thread_and_no_model_is_left(
    open_app: Callable[[], App], museum: Path, doing: Callable[[App], None]
) -> None:
    museum.write_text(museum.read_text() * 24)
    before = n_threads()
    app = open_app()
    app.load()
    app.ground(museum)
    session = app.engine._session
    assert session is not None
    chat = session._chat
    doing(app)
    began = time.perf_counter()
    app.close()
    print(f"closed within {(time.perf_counter() - began) * 1000:.0f} ms")
    assert chat.context.closed
    core = weakref.ref(session.model)
    del session, chat
    gc.collect()
    assert core() is None
    # A thread's work has ended a moment before the system has done away with it.
    app.wait_for(lambda: n_threads() <= before, "no thread is left", seconds=5)


@on_linux
def test_memory_is_given_back(open_app: Callable[[], App], museum: Path) -> None:
    """What the second and later apps take is what the first one gave back."""
    used = []
    for _ in range(6):
        app = open_app()
        app.load()
        app.ground(museum)
        app.ask(QUESTION)
        app.close()
        del app
        gc.collect()
        used.append(memory())
    print(f"after each: {[round(one / 1e6) for one in used]} MB")
    assert used[-1] - used[1] < 30e6


def test_closing_twice_is_closing(app: App) -> None:
    app.close()
    app.close()
    assert app.is_closed
