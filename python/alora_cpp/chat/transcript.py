"""What was said in a chat, what it is grounded in, and how much of it the model still sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alora_cpp.chat.conversation import Conversation
from alora_cpp.errors import ArgumentError

if TYPE_CHECKING:
    from alora_cpp.model import Model


@dataclass
class Transcript:
    """The record of a chat.

    Attributes:
        model: Who reads it.
        messages: Mappings with `role` and `content`.
        documents: Texts, or mappings with `text`.
        tools: Schemas of functions.
        template_options: More variables for the template.
        n_forgotten: How many of the oldest messages, system messages left out, the model no longer sees.
        generated: For messages that the model wrote itself, by index, their text and the tokens it wrote.
    """

    model: Model
    messages: list[dict[str, Any]] = field(default_factory=list)
    documents: list[dict[str, Any]] = field(default_factory=list)
    tools: list[Mapping[str, Any]] = field(default_factory=list)
    template_options: dict[str, Any] = field(default_factory=dict)
    n_forgotten: int = 0
    generated: dict[int, tuple[str, list[int]]] = field(default_factory=dict)

    def add(self, message: Mapping[str, Any]) -> None:
        """Adds a message.

        Raises:
            ArgumentError: It is none.
        """
        _check_message(len(self.messages), message)
        self.messages.append(dict(message))

    def add_generated(self, text: str, tokens: Sequence[int]) -> None:
        """Adds an assistant's message that was written with these tokens."""
        # Where a stop string cut the text short, the tokens say more than the text does.
        agrees = self.model.detokenize(tokens) == text
        self.write_generated(len(self.messages), text, tokens if agrees else [])

    def write_generated(self, index: int, text: str, tokens: Sequence[int]) -> None:
        """Puts an assistant's message in a place, with the tokens that were written, if they say just that."""
        self.generated[index] = (text, list(tokens))
        self.messages[index : index + 1] = [{"role": "assistant", "content": text}]

    def conversation(self, at: int | None = None) -> Conversation:
        """What the model sees, up to a message.

        Args:
            at: As in `messages[:at]`; all messages if not given.

        Raises:
            ArgumentError: There are no messages up to there, the last of them was forgotten, or one is no message.
        """
        if not self.messages:
            raise ArgumentError("the conversation has no messages; add one first")
        for index, message in enumerate(self.messages):
            _check_message(index, message)
        others = self._others()
        if self.n_forgotten >= len(others):
            # Those that were forgotten have been taken away since.
            self.n_forgotten = 0
        forgotten = set(others[: self.n_forgotten])
        end = len(self.messages[:at])
        seen = [index for index in range(end) if index not in forgotten]
        if not seen or seen[-1] != end - 1:
            raise ArgumentError(
                f"at={at} ends with no message that the model sees: there are {len(self.messages)}, "
                f"of which {self.n_forgotten} are forgotten"
            )
        return Conversation(
            self.model.template,
            [self.messages[index] for index in seen],
            [{"doc_id": str(number), **as_document(one)} for number, one in enumerate(self.documents, 1)],
            self.tools,
            self.template_options,
            {position: tokens for position, index in enumerate(seen) if (tokens := self._written(index))},
        )

    def _written(self, index: int) -> list[int]:
        """The tokens of a message that the model wrote, unless it was changed since."""
        text, tokens = self.generated.get(index, (None, []))
        return tokens if text == self.messages[index]["content"] else []

    def later_beginnings(self) -> list[int]:
        """Values for `n_forgotten` that forget more whole turns, and never the last one."""
        others = self._others()
        return [
            rank
            for rank, index in enumerate(others)
            if rank > self.n_forgotten and self.messages[index]["role"] == "user"
        ]

    def _others(self) -> list[int]:
        return [index for index, message in enumerate(self.messages) if message.get("role") != "system"]


def _check_message(index: int, message: object) -> None:
    if not isinstance(message, Mapping) or "role" not in message or "content" not in message:
        raise ArgumentError(f"message {index} is {message!r:.200}, expected a mapping with 'role' and 'content'")
    role, content = message["role"], message["content"]
    if not isinstance(role, str) or not isinstance(content, str | list | None):
        raise ArgumentError(
            f"message {index} has role {role!r:.200} and content {content!r:.200}, expected text for both "
            "(the content of tool calls may be None, or a list of parts)"
        )


def as_document(document: Mapping[str, Any] | str) -> dict[str, Any]:
    """A document as templates expect it.

    Raises:
        ArgumentError: It is neither text nor a mapping with text.
    """
    if isinstance(document, str):
        return {"text": document}
    if isinstance(document, Mapping) and isinstance(document.get("text"), str):
        return dict(document)
    raise ArgumentError(f"a document is {document!r}, expected text or a mapping with 'text' and perhaps 'title'")
