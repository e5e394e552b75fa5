"""The index of the example `examples/rag`: what it finds, and how it reads documents."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rag_example import index, open_passages

from alora_cpp import AloraError, ArgumentError


@pytest.fixture(scope="module")
def passages() -> Iterator[Any]:
    made = open_passages()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("question", "source", "word"),
    [
        ("Who designed the Lantern Museum?", "lantern_museum.md", "Whitfield"),
        ("How much is a night at the Harbour Hotel?", "harbour_hotel.md", "95"),
        ("What is the Old Mill Bridge made of?", "mill_bridge.md", "stone"),
        ("How long does the Valley Express take?", "valley_express.txt", "50"),
        ("Who is the mayor of Oakdale?", "oakdale.md", "Penhale"),
        ("When was Mount Harrow first climbed?", "mount_harrow.txt", "1862"),
    ],
)
def test_finds_the_passage_that_answers(passages: Any, question: str, source: str, word: str) -> None:
    found = passages.search(question, 2)
    assert len(found) == 2
    assert any(passage.source == source and word in passage.text for passage in found)


def test_inflected_words_are_found_and_unknown_ones_are_not(passages: Any) -> None:
    assert passages.search("designing museums")[0].source == "lantern_museum.md"
    assert passages.search("zeppelin") == []
    assert passages.search("lantern_museum.md")[0].title == "The Lantern Museum"
    assert passages.search("md txt") == []
    assert len(passages.search("Oakdale", 1)) == 1


@pytest.mark.parametrize("text", ["", "?!", '"', "*", "()", '"""', "- + ^ : {}", "\x00", "\ud800"])
def test_text_without_words_finds_nothing(passages: Any, text: str) -> None:
    assert passages.search(text) == []


@pytest.mark.parametrize(
    "text",
    ['museum"', "museum OR", "NOT museum", "NEAR(museum, 3)", "title:museum", "muse*", "museum\x00", "_ museum"],
)
def test_query_language_is_read_as_words(passages: Any, text: str) -> None:
    expected = {"lantern_museum.md"} if "museum" in text else set()
    assert {p.source for p in passages.search(text)} & {"lantern_museum.md"} == expected


@given(st.text())
def test_no_text_is_an_error(passages: Any, text: str) -> None:
    assert len(passages.search(text, 2)) <= 2


def test_a_passage_is_a_paragraph_with_its_documents_title(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "one.md").write_text("# The\nTitle\n\nFirst\nline.\n\n\nSecond.\n")
    (tmp_path / "no_title.txt").write_text("Only this.")
    (tmp_path / "empty.md").write_text(" \n")
    (tmp_path / "other.pdf").write_bytes(b"\xff")
    found = index.read_folder(tmp_path)
    assert [(p.source, p.title, p.text) for p in found] == [
        ("one.md", "The Title", "First line."),
        ("one.md", "The Title", "Second."),
        ("no_title.txt", "no title", "Only this."),
    ]


@pytest.mark.parametrize("unit", ["A sentence of no great length. ", "words ", "x"])
def test_long_paragraphs_are_cut_and_nothing_is_lost(tmp_path: Path, unit: str) -> None:
    text = unit * (20_000 // len(unit))
    (tmp_path / "long.txt").write_text(f"Title\n\n{text}")
    found = index.read_folder(tmp_path)
    assert all(0 < len(p.text) <= index.LONGEST_PASSAGE for p in found)
    assert "".join(p.text for p in found).replace(" ", "") == text.replace(" ", "")
    if unit.startswith("A sentence"):
        assert all(p.text.endswith(".") for p in found[:-1])
    if unit.startswith("words"):
        assert all(set(p.text.split()) == {"words"} for p in found)


def test_folders_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="none is no folder"):
        index.read_folder(tmp_path / "none")
    with pytest.raises(ArgumentError, match=r"no \.txt or \.md"):
        index.read_folder(tmp_path)
    (tmp_path / "latin1.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ArgumentError, match=r"latin1\.txt is not UTF-8"):
        index.read_folder(tmp_path)


def test_a_sqlite_without_fts5_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Poor(sqlite3.Connection):
        def execute(self, statement: str, *_: Any) -> sqlite3.Cursor:
            raise sqlite3.OperationalError("no such module: fts5")

    monkeypatch.setattr(index.sqlite3, "connect", lambda path: Poor(path))
    with pytest.raises(AloraError, match="needs the FTS5 extension"):
        index.PassageIndex([])
