"""The base model's measured answers, as they are kept in files."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from training.certainty_questions import question_of
from training.chat_format import Conversation
from training.tasks.example import Example


@dataclass(frozen=True)
class Measured:
    """A reply and what was measured of it; small enough to be kept, so that evaluation needs no measuring.

    Attributes:
        question: The key from which the whole question is made again.
        reply: What the base model said; for a real question, which of the replies on offer it took.
        right: Whether that is so.
        label: The share of right answers at this confidence, in tenths.
        confidence: The probability that the base model gave to the value that it said.
        fingerprint: Of the conversation up to the question, so that one made by other code is noticed.
    """

    question: str
    reply: str
    right: bool
    label: str
    confidence: float
    fingerprint: str

    @property
    def is_real(self) -> bool:
        """Whether it answers a real question."""
        return self.question.startswith("real:")

    def example(self, data: Path | None) -> Example:
        """The conversation with its label.

        Raises:
            ValueError: If the question's key makes another conversation than the one that was measured.
        """
        question = question_of(self.question, data)
        found = fingerprint(question.conversation)
        if found != self.fingerprint:
            raise ValueError(
                f"question {self.question} is not the one that was measured (fingerprint {found}, expected "
                f"{self.fingerprint}): the code or data it is made from changed; measure again"
            )
        reply = question.choice.replies[int(self.reply)] if question.choice else self.reply
        question.conversation.add("assistant", reply)
        return Example(question.conversation, self.label, question.origin, self.right)


def fingerprint(conversation: Conversation) -> str:
    """A checksum of all that was said."""
    text = "\x00".join(f"{turn.role}\x01{turn.text}" for turn in conversation.turns())
    return f"{zlib.crc32(text.encode()):08x}"


def save(rows: Iterable[Measured], path: Path) -> None:
    """Writes measured answers, one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")


def load(path: Path) -> list[Measured]:
    """Reads measured answers.

    Raises:
        FileNotFoundError: Without the file: measuring comes first.
        ValueError: For a line that is no measured answer.
    """
    if not path.exists():
        raise FileNotFoundError(f"no measured answers at {path}: run `python -m training --stages measure` first")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows.append(Measured(**json.loads(line)))
        except (TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path}, line {number} is no measured answer ({error}): measure again") from error
    return rows
