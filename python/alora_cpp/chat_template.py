"""A conversation to tokens, by the model's own chat template.

The template is rendered as text, as transformers does it. Control tokens count only where the template wrote them: in
what users wrote, whatever looks like a control token is broken up before rendering and mended before tokenizing, so it
stays text. Replies that the model generated itself keep the tokens they were generated with.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.sandbox

from alora_cpp.errors import ArgumentError

if TYPE_CHECKING:
    from alora_cpp.model import Model

_OWN_VARIABLES = {"messages", "documents", "tools", "add_generation_prompt", "bos_token", "eos_token"}


class ChatTemplate:
    """The chat template of one model."""

    def __init__(self, model: Model) -> None:
        """Compiles the model's template.

        Raises:
            ArgumentError: The model has none, or it is no valid template.
        """
        source = model.chat_template
        if source is None:
            raise ArgumentError(f"{model.path} has no chat template; expected tokenizer.chat_template in the file")
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
        )
        environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ArgumentError(f"the chat template of {model.path} is not valid: {error}") from None
        self._model = model
        controls = sorted(model.control_tokens, key=len, reverse=True)
        self._controls = re.compile("|".join(map(re.escape, controls)) or r"(?!)")
        self._beginnings = {text[:n] for text in controls for n in range(1, len(text))}
        self._endings = {text[-n:] for text in controls for n in range(1, len(text))}
        self._longest = max(map(len, controls), default=0)

    def tokenize(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        documents: Sequence[Mapping[str, Any]] = (),
        tools: Sequence[Mapping[str, Any]] = (),
        options: Mapping[str, Any] | None = None,
        add_generation_prompt: bool = False,
        generated: Mapping[int, Sequence[int]] | None = None,
    ) -> list[int]:
        """The tokens of a conversation.

        Args:
            messages: Mappings with `role` and `content`.
            documents: Mappings with `text` and perhaps `title` and `doc_id`.
            tools: Functions the model may call, as OpenAI's schemas.
            options: More variables for the template, such as `thinking`.
            add_generation_prompt: Whether to end with what begins the assistant's reply.
            generated: For messages that the model wrote, by index, the tokens it wrote.

        Raises:
            ArgumentError: The template refuses the messages, or an option has the name of one of its own variables.
        """
        shadowed = sorted(_OWN_VARIABLES & set(options or {}))
        if shadowed:
            raise ArgumentError(f"options sets {', '.join(shadowed)}, which has an argument of its own; leave it out")
        # Private-use characters and chance keep these apart from any text.
        secret = secrets.token_hex(8)
        gap = f"\ue000{secret}\ue001"
        stand_ins = {f"\ue002{secret}:{index}\ue003": list(ids) for index, ids in (generated or {}).items()}
        prepared = [dict(self._protect(dict(message), gap)) for message in messages]
        for stand_in, index in zip(stand_ins, generated or {}, strict=True):
            prepared[index]["content"] = stand_in
        variables = {name: self._protect(value, gap) for name, value in (options or {}).items()}
        variables |= {
            "messages": prepared,
            "documents": self._protect(list(documents), gap) or None,
            "tools": self._protect(list(tools), gap) or None,
            "add_generation_prompt": add_generation_prompt,
        }
        rendered = self._render(variables)
        if any(rendered.count(stand_in) != 1 for stand_in in stand_ins):
            # The template does more with a reply than to write it down: go by its text.
            return self.tokenize(
                messages,
                documents=documents,
                tools=tools,
                options=options,
                add_generation_prompt=add_generation_prompt,
            )
        return self._tokenize_rendered(rendered, gap, stand_ins)

    def _render(self, variables: Mapping[str, Any]) -> str:
        model = self._model
        try:
            return self._template.render(
                variables,
                bos_token="" if model.bos is None else model.detokenize([model.bos], special=True),
                eos_token="" if model.eos is None else model.detokenize([model.eos], special=True),
            )
        except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
            raise ArgumentError(f"the chat template of {model.path} refuses the messages: {error}") from None

    def _tokenize_rendered(self, rendered: str, gap: str, stand_ins: Mapping[str, list[int]]) -> list[int]:
        fixed: dict[str, list[int]] = {text: [token] for text, token in self._model.control_tokens.items()}
        fixed.update(stand_ins)
        pattern = "|".join([*map(re.escape, stand_ins), self._controls.pattern])
        tokens: list[int] = []
        for piece in re.split(f"({pattern})", rendered):
            if piece in fixed:
                tokens += fixed[piece]
            elif piece:
                tokens += self._model.tokenize(piece.replace(gap, ""))
        return tokens

    def _protect(self, value: Any, gap: str) -> Any:
        """Puts the gap into everything in a user's text that is a control token, or could become one at its edges."""
        if isinstance(value, Mapping):
            return {key: self._protect(item, gap) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._protect(item, gap) for item in value]
        if not isinstance(value, str):
            return value
        text = self._controls.sub(lambda match: match[0][0] + gap + match[0][1:], value)
        for n in range(min(self._longest, len(value)), 0, -1):
            if value[-n:] in self._beginnings and text.endswith(value[-n:]):
                text = text[: len(text) - n + 1] + gap + text[len(text) - n + 1 :]
            if value[:n] in self._endings and text.startswith(value[:n]):
                text = text[: n - 1] + gap + text[n - 1 :]
        return text


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
