"""Chats with a tiny float32 model, one intrinsic of every kind, and an independent idea of what their tokens are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiny import Array, Key, Kind, fresh_logits, open_exact, rewrite_gguf

if TYPE_CHECKING:
    from alora_cpp import Adapter, Chat, Intrinsic, Model

TEMPLATE = """\
{%- if messages[0].role == 'system' -%}{%- set n = 1 -%}
<|start_of_role|>system<|end_of_role|>{{ messages[0].content }}<|end_of_text|>{{ '\\n' }}
{%- else -%}{%- set n = 0 -%}{%- endif -%}
{%- if documents -%}
<|start_of_role|>documents<|end_of_role|>
{%- for document in documents -%}{{ document.text + ';' }}{%- endfor -%}<|end_of_text|>{{ '\\n' }}
{%- endif -%}
{%- for message in messages[n:] -%}
<|start_of_role|>{{ message.role }}<|end_of_role|>{{ message.content }}<|end_of_text|>{{ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}<|start_of_role|>assistant<|end_of_role|>{%- endif -%}
"""
DOCUMENTS = ["Cats purr. Dogs bark."]
ASSISTANT = "<|start_of_role|>assistant<|end_of_role|>"
BEGIN, END = "<|start_of_role|>", "<|end_of_role|>"
_CONTROLS = {"<|bos|>": 0, "<|end_of_text|>": 1, "<|pad|>": 2, BEGIN: 3, END: 4}

_YES_OR_NO = {
    "transformations": [{"type": "likelihood", "input_path": [], "categories_to_values": {"Y": 1.0, "N": 0.0}}],
    "parameters": {"extra_body": {"structured_outputs": {"choice": ["Y", "N"]}}},
}
_SCORE = {"score": {"enum": ["yes", "no"]}}
_LIKELIHOOD = {"type": "likelihood", "input_path": ["score"], "categories_to_values": {"yes": 1.0, "no": 0.0}}


def _object(**properties: Any) -> str:
    return json.dumps({"type": "object", "properties": properties, "required": list(properties)})


# What the io.yaml of each kind says, and how it is loaded.
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "labels": (_YES_OR_NO, {}),
    "closed-json": ({"response_format": _object(**_SCORE), "transformations": [_LIKELIHOOD]}, {}),
    "open-json": (
        {
            "response_format": _object(why={"type": "string", "maxLength": 4}, **_SCORE),
            "transformations": [_LIKELIHOOD],
        },
        {},
    ),
    "free": ({"parameters": {"max_completion_tokens": 6}}, {}),
    "tagged": (
        {
            **_YES_OR_NO,
            "sentence_boundaries": {"documents": "d", "last_message": "i", "all_but_last_message": "m"},
            "docs_as_message": "string",
            "instruction": "Is {last_message} {what}?",
        },
        {},
    ),
    "documents-as-roles": ({**_YES_OR_NO, "docs_as_message": "roles"}, {}),
    "no-json": (
        {
            "parameters": {"max_completion_tokens": 3},
            "transformations": [{"type": "nest", "input_path": [], "field_name": "x"}],
        },
        {},
    ),
    "assistant": (_YES_OR_NO, {"invocation": ASSISTANT}),
    "uninvoked": (_YES_OR_NO, {"invocation": ()}),
    "at-end": (_YES_OR_NO, {"activation": "end"}),
}
# Those that answer; `tagged` needs the argument `what`.
ANSWERING = tuple(name for name in KINDS if name != "no-json")


def write_chat_model(model_path: Path, path: Path, template: str = TEMPLATE) -> Path:
    """Copies a model with a chat template of its own."""
    return rewrite_gguf(model_path, path, tokenizer__chat_template=Key(template, Kind.STRING))


def load(model: Model, adapter: Path, folder: Path, name: str, io: Mapping[str, Any], **options: Any) -> Intrinsic:
    """Loads an adapter with an `io.yaml` that says this and nothing else."""
    path = folder / f"{name}.io.yaml"
    path.write_text(json.dumps({"model": None, "response_format": None, "transformations": [], **io}))
    return model.load_intrinsic(adapter, name=name, io_yaml=path, **options)


def load_kinds(model: Model, adapters: Sequence[Path], folder: Path) -> None:
    """Loads an intrinsic of every kind."""
    for number, (name, (io, options)) in enumerate(KINDS.items()):
        load(model, adapters[number % len(adapters)], folder, name, io, **options)


def open_chat(model: Model, messages: Sequence[Mapping[str, Any]] = (), *, n_ctx: int = 1024, **options: Any) -> Chat:
    """Opens a chat in a context that always rounds in the same way."""
    from alora_cpp import Chat

    return Chat(open_exact(model, n_ctx=n_ctx), messages, **options)


def text_tokens(text: str) -> list[int]:
    """What a user wrote, as tokens, by the tiny vocabulary's own rules."""
    return [
        {" ": 5, "\n": 6, "th": 101}.get(piece, ord(piece[0]) - 26) for piece in re.findall("th|.", text, re.DOTALL)
    ]


def template_tokens(text: str) -> list[int]:
    """What a template wrote, control tokens included."""
    pieces = re.split(f"({'|'.join(map(re.escape, _CONTROLS))})", text)
    return [token for piece in pieces for token in ([_CONTROLS[piece]] if piece in _CONTROLS else text_tokens(piece))]


def turn(role: str, content: str | list[int]) -> list[int]:
    """A message as `TEMPLATE` writes it; its content as text, or as the tokens that the model wrote."""
    body = text_tokens(content) if isinstance(content, str) else content
    return [3, *text_tokens(role), 4, *body, 1, 6]


def turns(
    messages: Sequence[Mapping[str, Any]], documents: Sequence[str] = (), written: Mapping[int, list[int]] | None = None
) -> list[int]:
    """A conversation as `TEMPLATE` writes it."""
    made = [turn(one["role"], (written or {}).get(index, one["content"])) for index, one in enumerate(messages)]
    if documents:
        made.insert(
            int(bool(messages) and messages[0]["role"] == "system"),
            turn("documents", "".join(f"{one};" for one in documents)),
        )
    return [token for tokens in made for token in tokens]


def next_logits(chat: Chat) -> Array:
    """The logits behind the conversation, all of it computed."""
    trunk = chat.trunk
    chat.context.decode()
    return trunk.logits()


def assert_no_trace(chat: Chat, *, tolerance: float = 0.0) -> None:
    """Compares a chat with one that was only told what was said."""
    from alora_cpp import Chat

    transcript = chat.transcript
    fresh = Chat(
        open_exact(chat.context.model, n_ctx=chat.context.n_ctx),
        transcript.messages,
        documents=transcript.documents,
        tools=transcript.tools,
        template_options=transcript.template_options,
    )
    with fresh:
        fresh.transcript.generated = dict(transcript.generated)
        expected = next_logits(fresh)
        actual = next_logits(chat)
        assert chat.trunk.tokens == fresh.trunk.tokens
        assert np.abs(actual - expected).max() <= tolerance
        assert chat.context.n_branches == 1
        assert chat.context.n_cells_used == chat.trunk.length


def yes_or_no(model: Model, adapter: Adapter, tokens: list[int], at: int) -> dict[str, float]:
    """The probabilities of Y and N behind tokens, in a context of their own, the adapter governing from `at`."""
    last = fresh_logits(model, tokens, adapter=adapter, at=at)[-1].astype(np.float64)
    yes, no = (np.exp(last[text_tokens(label)[0]] - last.max()) for label in ("Y", "N"))
    return {"Y": yes / (yes + no), "N": no / (yes + no)}
