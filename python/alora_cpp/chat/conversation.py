"""A conversation as it stands at one moment, and its tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from alora_cpp.chat_template import ChatTemplate


@dataclass(frozen=True)
class Conversation:
    """Messages and what they are grounded in, to be rendered by a chat template.

    Attributes:
        template: The model's chat template.
        messages: Mappings with `role` and `content`.
        documents: Mappings with `text`, and perhaps `doc_id` and `title`.
        tools: Schemas of functions that the model may call.
        template_options: More variables for the template.
        generated: For messages that the model wrote, by index, the tokens it wrote.
    """

    template: ChatTemplate
    messages: Sequence[Mapping[str, Any]]
    documents: Sequence[Mapping[str, Any]] = ()
    tools: Sequence[Mapping[str, Any]] = ()
    template_options: Mapping[str, Any] = field(default_factory=dict)
    generated: Mapping[int, Sequence[int]] = field(default_factory=dict)

    @cached_property
    def tokens(self) -> list[int]:
        """The tokens of all messages."""
        return self._tokenize(add_generation_prompt=False)

    @cached_property
    def prompted_tokens(self) -> list[int]:
        """The tokens of all messages, and of what begins the assistant's reply."""
        return self._tokenize(add_generation_prompt=True)

    def _tokenize(self, *, add_generation_prompt: bool) -> list[int]:
        return self.template.tokenize(
            self.messages,
            documents=self.documents,
            tools=self.tools,
            options=self.template_options,
            add_generation_prompt=add_generation_prompt,
            generated=self.generated,
        )

    def until(self, at: int) -> Conversation:
        """The conversation's first `at` messages."""
        return replace(
            self,
            messages=self.messages[:at],
            generated={index: tokens for index, tokens in self.generated.items() if index < at},
        )

    def followed_by(self, role: str, content: str, tokens: Sequence[int]) -> Conversation:
        """The conversation with one more message, and the tokens it was written with, where they are known."""
        return replace(
            self,
            messages=[*self.messages, {"role": role, "content": content}],
            generated={**self.generated, len(self.messages): tokens} if tokens else self.generated,
        )


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    shorter = min(len(left), len(right))
    if left[:shorter] == right[:shorter]:
        return shorter
    return next((i for i in range(shorter) if left[i] != right[i]), shorter)


def common_suffix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two sequences end with alike."""
    shorter = min(len(left), len(right))
    return next((i for i in range(shorter) if left[-1 - i] != right[-1 - i]), shorter)
