r"""The chat format: Granite-3-style role turns, as a jinja template and as token ids.

A conversation is a row of turns, each rendered as

    <|start_of_role|>ROLE<|end_of_role|>TEXT<|end_of_text|>\\n

Documents travel as one turn of the role `documents`, after the optional system turn. Nothing that was
rendered ever changes when turns are appended, so the tokens of a conversation are a prefix of its future.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

START_OF_ROLE = "<|start_of_role|>"
END_OF_ROLE = "<|end_of_role|>"
END_OF_TEXT = "<|end_of_text|>"
CONTROL_TOKENS = (END_OF_TEXT, START_OF_ROLE, END_OF_ROLE)

CHAT_TEMPLATE = """\
{%- set first = 0 -%}
{%- if messages and messages[0]['role'] == 'system' -%}
{{- '<|start_of_role|>system<|end_of_role|>' + messages[0]['content'] + '<|end_of_text|>\\n' -}}
{%- set first = 1 -%}
{%- endif -%}
{%- if documents -%}
{{- '<|start_of_role|>documents<|end_of_role|>' -}}
{%- for document in documents -%}
{%- if not loop.first -%}{{- '\\n\\n' -}}{%- endif -%}
{%- if document['title'] -%}{{- document['title'] + '\\n' -}}{%- endif -%}
{%- if document['text'] -%}{{- document['text'] -}}\
{%- elif document['content'] -%}{{- document['content'] -}}{%- endif -%}
{%- endfor -%}
{{- '<|end_of_text|>\\n' -}}
{%- endif -%}
{%- for message in messages[first:] -%}
{{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + message['content'] + '<|end_of_text|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|start_of_role|>assistant<|end_of_role|>' -}}
{%- endif -%}
"""

Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True)
class Document:
    """A text that the assistant may rely on."""

    title: str
    text: str


@dataclass(frozen=True)
class Message:
    """One turn. `weight` says how much a language model learns from it: 0 is to be read but never to be said."""

    role: str
    text: str
    weight: int = 1


@dataclass
class Conversation:
    """Messages over documents, in the order in which a model reads them."""

    messages: list[Message] = field(default_factory=list)
    documents: list[Document] = field(default_factory=list)

    def add(self, role: str, text: str, weight: int = 1) -> Conversation:
        """Appends a turn and returns the conversation, so that calls chain."""
        self.messages.append(Message(role, text, weight))
        return self

    def turns(self) -> list[Message]:
        """The turns as they are rendered: documents stand where the template puts them."""
        turns = list(self.messages)
        if self.documents:
            body = "\n\n".join((f"{d.title}\n" if d.title else "") + d.text for d in self.documents)
            after_system = 1 if turns and turns[0].role == "system" else 0
            turns.insert(after_system, Message("documents", body))
        return turns

    def as_dicts(self) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
        """Messages and documents in the shape that chat templates and `Model.chat` take."""
        messages = [{"role": m.role, "content": m.text} for m in self.messages]
        return messages, [{"title": d.title, "text": d.text} for d in self.documents]


@dataclass(frozen=True)
class ControlIds:
    """The ids of the control tokens and of the newline between turns."""

    start_of_role: int
    end_of_role: int
    end_of_text: int
    newline: int


def conversation_ids(conversation: Conversation, encode: Encode, control: ControlIds) -> tuple[list[int], list[int]]:
    """Token ids of a conversation, and how much each weighs when a language model learns to predict it.

    Turns are encoded one by one: control tokens split the text before the tokenizer's own rules do,
    so this equals encoding the rendered template, and text can never turn into a control token.
    """
    ids: list[int] = []
    weights: list[int] = []
    for turn in conversation.turns():
        head = [control.start_of_role, *encode(turn.role), control.end_of_role]
        body = [*encode(turn.text), control.end_of_text]
        ids += [*head, *body, control.newline]
        weights += [1] * len(head) + [turn.weight] * len(body) + [1]
    return ids, weights
