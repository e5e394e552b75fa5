"""What an intrinsic is asked: the tokens, and from which of them on its adapter governs.

The conversation is rewritten as the intrinsic's `io.yaml` says and rendered with the model's chat template. Where the
invocation is part of that (the prompt that begins a reply, or an instruction's text), its last occurrence counts, which
is PEFT's rule; otherwise it follows the conversation. What users wrote is never taken for an invocation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from alora_cpp.chat.conversation import Conversation, common_prefix, common_suffix
from alora_cpp.io import IoConfig, Request, rewrite_request


class Question(Protocol):
    """What of an intrinsic decides how it is asked; training asks in the same way before there is an adapter."""

    @property
    def config(self) -> IoConfig:
        """Its `io.yaml`."""

    @property
    def invocation(self) -> tuple[int, ...]:
        """The tokens that call it; may be empty."""

    @property
    def activation_offset(self) -> int:
        """How many tokens of the invocation come before the first one that the adapter governs."""

    @property
    def governs_all(self) -> bool:
        """Whether it governs the whole prompt."""


@dataclass(frozen=True)
class Prompt:
    """An intrinsic's prompt.

    Attributes:
        tokens: All of it, from the conversation's beginning on.
        activation: Position of the first token that the adapter governs.
        request: The rewritten conversation, to which the answer refers.
    """

    tokens: list[int]
    activation: int
    request: Request


def write_prompt(intrinsic: Question, conversation: Conversation, arguments: Mapping[str, Any]) -> Prompt:
    """The prompt that asks an intrinsic about a conversation.

    Args:
        intrinsic: Whom to ask.
        conversation: About what.
        arguments: What the intrinsic's instruction inserts, by name.

    Raises:
        ArgumentError: An argument is missing, or the chat template refuses the messages.
    """
    request = rewrite_request(intrinsic.config, conversation.messages, conversation.documents, arguments)
    rewritten = _rewritten(conversation, request, intrinsic.config.parameters.template_arguments)
    tokens = rewritten.prompted_tokens
    if intrinsic.governs_all:
        return Prompt(tokens, 0, request)
    if not intrinsic.invocation:
        # Nothing invokes it: it governs the row that predicts the answer's first token.
        return Prompt(tokens, len(tokens) - 1, request)
    authored = _authored(rewritten, request.n_instructions, _instructions_apart(intrinsic, request, arguments))
    found = _find_invocation(tokens, intrinsic.invocation, authored)
    if found is None:
        found = len(rewritten.tokens)
        tokens = [*rewritten.tokens, *intrinsic.invocation]
    return Prompt(tokens, found + intrinsic.activation_offset, request)


def _rewritten(conversation: Conversation, request: Request, template_arguments: Mapping[str, Any]) -> Conversation:
    n_own = len(request.messages) - request.n_instructions
    shift = n_own - len(conversation.messages)
    unchanged = (
        not template_arguments
        and len(request.messages) == len(conversation.messages)
        and all(new == old for new, old in zip(request.messages, conversation.messages, strict=True))
        and list(request.documents) == list(conversation.documents)
    )
    if unchanged:
        return conversation
    generated = {
        index + shift: tokens
        for index, tokens in conversation.generated.items()
        if request.messages[index + shift] == conversation.messages[index]
    }
    return replace(
        conversation,
        messages=request.messages,
        documents=request.documents,
        template_options={**conversation.template_options, **template_arguments},
        generated=generated,
    )


def _instructions_apart(intrinsic: Question, request: Request, arguments: Mapping[str, Any]) -> list[str]:
    """The instruction once for each text inserted into it, with another one in that one's place."""
    if intrinsic.config.instruction is None:
        return []
    before = request.messages[-2].get("content") if len(request.messages) > 1 else None
    values = {**arguments, "last_message": before}
    parts = [(text, "" if name is None else str(values[name])) for text, name in intrinsic.config.instruction.parts]
    return [
        "".join(text + (_unlike(value) if other == index else value) for other, (text, value) in enumerate(parts))
        for index, (_, name) in enumerate(intrinsic.config.instruction.parts)
        if name is not None
    ]


def _authored(rewritten: Conversation, n_instructions: int, apart: Sequence[str]) -> list[tuple[int, int]]:
    """Where in the prompt the adapter's author and the template speak, not the users: ranges of positions.

    What a text takes up in the prompt shows when another one is in its place.
    """
    tokens = rewritten.prompted_tokens
    n_said = len(rewritten.messages) - n_instructions
    said = rewritten.until(n_said).tokens
    begin = common_prefix(tokens, said)
    if begin < len(said) and n_said and isinstance(last := rewritten.messages[n_said - 1]["content"], str):
        # The template writes what was said in another way where something follows.
        other = _with_content(rewritten, n_said - 1, _unlike(last))
        begin = max(begin, len(tokens) - common_suffix(tokens, other))
    ranges = []
    for instruction in apart:
        other = _with_content(rewritten, n_said, instruction)
        ranges.append((begin, common_prefix(tokens, other)))
        begin = max(begin, len(tokens) - common_suffix(tokens, other))
    return [*ranges, (begin, len(tokens))]


def _unlike(text: str) -> str:
    """A text that differs from another one at its beginning and at its end."""
    return next(digit for digit in "012" if digit not in (text.strip()[:1], text.strip()[-1:]))


def _with_content(conversation: Conversation, index: int, content: str) -> list[int]:
    messages = list(conversation.messages)
    messages[index] = {**messages[index], "content": content}
    generated = {one: tokens for one, tokens in conversation.generated.items() if one != index}
    return replace(conversation, messages=messages, generated=generated).prompted_tokens


def _find_invocation(tokens: Sequence[int], invocation: Sequence[int], ranges: Sequence[tuple[int, int]]) -> int | None:
    """Where the last occurrence within one of the ranges begins."""
    wanted = list(invocation)
    for begin, end in reversed(ranges):
        for at in range(end - len(wanted), begin - 1, -1):
            if tokens[at : at + len(wanted)] == wanted:
                return at
    return None
