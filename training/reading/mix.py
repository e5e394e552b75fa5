"""How much of every sort of text the base model reads, phase by phase."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from training.chat_format import Conversation
from training.reading import checking, closed_book, documents, follow_ups, prose, requests
from training.reading.writer import Writer

Phase = Literal["pretrain", "refine"]
Sort = Callable[[Writer], Conversation | str | None]

_MIX: dict[Phase, dict[Sort, float]] = {
    "pretrain": {
        closed_book.closed_book_chat: 34.0,
        closed_book.article: 18.0,
        closed_book.choice_chat: 6.0,
        documents.document_chat: 25.0,
        documents.grounded_chat: 3.0,
        checking.checking_chat: 12.0,
        checking.real_checking_chat: 12.0,
        follow_ups.answerability_chat: 5.0,
        follow_ups.real_answerability_chat: 2.0,
        follow_ups.rewrite_chat: 4.0,
        requests.request_chat: 14.0,
        prose.prose_page: 3.0,
    },
    "refine": {
        closed_book.closed_book_chat: 24.0,
        closed_book.article: 8.0,
        closed_book.choice_chat: 2.0,
        documents.document_chat: 8.0,
        documents.grounded_chat: 5.0,
        checking.checking_chat: 22.0,
        checking.real_checking_chat: 28.0,
        follow_ups.answerability_chat: 8.0,
        follow_ups.real_answerability_chat: 3.0,
        follow_ups.rewrite_chat: 6.0,
        requests.request_chat: 20.0,
        prose.prose_page: 0.5,
    },
}


def text(writer: Writer, phase: Phase) -> Conversation | str:
    """The next text of a phase; sorts that need real data give None where there is none, and another is written."""
    sorts = _MIX[phase]
    while True:
        (sort,) = writer.random.choices(list(sorts), list(sorts.values()))
        written = sort(writer)
        if written is not None:
            return written
