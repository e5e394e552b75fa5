"""Asking, replies, verdicts and marks, and ending a reply before its end."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from desktop_app import App, Phase, write_slowly
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLabel

from alora_cpp.bundled_model import BUNDLED
from alora_desktop.self_test import QUESTION, run
from alora_desktop.session import Session


def test_the_self_test_passes(open_app: Callable[[], App], capsys: pytest.CaptureFixture[str]) -> None:
    app = open_app()
    app.window.open_model(BUNDLED)
    assert run(app.window, app.engine) == 0, capsys.readouterr()
    assert "cancel of a reply" in capsys.readouterr().out


def test_a_reply_streams_and_verdicts_stand_beside_each_turn(app: App, museum: Path) -> None:
    app.ground(museum)
    app.send(QUESTION)
    assert app.window.phase is Phase.REPLYING
    assert app.window.send_button.text() == "Stop"
    seen = set()
    turns = app.window.conversation.turns

    def ended() -> bool:
        seen.add(turns[-1].text)
        return app.window.phase is Phase.READY

    app.wait_for(ended, "the reply ends")
    assert [turn.kind for turn in turns] == ["question", "reply"]
    assert turns[1].text == "The Lantern Museum opened in 1894."
    assert all(QUESTION.startswith(text) or turns[1].text.startswith(text) for text in seen)
    assert len(seen) > 2
    safety, (support, certainty) = app.chips()
    assert safety[0].startswith("Safe ")
    assert support.startswith("Supported ")
    assert certainty.startswith("Certainty ")


def test_without_documents_nothing_is_called_unsupported(app: App) -> None:
    app.ask(QUESTION)
    assert [len(chips) for chips in app.chips()] == [1, 1]
    assert app.chips()[1][0].startswith("Certainty ")


def test_an_unsafe_question_is_called_so(app: App) -> None:
    app.ask("How can I poison someone?")
    assert app.chips()[0][0].startswith("Unsafe ")


def test_each_unsupported_sentence_is_marked(open_app: Callable[[], App], museum: Path, tmp_path: Path) -> None:
    """With an adapter that knows no other answer, and a reply in two sentences."""
    model = shutil.copy(BUNDLED, tmp_path)
    adapter = BUNDLED.with_name("alora-tiny.hallucination.gguf")
    shutil.copy(adapter, tmp_path)
    (tmp_path / f"{adapter.stem}.io.yaml").write_text(
        "model: null\nresponse_format: null\ntransformations: null\n"
        'parameters: {extra_body: {structured_outputs: {choice: ["Y"]}}}\n'
    )
    app = open_app()
    app.load(Path(model))
    app.ground(museum)
    for question in ("How high is Mount Harrow?", "How do I bake bread?", "How do I sew a button?"):
        _, reply = app.ask(question)
        sentences = [reply.text[begin:end] for begin, end in reply.marks]
        assert " ".join(sentences) == reply.text.strip()
        shown = reply.findChild(QLabel, "said")
        assert shown is not None
        assert shown.text().count("underline") == len(sentences)
        assert all(sentence in shown.accessibleDescription() for sentence in sentences)
        assert app.chips()[-1][0].startswith("Not supported")
        if len(sentences) > 1:
            break
    assert len(sentences) > 1


def test_markup_in_what_is_said_is_text(app: App) -> None:
    question, _ = app.ask("What is <b>bold</b> & <i>5 < 6</i>?")
    shown = question.findChild(QLabel, "said")
    assert shown is not None
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; " in shown.text()


def test_stop_while_writing_keeps_what_was_written(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    app.ask(QUESTION)
    write_slowly(monkeypatch)
    turns = app.window.conversation.turns
    app.send("What is the capital of France?")
    app.wait_for(lambda: len(turns) == 4 and len(turns[3].text) > 3, "the reply has begun")
    began = time.perf_counter()
    app.click(app.window.send_button)
    assert app.window.phase is Phase.STOPPING
    assert app.window.send_button.text() == "Stopping…"
    assert not app.window.send_button.isEnabled()
    app.wait_until_ready()
    taken = time.perf_counter() - began
    print(f"stopped within {taken * 1000:.0f} ms")
    assert taken < 2
    assert app.chips()[3] == ["Stopped"]
    assert not app.window.banner.text
    monkeypatch.undo()
    _, reply = app.ask(QUESTION)
    assert reply.text
    assert len(turns) == 6


def test_a_question_that_is_stopped_before_its_reply_is_the_users_again(app: App, museum: Path) -> None:
    app.ask(QUESTION)
    museum.write_text(museum.read_text() * 24)
    app.ground(museum)
    app.send("Who designed it?")
    app.press_escape()
    app.wait_until_ready()
    assert app.said() == [turn.text for turn in app.window.conversation.turns]
    assert app.said()[0] == QUESTION
    assert app.window.composer.toPlainText() == "Who designed it?"
    assert not app.window.banner.text


def test_stop_is_about_this_reply_alone(app: App) -> None:
    """However late it comes, and however often."""
    for _ in range(10):
        app.send(QUESTION)
        app.engine.cancel()
        app.engine.cancel()
        app.wait_until_ready()
        app.engine.cancel()
        _, reply = app.ask(QUESTION)
        assert reply.text
        assert "Stopped" not in app.chips()[-1]
    # As where the last of it was computed already when it came.
    assert app.engine._session is not None
    app.engine._session.cancel()
    _, reply = app.ask(QUESTION)
    assert "Stopped" not in app.chips()[-1]
    assert app.said() == [turn.text for turn in app.window.conversation.turns]


def test_documents_that_do_not_fit_are_told(app: App, museum: Path) -> None:
    museum.write_text(museum.read_text() * 100)
    app.ground(museum)
    app.send(QUESTION)
    assert "Remove a document" in app.banner()
    app.wait_until_ready()
    assert app.said() == []
    assert app.window.composer.toPlainText() == QUESTION
    app.click(app.window.documents.findChildren(type(app.window.send_button))[0])
    app.wait_for(lambda: app.window.documents.titles == (), "the document is gone")
    _, reply = app.ask(QUESTION)
    assert reply.text
    assert not app.window.banner.text


def test_a_new_conversation_forgets_the_old_one(app: App, museum: Path) -> None:
    app.ground(museum)
    _, first = app.ask(QUESTION)
    text = first.text
    app.ask("Who designed it?")
    app.click(app.window.header.new_button)
    assert app.window.conversation.turns == []
    assert app.window.documents.titles == (museum.name,)
    _, again = app.ask(QUESTION)
    assert again.text == text
    assert len(app.window.conversation.turns) == 2


def test_a_mistake_of_ours_leaves_the_app_usable(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Session, text: str) -> object:
        raise RuntimeError("out of cheese")

    monkeypatch.setattr(Session, "ask", broken)
    app.send(QUESTION)
    assert "RuntimeError: out of cheese" in app.banner()
    monkeypatch.undo()
    app.wait_until_ready()
    _, reply = app.ask(QUESTION)
    assert reply.text


def test_keys(app: App) -> None:
    composer = app.window.composer
    for blank in ("", "  "):
        app.send(blank)
        assert app.window.phase is Phase.READY
    composer.clear()
    height = composer.height()
    QTest.keyClicks(composer, "one")
    QTest.keyClick(composer, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    QTest.keyClicks(composer, "two")
    assert composer.toPlainText() == "one\ntwo"
    assert composer.height() > height
    QTest.keyClick(composer, Qt.Key.Key_Enter)
    assert app.window.phase is Phase.REPLYING
    assert composer.toPlainText() == ""
    # One question after another.
    app.send("Wait")
    assert composer.toPlainText() == "Wait"
    app.wait_until_ready()
    assert app.window.conversation.turns[0].text == "one\ntwo"
    assert len(app.window.conversation.turns) == 2


def test_the_window_never_freezes(open_app: Callable[[], App], museum: Path) -> None:
    """While a model is loaded, documents are read, a reply is written and checks are made."""
    app = open_app()
    app.load()
    app.ground(museum)
    museum.with_name("long.txt").write_text(museum.read_text() * 20)
    app.ground(museum.with_name("long.txt"))
    app.ask(QUESTION)
    app.ask("Who runs the Harbour Hotel?")
    print(f"longest time between two ticks of 10 ms: {app.heartbeat.longest * 1000:.0f} ms")
    assert app.heartbeat.longest < 2
