"""What the engine's thread tells the window. Each is immutable: it crosses from one thread to the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from alora_cpp import Verdict

Turn = Literal["question", "reply"]


@dataclass(frozen=True)
class Loading:
    """A model is being loaded, and this share of it is there, from 0 to 1."""

    fraction: float


@dataclass(frozen=True)
class Loaded:
    """A model can be talked to; a new conversation has begun.

    Attributes:
        name: The model's name.
        description: Architecture and size.
        asked: The intrinsics that will judge the conversation.
    """

    name: str
    description: str
    asked: tuple[str, ...]


@dataclass(frozen=True)
class LoadFailed:
    """A model was not loaded, for this reason; the one before it, if there was one, is still there."""

    problem: str


@dataclass(frozen=True)
class Grounded:
    """The conversation is grounded in documents with these titles."""

    titles: tuple[str, ...]


@dataclass(frozen=True)
class Rejected:
    """Something could not be done, such as reading a document, for these reasons."""

    problems: tuple[str, ...]


@dataclass(frozen=True)
class Judged:
    """Intrinsics have judged a turn; verdicts by the name that the app asked for."""

    turn: Turn
    verdicts: Mapping[str, Verdict]


@dataclass(frozen=True)
class Wrote:
    """The reply goes on with this text."""

    piece: str


@dataclass(frozen=True)
class Marked:
    """The reply's characters from `begin` to before `end` are not supported by the documents."""

    begin: int
    end: int


@dataclass(frozen=True)
class Ended:
    """The turn is over.

    Attributes:
        answered: Whether there is a reply, or the beginning of one. Where there is none, the question is taken back.
        cancelled: Whether the user ended it.
        problem: What went wrong, if anything did.
    """

    answered: bool
    cancelled: bool = False
    problem: str | None = None


Event = Loading | Loaded | LoadFailed | Grounded | Rejected | Judged | Wrote | Marked | Ended
