"""Loading models, cancelling that, and files that are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from desktop_app import App, Phase

from alora_cpp.bundled_model import BUNDLED
from alora_desktop.self_test import QUESTION
from alora_desktop.session import Session


def broken_files(folder: Path) -> list[Path]:
    """Files that are no models, each in a way of its own."""
    whole = BUNDLED.read_bytes()
    contents = {
        "empty.gguf": b"",
        "text.gguf": b"no model at all",
        "cut.gguf": whole[: len(whole) // 2],
        "head.gguf": whole[:5000],
        "garbage.gguf": whole[:64] + bytes(reversed(whole[64:4096])) + whole[4096:],
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / "missing.gguf", *(folder / name for name in contents)]


def test_loading_shows_its_progress(open_app: Callable[[], App], monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_app()
    seen: list[float] = []
    show = app.window.header.show_loading
    monkeypatch.setattr(app.window.header, "show_loading", lambda one: (seen.append(one), show(one)))
    assert app.window.phase is Phase.NO_MODEL
    app.window.open_model(BUNDLED)
    assert app.window.header.progress.isVisible()
    app.wait_until_ready()
    assert seen[0] == 0
    assert seen[-2:] == [1.0, None]
    assert seen[:-1] == sorted(seen[:-1])
    assert not app.window.header.progress.isVisible()
    assert "alora-tiny" in app.window.header.findChildren(type(app.window.header._name))[0].text()


def test_nothing_is_sent_before_there_is_a_model(open_app: Callable[[], App]) -> None:
    app = open_app()
    app.send(QUESTION)
    assert app.window.phase is Phase.NO_MODEL
    assert app.window.composer.toPlainText() == QUESTION
    app.window.open_model(BUNDLED)
    app.send(QUESTION)
    assert app.window.phase is Phase.LOADING
    app.wait_until_ready()
    assert app.window.send_button.isEnabled()


@pytest.mark.parametrize("times", [1, 3])
def test_a_load_can_be_cancelled(open_app: Callable[[], App], times: int) -> None:
    app = open_app()
    for _ in range(times):
        app.window.open_model(BUNDLED)
        app.click(app.window.header.cancel_button)
        app.wait_for(lambda: app.window.phase is Phase.NO_MODEL, "the load is cancelled")
        assert not app.window.banner.text
        assert not app.window.header.progress.isVisible()
    app.load()
    app.window.open_model(BUNDLED)
    app.press_escape()
    app.wait_until_ready()
    _, reply = app.ask(QUESTION)
    assert reply.text


def test_what_becomes_of_a_cancelled_load_is_no_news(app: App, tmp_path: Path) -> None:
    """Neither that it failed nor that it would have come to an end, whatever the user does by then."""
    for path in (*broken_files(tmp_path), BUNDLED):
        app.window.open_model(path)
        app.press_escape()
        app.ask(QUESTION)
        assert not app.window.banner.text
    assert len(app.window.conversation.turns) == 14


def test_a_load_can_be_cancelled_in_the_middle(open_app: Callable[[], App], monkeypatch: pytest.MonkeyPatch) -> None:
    """When some of it is there already."""
    app = open_app()
    show = app.window.header.show_loading

    def cancelling(fraction: float | None) -> None:
        show(fraction)
        if fraction:
            app.window.cancel()

    monkeypatch.setattr(app.window.header, "show_loading", cancelling)
    app.load()
    assert app.window.phase is Phase.NO_MODEL
    assert app.engine._session is None


def test_bad_files_are_told_and_the_model_before_stays(open_app: Callable[[], App], tmp_path: Path) -> None:
    app = open_app()
    for has_model in (False, True):
        for path in broken_files(tmp_path):
            app.load(path)
            assert path.name in app.window.banner.text
            assert app.window.banner.text.startswith("The model was not loaded. ")
            assert app.window.phase is (Phase.READY if has_model else Phase.NO_MODEL)
        app.load()
        assert not app.window.banner.text
    _, reply = app.ask(QUESTION)
    assert reply.text


def test_a_model_that_is_dropped_is_opened(app: App, tmp_path: Path) -> None:
    app.ask(QUESTION)
    app.drop([BUNDLED])
    assert app.window.phase is Phase.LOADING
    app.wait_until_ready()
    assert app.window.conversation.turns == []
    assert app.window.documents.titles == ()


def test_documents_outlast_their_model(app: App, museum: Path) -> None:
    app.ground(museum)
    app.load()
    _, reply = app.ask(QUESTION)
    assert "1894" in reply.text
    assert len(reply.chips) == 2


def test_a_model_without_intrinsics_answers(open_app: Callable[[], App], tmp_path: Path) -> None:
    from oracle.tiny_models import make_model, write_gguf
    from tiny_chats import write_chat_model

    plain = write_gguf(make_model("llama"), tmp_path / "plain.gguf")
    app = open_app()
    app.load(write_chat_model(plain, tmp_path / "model.gguf"))
    app.ask("Is the cat here?")
    assert app.chips() == [[], []]


def test_a_failure_of_ours_while_loading_is_told(open_app: Callable[[], App], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError("out of cheese")

    monkeypatch.setattr(Session, "__init__", broken)
    app = open_app()
    app.load()
    assert "RuntimeError: out of cheese" in app.window.banner.text
    monkeypatch.undo()
    app.load()
    assert app.window.phase is Phase.READY
