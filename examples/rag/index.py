"""A full-text index over a folder of documents: SQLite's FTS5, ranked by bm25, in memory.

A passage is a paragraph, with the title of its document. What users ask is never read as FTS5's query language: its
words are quoted, and any of them may be found.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from alora_cpp import AloraError, ArgumentError

# What bm25 counts a word in the title and in the text for.
TITLE_WEIGHT, TEXT_WEIGHT = 2.0, 1.0
# Longer paragraphs are cut after a sentence: a few passages have to fit into a small model's context.
LONGEST_PASSAGE = 800


@dataclass(frozen=True)
class Passage:
    """A paragraph of a document.

    Attributes:
        source: The document's file name.
        title: The document's title.
        text: The paragraph.
    """

    source: str
    title: str
    text: str


class PassageIndex:
    """Passages that can be searched. Closed like a file."""

    def __init__(self, passages: Iterable[Passage]) -> None:
        """Indexes passages.

        Raises:
            AloraError: This Python's SQLite has no FTS5.
        """
        self._database = sqlite3.connect(":memory:")
        try:
            self._database.execute(
                "CREATE VIRTUAL TABLE passages USING fts5(source UNINDEXED, title, text, tokenize='porter unicode61')"
            )
        except sqlite3.OperationalError as error:
            self._database.close()
            raise AloraError(
                f"SQLite {sqlite3.sqlite_version} of this Python cannot make the index ({error}); it needs the FTS5 "
                "extension, which Python from python.org, conda and Linux distributions has"
            ) from None
        rows = ((passage.source, passage.title, passage.text) for passage in passages)
        self._database.executemany("INSERT INTO passages VALUES (?, ?, ?)", rows)

    def __len__(self) -> int:
        count: int = self._database.execute("SELECT count(*) FROM passages").fetchone()[0]
        return count

    def search(self, query: str, limit: int = 3) -> list[Passage]:
        """The passages that share the rarest words with a query, best first; none where no word is found.

        Raises:
            ArgumentError: The limit is below 1.
        """
        if limit < 1:
            raise ArgumentError(f"{limit} passages were asked for, expected 1 or more")
        words = match_any(query)
        if not words:
            return []
        found = self._database.execute(
            "SELECT source, title, text FROM passages WHERE passages MATCH ? ORDER BY bm25(passages, 0, ?, ?) LIMIT ?",
            (words, TITLE_WEIGHT, TEXT_WEIGHT, limit),
        )
        return [Passage(*row) for row in found]

    def close(self) -> None:
        """Frees the index."""
        self._database.close()


def match_any(text: str) -> str:
    """An FTS5 query for any of the words in a text; empty where there is none."""
    return " OR ".join(f'"{word}"' for word in dict.fromkeys(re.findall(r"\w+", text)))


def read_folder(folder: Path) -> list[Passage]:
    """The passages of all `.txt` and `.md` files in a folder, those in folders below included.

    Raises:
        ArgumentError: There is no such folder, nothing to read in it, or a file that is not UTF-8.
    """
    if not folder.is_dir():
        raise ArgumentError(f"{folder} is no folder; expected one with .txt or .md documents")
    passages: list[Passage] = []
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".txt", ".md") and path.is_file():
            passages += _passages(path)
    if not passages:
        raise ArgumentError(f"{folder} has no .txt or .md documents with text in them")
    return passages


def _passages(path: Path) -> Iterator[Passage]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ArgumentError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None
    title, *paragraphs = [" ".join(block.split()) for block in re.split(r"\n\s*\n", text) if block.strip()] or [""]
    if not paragraphs:
        title, paragraphs = path.stem.replace("_", " "), [title] if title else []
    for paragraph in paragraphs:
        for piece in _pieces(paragraph):
            yield Passage(path.name, title.lstrip("# "), piece)


def _pieces(paragraph: str) -> Iterator[str]:
    """A paragraph, cut after sentences, or after words where a sentence is too long itself."""
    while len(paragraph) > LONGEST_PASSAGE:
        head = paragraph[:LONGEST_PASSAGE]
        end = max(head.rfind(mark) + 1 for mark in (". ", "! ", "? ")) or head.rfind(" ") or 0
        end = end if end > 0 else LONGEST_PASSAGE
        yield paragraph[:end].rstrip()
        paragraph = paragraph[end:].lstrip()
    if paragraph:
        yield paragraph
