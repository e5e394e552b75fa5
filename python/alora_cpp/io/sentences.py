"""Sentences: finding them, and marking them with the numbered tags that an intrinsic's answer refers to.

The splitter is nltk's Punkt without trained parameters: published adapters learned with sentences found by it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nltk.tokenize.punkt import PunktSentenceTokenizer


@dataclass(frozen=True)
class Sentence:
    """A tagged sentence of a request.

    Attributes:
        number: The number in its tag.
        text: The sentence, with the space that joins it to the next one.
        begin: Offset of its first character in its document or message, where sentences are joined by one space.
        end: Offset after its last character.
        document_id: The document's `doc_id`; None in messages.
        message_index: Index of its message in the conversation; None in documents and in the last message.
    """

    number: int
    text: str
    begin: int
    end: int
    document_id: str | None = None
    message_index: int | None = None


@cache
def _splitter() -> PunktSentenceTokenizer:
    # nltk takes a quarter of a second to import, and few need it.
    from nltk.tokenize.punkt import PunktSentenceTokenizer

    return PunktSentenceTokenizer()


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Begin and end of each sentence, in characters.

    White space between sentences and after them belongs to none; before the first one it belongs to it.
    """
    return list(_splitter().span_tokenize(text))


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, without the white space between them."""
    return [text[begin:end] for begin, end in sentence_spans(text)]


def tag_sentences(
    text: str,
    tag: str,
    first: int = 0,
    *,
    document_id: str | None = None,
    message_index: int | None = None,
) -> tuple[str, list[Sentence]]:
    """Marks each sentence: `One. Two.` becomes `<c0> One. <c1> Two.` for the tag `c`.

    Args:
        text: The text to mark.
        tag: What stands before the number.
        first: Number of the first sentence.
        document_id: For the sentences returned.
        message_index: For the sentences returned.

    Returns:
        The marked text, and its sentences.
    """
    parts = split_sentences(text)
    tagged = " ".join(f"<{tag}{first + index}> {part}" for index, part in enumerate(parts))
    sentences, begin = [], 0
    for number, part in enumerate(_joined(parts), start=first):
        sentences.append(Sentence(number, part, begin, begin + len(part), document_id, message_index))
        begin += len(part)
    return tagged, sentences


def _joined(parts: list[str]) -> Iterable[str]:
    """Each part with the space that joins it to the next."""
    return (part + " " * (index < len(parts)) for index, part in enumerate(parts, start=1))
