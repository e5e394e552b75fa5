"""How much of every sort of text the base model reads, phase by phase."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from training.chat_format import Conversation
from training.reading import checking, closed_book, documents, follow_ups, prose, requests
from training.reading.writer import Writer

Phase = Literal["pretrain", "refine"]
Text = Conversation | str
# Sorts that need real data write None where there is none.
Sort = Callable[[Writer], Text | None]

# Percent of all that is read. The second phase judges more than it tells.
_SHARES: dict[Phase, dict[Sort, float]] = {
    "pretrain": {
        closed_book.closed_book_chat: 11.0,
        closed_book.article: 5.0,
        closed_book.certainty_chat: 2.0,
        closed_book.choice_chat: 1.5,
        documents.document_chat: 22.0,
        documents.grounded_chat: 3.0,
        checking.checking_chat: 12.0,
        checking.real_checking_chat: 13.0,
        follow_ups.answerability_chat: 6.0,
        follow_ups.real_answerability_chat: 3.0,
        follow_ups.rewrite_chat: 3.5,
        requests.request_chat: 8.0,
        requests.judged_chat: 5.0,
        requests.guarded_chat: 2.0,
        prose.prose_page: 3.0,
    },
    "refine": {
        closed_book.closed_book_chat: 7.0,
        closed_book.article: 2.0,
        closed_book.certainty_chat: 9.0,
        closed_book.choice_chat: 1.0,
        documents.document_chat: 6.5,
        documents.grounded_chat: 4.0,
        checking.checking_chat: 16.0,
        checking.real_checking_chat: 23.0,
        follow_ups.answerability_chat: 7.5,
        follow_ups.real_answerability_chat: 3.0,
        follow_ups.rewrite_chat: 4.5,
        requests.request_chat: 5.0,
        requests.judged_chat: 7.5,
        requests.guarded_chat: 3.5,
        prose.prose_page: 0.5,
    },
}
_USUAL_LENGTH = 1000.0


class Mix:
    """Writes the texts of a phase, so that each sort gets its share of what is read, long or short."""

    def __init__(self, writer: Writer, phase: Phase) -> None:
        self._writer = writer
        self._shares = dict(_SHARES[phase])
        self._characters = dict.fromkeys(self._shares, _USUAL_LENGTH)
        self._texts = dict.fromkeys(self._shares, 1)

    def text(self) -> Text:
        """The next text."""
        while True:
            rates = [share * self._texts[sort] / self._characters[sort] for sort, share in self._shares.items()]
            (sort,) = self._writer.random.choices(list(self._shares), rates)
            written = sort(self._writer)
            if written is None:
                del self._shares[sort]
                continue
            self._texts[sort] += 1
            self._characters[sort] += _length(written)
            return written


def _length(text: Text) -> int:
    return len(text) if isinstance(text, str) else sum(len(turn.text) + 5 for turn in text.turns())
