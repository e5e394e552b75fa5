"""Files that are dropped: texts, and what is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from desktop_app import App
from PySide6.QtCore import QMimeData, QPoint, Qt
from PySide6.QtGui import QDragEnterEvent
from PySide6.QtWidgets import QApplication, QPushButton

from alora_desktop.document_files import MAX_BYTES, read_document


def test_a_text_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfT\xc3\xa9a\r\n\r\nand cake\n")
    assert read_document(path) == {"title": "a.txt", "text": "Téa\r\n\r\nand cake"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff\xfe\x00", "is no plain text"),
        (b"PK\x03\x04\x00\x00", "is no plain text"),
        (b"a" * (MAX_BYTES + 1), "more than 4 MiB"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.pdf .*{problem}"):
        read_document(path)


def test_good_documents_are_taken_beside_bad_ones(app: App, museum: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.bin").write_bytes(b"\xff\x00")
    app.drop([tmp_path / "bad.bin", museum, tmp_path / "missing.txt", tmp_path])
    problems = app.banner().splitlines()
    assert [problem.split()[0] for problem in problems] == ["bad.bin", "missing.txt", tmp_path.name]
    assert app.window.documents.titles == (museum.name,)


def test_documents_are_removed_one_by_one(app: App, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.txt" for name in "abc"]
    for path in paths:
        path.write_text(f"This is {path.stem}.")
    app.ground(*paths)
    for expected in (("a.txt", "c.txt"), ("a.txt",), ()):
        place = min(1, len(expected))
        buttons = app.window.documents.widget().findChildren(QPushButton)
        app.click(buttons[place])
        # A second click comes too early to mean anything.
        app.click(buttons[place])
        app.wait_for(lambda expected=expected: app.window.documents.titles == expected, "it is gone")
    assert not app.window.documents.isVisible()
    assert not app.window.banner.text


def test_documents_wait_for_a_reply_to_end(app: App, museum: Path) -> None:
    app.send("Hello!")
    app.ground(museum)
    app.wait_until_ready()
    _, reply = app.ask("When did the Lantern Museum open?")
    assert "1894" in reply.text


def test_what_is_no_file_is_not_taken(app: App) -> None:
    data = QMimeData()
    data.setText("just words")
    event = QDragEnterEvent(
        QPoint(5, 5), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    )
    event.ignore()
    QApplication.sendEvent(app.window, event)
    assert not event.isAccepted()
