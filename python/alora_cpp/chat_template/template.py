"""A conversation to tokens, by the model's own chat template.

The template is rendered as text, as transformers does it. Control tokens count only where the template wrote them:
what users wrote goes through the template with stand-ins (see `user_text`), which become text again before anything is
tokenized. Replies that the model generated itself keep the tokens they were generated with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import jinja2

from alora_cpp.chat_template.fallback import choose_format
from alora_cpp.chat_template.sandbox import TemplateSandbox
from alora_cpp.chat_template.user_text import SPACES, StandIns, UserText
from alora_cpp.errors import ArgumentError

if TYPE_CHECKING:
    from alora_cpp.chat_template.vocabulary import Vocabulary

_OWN_VARIABLES = {"messages", "documents", "tools", "add_generation_prompt", "bos_token", "eos_token"}

# Templates may make control tokens of these, such as `<|user|>`; any other role is text like all that users write.
_KNOWN_ROLES = {"system", "developer", "user", "assistant", "model", "tool", "function", "ipython"}


class ChatTemplate:
    """The chat template of one model.

    Attributes:
        source_name: "model" for the template in the model's file; else the fallback that was chosen by the control
            tokens in the vocabulary: "granite", "chatml", "llama-3", "gemma" or "plain".
    """

    def __init__(self, model: Vocabulary) -> None:
        """Compiles the model's template.

        Raises:
            ArgumentError: It is no valid template.
        """
        self._model = model
        self._controls = {text: token for text, token in model.control_tokens.items() if text}
        longest_first = sorted(self._controls, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._stand_ins = StandIns(self._controls)
        self._replace = lru_cache(maxsize=1024)(self._stand_ins.replace)
        self._tokens_of = lru_cache(maxsize=1024)(self._tokenize_plain)
        begins = "" if model.bos is None else model.detokenize([model.bos], special=True)
        source = model.chat_template
        if source is None:
            fallback = choose_format(self._controls)
            self.source_name, source = fallback.name, fallback.template
            if model.tokenize("", add_special=True)[:1] != [model.bos]:
                begins = ""
        else:
            self.source_name = "model"
        self._special = {
            "bos_token": begins,
            "eos_token": "" if model.eos is None else model.detokenize([model.eos], special=True),
        }
        self._sandbox = TemplateSandbox()
        try:
            self._template = self._sandbox.load(source)
        except Exception as error:
            raise ArgumentError(f"the chat template of {model.path} is not valid{_where(error)}") from None

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

        No text in the arguments yields a control token, but for the well-known roles, of which a template may make one.
        Tokens that the vocabulary calls user-defined, such as `<think>` in some models, are not control tokens:
        llama.cpp makes them of any text that spells them, user text included. It also counts four of gpt-oss's
        markers among them (`<|start|>`, `<|channel|>`, `<|message|>`, `<|constrain|>`).

        Args:
            messages: Mappings with `role` and `content` (text, or a list of parts such as `{"type": "text", "text":
                ...}`), perhaps `tool_calls`, `tool_call_id`, `name` and what else the template reads. As in
                transformers, entries that are None are left out, and a call's arguments stay text or mapping.
            documents: Mappings with `text` and perhaps `title` and `doc_id`; templates get None where there are none.
            tools: Functions the model may call, as OpenAI's schemas; templates get None where there are none.
            options: More variables for the template, such as `thinking`, `controls` or `available_tools`.
            add_generation_prompt: Whether to end with what begins the assistant's reply.
            generated: For messages that the model wrote, by index, the tokens it wrote. They are kept where the
                template writes the content down once and unchanged, or only trims it; then the white space that the
                model wrote stays. Elsewhere the message is tokenized as text.

        Raises:
            ArgumentError: The arguments are not what they should be, an option has the name of one of the template's
                own variables, or the template refuses the messages, fails, or computes for too long.
        """
        shadowed = sorted(_OWN_VARIABLES & set(options or {}))
        if shadowed:
            raise ArgumentError(f"options sets {', '.join(shadowed)}, which has an argument of its own; leave it out")
        for index in generated or {}:
            if not 0 <= index < len(messages):
                raise ArgumentError(f"generated names message {index}, expected 0 to {len(messages) - 1}")
        marks = dict(zip(generated or {}, self._stand_ins.marks(), strict=False))
        replies = {index: _Reply(messages[index], mark, self._stand_ins) for index, mark in marks.items()}
        conversation = _Conversation(self._replace, self._stand_ins, replies)
        variables = {
            **conversation.protect(dict(options or {}), "options"),
            **self._special,
            "messages": [conversation.message(index, message) for index, message in enumerate(messages)],
            "documents": conversation.mappings(documents, "document") or None,
            "tools": conversation.mappings(tools, "tool") or None,
            "add_generation_prompt": add_generation_prompt,
        }
        try:
            rendered = self._sandbox.render(self._template, variables, conversation.plain_of)
        except Exception as error:
            message = f"the chat template of {self._model.path} refuses the messages{_where(error)}"
            raise ArgumentError(message.translate(conversation.plain_of)) from None
        return self._tokenize_rendered(rendered, replies, generated or {})

    @cached_property
    def reply_prompt(self) -> tuple[int, ...]:
        """What begins the assistant's reply."""
        message = [{"role": "user", "content": "0"}]
        said, prompted = (self.tokenize(message, add_generation_prompt=prompted) for prompted in (False, True))
        return tuple(prompted[len(said) :]) if prompted[: len(said)] == said else ()

    def _tokenize_rendered(
        self, rendered: str, replies: Mapping[int, _Reply], generated: Mapping[int, Sequence[int]]
    ) -> list[int]:
        kept: list[tuple[int, int, Sequence[int]]] = []
        for index, reply in replies.items():
            place = reply.find(rendered)
            if place:
                kept.append((*place, generated[index]))
            elif reply.mark:
                rendered = rendered.replace(reply.mark, reply.first_character)
        tokens: list[int] = []
        end = 0
        for begin, after, ids in sorted(kept):
            tokens += self._tokenize_text(rendered[end:begin])
            tokens += ids
            end = after
        return tokens + self._tokenize_text(rendered[end:])

    def _tokenize_text(self, rendered: str) -> list[int]:
        tokens: list[int] = []
        end = 0
        for control in self._control.finditer(rendered):
            tokens += self._tokens_of(rendered[end : control.start()])
            tokens.append(self._controls[control[0]])
            end = control.end()
        return [*tokens, *self._tokens_of(rendered[end:])]

    def _tokenize_plain(self, rendered: str) -> tuple[int, ...]:
        return tuple(self._model.tokenize(rendered.translate(self._stand_ins.plain_of)))


class _Reply:
    """A reply that the model generated, as it goes through the template.

    Its first character that is no white space has a mark for a stand-in, which nothing else in the conversation has;
    white space at its edges has stand-ins, too.
    """

    def __init__(self, message: Mapping[str, Any], mark: str, stand_ins: StandIns) -> None:
        content = message.get("content") if isinstance(message, Mapping) else None
        text = content if isinstance(content, str) else ""
        body = text.strip(SPACES)
        begin = text.find(body)
        self._before = stand_ins.replace_edge(text[:begin])
        self._after = stand_ins.replace_edge(text[begin + len(body) :])
        self._body = mark + stand_ins.replace(body)[1:]
        self.mark = mark if body else ""
        self.first_character = stand_ins.replace(body[:1])
        self.text = self._before + self._body + self._after

    def find(self, rendered: str) -> tuple[int, int] | None:
        """Where it begins and ends in the rendered text, if it is there once and unchanged."""
        begin = rendered.find(self.mark) if self.mark else -1
        if begin < 0 or not rendered.startswith(self._body, begin) or self.mark in rendered[begin + 1 :]:
            return None
        end = begin + len(self._body)
        before = (self._before[i:] for i in range(len(self._before)))
        begin -= next((len(spaces) for spaces in before if rendered.endswith(spaces, 0, begin)), 0)
        after = (self._after[:i] for i in range(len(self._after), 0, -1))
        end += next((len(spaces) for spaces in after if rendered.startswith(spaces, end)), 0)
        return begin, end


class _Conversation:
    """What the caller gave, made ready for the template: plain data, all text with stand-ins."""

    def __init__(self, replace: Callable[[str], str], stand_ins: StandIns, replies: Mapping[int, _Reply]) -> None:
        self._replace = replace
        self._replies = replies
        # The marks stand for what the stand-ins in their place would.
        marked = {
            ord(one.mark): one.first_character.translate(stand_ins.plain_of) for one in replies.values() if one.mark
        }
        self.plain_of: Mapping[int, str] = {**stand_ins.plain_of, **marked}

    def message(self, index: int, message: Mapping[str, Any]) -> dict[Any, Any]:
        """A message, without what is None."""
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise ArgumentError(f"message {index} is {_short(message)}, expected a mapping with 'role' and 'content'")
        given = {key: value for key, value in message.items() if value is not None}
        protected: dict[Any, Any] = self.protect(given, f"message {index}")
        if message["role"] in _KNOWN_ROLES:
            protected["role"] = str(message["role"])
        if index in self._replies and self._replies[index].mark:
            protected["content"] = UserText(self._replies[index].text, self.plain_of)
        return protected

    def mappings(self, values: Iterable[Mapping[str, Any]], what: str) -> list[Any]:
        """Documents or tools."""
        given = list(values)
        for value in given:
            if not isinstance(value, Mapping):
                raise ArgumentError(f"a {what} is {_short(value)}, expected a mapping")
        return [self.protect(value, what) for value in given]

    def protect(self, value: Any, where: str) -> Any:
        """Data as JSON knows it, with stand-ins in all its text."""
        if isinstance(value, str):
            text = self._replace(str.__str__(value))
            return UserText(text, self.plain_of) if text != value else text
        if isinstance(value, Mapping):
            return {self.protect(key, where): self.protect(item, where) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.protect(item, where) for item in value]
        if value is None or type(value) in (bool, int, float):
            return value
        raise ArgumentError(f"{where} has {_short(value)}, expected what JSON knows: text, numbers, lists, mappings")


def _short(value: Any) -> str:
    shown = repr(value)
    return f"{type(value).__name__} {shown[:60]}{'...' if len(shown) > 60 else ''}"


def _where(error: Exception) -> str:
    """The template's line and what happened there, to be put behind a sentence."""
    line = getattr(error, "lineno", None)
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    kind = "" if isinstance(error, jinja2.TemplateError) else f"{type(error).__name__}: "
    return f" (line {line}): {kind}{error}" if line else f": {kind}{error}"
