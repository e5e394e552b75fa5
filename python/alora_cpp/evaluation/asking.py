"""Asks intrinsics about labelled conversations, reading each conversation once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alora_cpp.chat import Chat
from alora_cpp.errors import AloraError, AnswerError, ArgumentError, ContextFullError
from alora_cpp.labelled_data import LabelledExample
from alora_cpp.verdict import Verdict

# What is wrong with one conversation; the next one may be answered.
_OF_ONE = (AnswerError, ArgumentError, ContextFullError)


@dataclass(frozen=True)
class Judged:
    """A labelled conversation and what the intrinsic said of it.

    Attributes:
        example: The conversation.
        verdict: The answer; None where there is none.
        error: Why there is none.
    """

    example: LabelledExample
    verdict: Verdict | None = None
    error: str | None = None


def ask(
    chat: Chat,
    examples: Mapping[str, Sequence[LabelledExample]],
    *,
    arguments: Mapping[str, Any] | None = None,
    progress: Callable[[float], object] | None = None,
) -> dict[str, list[Judged]]:
    """Asks intrinsics about conversations.

    Equal conversations are read once, and all who are asked about them answer in one fused pass. The others come in
    an order in which what they begin with alike is read once, too.

    Args:
        chat: Where to ask; its messages and documents are replaced.
        examples: The conversations, by intrinsic.
        arguments: What the intrinsics' instructions insert, by name.
        progress: Called with the share that is done, after each conversation.

    Returns:
        For each intrinsic its examples, in their order, with verdicts or errors.

    Raises:
        AdapterNotFoundError: One of the intrinsics is not loaded.
        Cancelled, BackendError, ClosedError: As for `Chat.check`.
    """
    conversations: dict[str, dict[str, list[int]]] = {}
    for name, asked in examples.items():
        for index, example in enumerate(asked):
            conversations.setdefault(_key(example), {}).setdefault(name, []).append(index)
    judged: dict[str, dict[int, Judged]] = {name: {} for name in examples}
    for done, (_, asked_about) in enumerate(sorted(conversations.items()), 1):
        name, indices = next(iter(asked_about.items()))
        example = examples[name][indices[0]]
        chat.messages[:] = example.messages
        chat.documents[:] = example.documents
        answers = _check(chat, list(asked_about), arguments)
        for name, indices in asked_about.items():
            answer = answers[name]
            for index in indices:
                one = examples[name][index]
                judged[name][index] = (
                    Judged(one, verdict=answer) if isinstance(answer, Verdict) else Judged(one, error=str(answer))
                )
        if progress is not None:
            progress(done / len(conversations))
    return {name: [found[index] for index in range(len(examples[name]))] for name, found in judged.items()}


def _key(example: LabelledExample) -> str:
    """A text that sorts conversations by what is rendered first."""
    return json.dumps([example.documents, example.messages])


def _check(chat: Chat, names: Sequence[str], arguments: Mapping[str, Any] | None) -> dict[str, Verdict | AloraError]:
    """Verdicts by name; the error instead, where it is that conversation's own."""
    if len(names) == 1:
        try:
            return {names[0]: chat.check(names[0], arguments=arguments)}
        except _OF_ONE as error:
            return {names[0]: error}
    try:
        return {**chat.check(*names, arguments=arguments)}
    except _OF_ONE:
        # One that fails keeps no other from answering, and many that need more room than there is are fewer alone.
        return {name: answer for one in names for name, answer in _check(chat, [one], arguments).items()}
