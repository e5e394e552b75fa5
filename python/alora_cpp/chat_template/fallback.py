"""Chat templates for models that bring none, chosen by the control tokens that their vocabulary has.

Each format says what comes before and after a turn. A leading system message, documents and tools make one system turn
at the start; Gemma, which knows no such turn, gets it at the head of the first user turn. Vocabularies that have no
known control tokens get plain text: `User: ...`, `Assistant: ...`, a line each.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass


@dataclass(frozen=True)
class TurnFormat:
    """How one family of models writes a turn."""

    name: str
    control_tokens: tuple[str, ...]
    head: str
    tail: str
    gap: str = ""
    has_system_turn: bool = True

    @property
    def template(self) -> str:
        """The jinja template of a whole conversation."""
        system = _SYSTEM_TURN if self.has_system_turn else _SYSTEM_IN_FIRST_TURN
        source = _MACROS + system + _TURNS
        return source.replace("HEAD", self.head).replace("GAP", self.gap).replace("TAIL", self.tail)


_MACROS = """\
{%- macro head(role) -%}HEAD{%- endmacro -%}
{%- macro turn(role, text) -%}{{ head(role) }}GAP{{ text }}TAIL{%- endmacro -%}
{%- macro text_of(message) -%}
{%- if message.content is string -%}{{ message.content }}
{%- else -%}{%- for part in message.content -%}{{ part.text }}{%- endfor -%}{%- endif -%}
{%- for call in message.tool_calls -%}
{{ '\\n' if message.content or not loop.first }}{{ call.function | default(call) | tojson }}
{%- endfor -%}
{%- endmacro -%}
{%- macro instructions() -%}
{%- if messages and messages[0].role == 'system' -%}{{ text_of(messages[0]) + '\\n\\n' }}{%- endif -%}
{%- if tools -%}
{{ 'Functions that can be called:\\n' }}{%- for tool in tools -%}{{ (tool | tojson) + '\\n' }}{%- endfor -%}{{ '\\n' }}
{%- endif -%}
{%- if documents -%}
{{ 'Documents to answer from:\\n\\n' }}
{%- for document in documents -%}
{{ '[' ~ (document.doc_id | default(loop.index)) ~ '] ' }}
{%- if document.title -%}{{ document.title + '\\n' }}{%- endif -%}
{{ document.text ~ '\\n\\n' }}
{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{{ bos_token }}
{%- set system = instructions().rstrip('\\n') -%}
{%- set rest = messages[1:] if messages and messages[0].role == 'system' else messages -%}
"""

_SYSTEM_TURN = "{%- if system -%}{{ turn('system', system) }}{%- set system = '' -%}{%- endif -%}"

_SYSTEM_IN_FIRST_TURN = """\
{%- if system and not (rest and rest[0].role == 'user') -%}
{{ turn('user', system) }}{%- set system = '' -%}
{%- endif -%}
"""

_TURNS = """\
{%- for message in rest -%}
{%- set before = system + '\\n\\n' if system and loop.first else '' -%}
{{ turn(message.role, before + text_of(message)) }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ head('assistant') }}{%- endif -%}
"""

# The model begins its replies with the space after the colon itself.
PLAIN = TurnFormat(
    "plain",
    (),
    "{{ role | capitalize }}:",
    "{{ '\\n' }}",
    gap="{{ '' if text[:1] == ' ' else ' ' }}",
)

FORMATS = (
    TurnFormat(
        "granite",
        ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"),
        "<|start_of_role|>{{ role }}<|end_of_role|>",
        "<|end_of_text|>{{ '\\n' }}",
    ),
    TurnFormat("chatml", ("<|im_start|>", "<|im_end|>"), "<|im_start|>{{ role + '\\n' }}", "<|im_end|>{{ '\\n' }}"),
    TurnFormat(
        "llama-3",
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|start_header_id|>{{ role }}<|end_header_id|>{{ '\\n\\n' }}",
        "<|eot_id|>",
    ),
    TurnFormat(
        "gemma",
        ("<start_of_turn>", "<end_of_turn>"),
        "<start_of_turn>{{ ('model' if role == 'assistant' else role) + '\\n' }}",
        "<end_of_turn>{{ '\\n' }}",
        has_system_turn=False,
    ),
)


def choose_format(control_tokens: Container[str]) -> TurnFormat:
    """The format that a vocabulary was made for.

    Args:
        control_tokens: The texts of the vocabulary's control tokens.
    """
    return next((one for one in FORMATS if all(token in control_tokens for token in one.control_tokens)), PLAIN)
