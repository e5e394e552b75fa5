"""The model in a process of its own: the same app, which outlives that process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from desktop_app import App, write_slowly

from alora_cpp.bundled_model import BUNDLED
from alora_desktop.self_test import QUESTION, run

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="finds the worker process in /proc")


@pytest.fixture
def isolated(open_app: Callable[..., App]) -> App:
    """An app with the bundled model in another process."""
    app = open_app(isolation="process")
    app.load()
    return app


def children() -> set[int]:
    """Processes that this one has started and that still run."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        found |= {int(one) for one in (task / "children").read_text().split()}
    return found


def test_the_self_test_passes(open_app: Callable[..., App], capsys: pytest.CaptureFixture[str]) -> None:
    app = open_app(isolation="process")
    app.window.open_model(BUNDLED)
    assert run(app.window, app.engine) == 0, capsys.readouterr()


@on_linux
def test_the_app_outlives_a_crash_in_a_reply(
    open_app: Callable[..., App], museum: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = children()
    app = open_app(isolation="process")
    app.load()
    (worker,) = children() - before
    app.ground(museum)
    app.ask(QUESTION)
    write_slowly(monkeypatch)
    turns = app.window.conversation.turns
    app.send("Who designed it?")
    app.wait_for(lambda: len(turns) == 4 and len(turns[3].text) > 3, "the reply has begun")
    os.kill(worker, signal.SIGKILL)
    assert "worker process" in app.banner()
    app.wait_until_ready()
    assert app.chips()[3] == ["Stopped"]
    monkeypatch.undo()
    _, reply = app.ask(QUESTION)
    assert "1894" in reply.text
    assert not app.window.banner.text
    app.close()
    assert children() == before


def test_replies_and_verdicts_are_the_same(isolated: App, app: App, museum: Path) -> None:
    said = []
    for one in (isolated, app):
        one.ground(museum)
        said.append([*(turn.text for turn in one.ask(QUESTION)), one.chips()])
    assert said[0] == said[1]
