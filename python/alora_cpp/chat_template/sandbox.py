"""Where chat templates run: jinja as transformers sets it up, with bounds on what a stranger's template can do.

A template cannot reach attributes, import or write; that is jinja's sandbox. It cannot run on without end either:
loops, calls and filters look at the clock, and whatever makes texts longer looks at their length first.
"""

from __future__ import annotations

import functools
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.exceptions
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox
import jinja2.utils

from alora_cpp.chat_template.user_text import STAND_IN, UserText, by_letter, in_other_case, plain_text

SECONDS = 5.0
LONGEST = 1 << 24
_LONGEST_INTEGER = 1 << 12  # in bits
_LEAST_SPELLED = 16  # of any value, so that there is an end to those that contain one another many times over

# Their arguments say how long the result gets.
_PADDING = frozenset(
    {"center", "ljust", "rjust", "zfill", "expandtabs", "indent", "batch", "slice", "tojson", "round", "wordwrap"}
)
# They spell out a value with all that is in it.
_SPELLING = frozenset({"tojson", "string", "pprint", "join", "format", "urlencode", "xmlattr"})
# They make numbers of texts.
_COUNTING = frozenset({"int", "float", "wordcount"})
# They rewrite a text letter by letter.
_BY_LETTER = frozenset({"e", "escape", "forceescape", "urlencode"})
_WIDE_FORMAT = re.compile(r"\d{6}|%[^%a-zA-Z]*\*|\{[^{}]*\{")


class TemplateSandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """The environment of chat templates."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[jinja2.ext.loopcontrols, _Generation],
            finalize=self._spell,
        )
        self._running = threading.local()
        self.concat = self._join  # type: ignore[method-assign]
        self.filters["tojson"] = self._to_json
        # Jinja's own turns every value into a plain `str` first, which would not find what stand-ins stand for.
        self.filters["replace"] = lambda value, old, new, count=-1: self._spell(value).replace(old, new, count)
        self.filters = {name: self._bounded(name, function) for name, function in self.filters.items()}
        self.globals["raise_exception"] = _refuse
        self.globals["strftime_now"] = lambda format: datetime.now().strftime(format)
        self.globals["namespace"] = _Namespace
        # Random filler text; its length is the template's choice.
        del self.globals["lipsum"]

    def load(self, source: str) -> jinja2.Template:
        """Compiles a template.

        Raises:
            Exception: Any; the template is not valid.
        """
        with_checks = _Checks().visit(self.parse(source))
        return jinja2.Template.from_code(self, self.compile(with_checks), self.make_globals(None))

    def render(self, template: jinja2.Template, variables: Mapping[str, Any], plain_of: Mapping[int, str]) -> str:
        """Renders a template.

        Args:
            template: As `load` made it.
            variables: What the template can read.
            plain_of: What the stand-ins in user texts stand for.

        Raises:
            Exception: Any; the template refuses the variables, or goes beyond its bounds.
        """
        self._running.plain_of = plain_of
        self._running.until = time.thread_time() + SECONDS
        try:
            return str(template.render(variables))
        finally:
            del self._running.plain_of, self._running.until

    def check_clock(self) -> None:
        """Stops a template that has run for too long."""
        if time.thread_time() > getattr(self._running, "until", float("inf")):
            raise jinja2.exceptions.SecurityError(f"it computes for more than {SECONDS:.0f} seconds")

    def each(self, items: Iterable[Any]) -> Iterator[Any]:
        """What a loop goes through."""
        for item in items:
            self.check_clock()
            yield item

    def tie(self, *values: Any) -> Any:
        """The operator `~`."""
        return self._join([self._spell(value) for value in values])

    def call(self, context: jinja2.runtime.Context, function: Any, /, *arguments: Any, **options: Any) -> Any:
        """Calls a macro, a method or a global function."""
        self.check_clock()
        owner = getattr(function, "__self__", None)
        if isinstance(owner, str):
            self._check_lengthening(getattr(function, "__name__", ""), owner, arguments, options)
        return self._check_length(super().call(context, function, *arguments, **options))

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        """Computes one of the operators that can make values grow."""
        self.check_clock()
        if operator == "%" and isinstance(left, str):
            self._check_lengthening("format", left, right if isinstance(right, tuple) else (right,), {})
        elif operator == "*":
            size = max(_length(left), 1) * max(right if isinstance(right, int) else 1, 1)
            if isinstance(right, list | tuple | str):
                size = len(right) * max(left if isinstance(left, int) else 1, 1)
            if isinstance(left, int) and isinstance(right, int):
                size = left.bit_length() + right.bit_length()
            _refuse_over(size, _LONGEST_INTEGER if isinstance(left, int) and isinstance(right, int) else LONGEST)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            _refuse_over(left.bit_length() * abs(right), _LONGEST_INTEGER)
        return self._check_length(super().call_binop(context, operator, left, right))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Makes a text's method `format` safe; jinja asks for it wherever a method is looked up."""
        if super().wrap_str_format(value) is None:
            return None
        text = str.__str__(value.__self__)
        formatted = super().wrap_str_format(getattr(text, value.__name__))
        assert formatted is not None

        def bounded(*arguments: Any, **options: Any) -> str:
            self._check_lengthening("format", text, arguments, options)
            return str(formatted(*arguments, **options))

        return bounded

    def _bounded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def bounded(*arguments: Any, **options: Any) -> Any:
            self.check_clock()
            # Some filters get the environment or context first.
            first = 1 if hasattr(function, "jinja_pass_arg") else 0
            self._check_lengthening(name, arguments[first], arguments[first + 1 :], options)
            if isinstance(arguments[first], UserText):
                return self._check_length(_apply_to_user_text(name, function, first, arguments, options))
            return self._check_length(function(*arguments, **options))

        return bounded

    def _check_lengthening(self, name: str, value: Any, arguments: Iterable[Any], options: Mapping[str, Any]) -> None:
        given = [*arguments, *options.values()]
        if name in _PADDING:
            for one in given:
                _refuse_over(one if isinstance(one, int) else 0, 1 << 16)
        elif name == "replace" and len(given) > 1 and isinstance(value, str):
            _refuse_over(len(value) + value.count(str(given[0])) * len(str(given[1])), LONGEST)
        elif name == "format" and isinstance(value, str) and _WIDE_FORMAT.search(value):
            raise jinja2.exceptions.SecurityError("it formats with a width that is very large, or computed")
        elif name == "join" and given and isinstance(value, list | tuple):
            _refuse_over(len(value) * len(str(given[0])), LONGEST)
        if name in _SPELLING:
            _refuse_over(_spelled_length([value, *given]), LONGEST)

    def _check_length(self, value: Any) -> Any:
        if isinstance(value, int):
            _refuse_over(value.bit_length(), _LONGEST_INTEGER)
        else:
            _refuse_over(_length(value), LONGEST)
        return self._as_user_text(value)

    def _spell(self, value: Any) -> Any:
        """A value as it is written out."""
        if isinstance(value, str):
            return value
        _refuse_over(_spelled_length(value), LONGEST)
        return str(value)

    def _to_json(
        self,
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys)
        if not ensure_ascii:
            return text
        plain = text.translate(self._plain_of)
        return "".join(
            one if wanted <= "~" else json.dumps(wanted)[1:-1] for one, wanted in zip(text, plain, strict=True)
        )

    @property
    def _plain_of(self) -> Mapping[int, str]:
        return getattr(self._running, "plain_of", {})

    def _join(self, pieces: Iterable[str]) -> str:
        joined, length = [], 0
        for piece in pieces:
            length += len(piece)
            _refuse_over(length, LONGEST)
            joined.append(piece)
        text: str = self._as_user_text("".join(joined))
        return text

    def _as_user_text(self, value: Any) -> Any:
        """Texts made of users' texts go on answering as their plain text."""
        if type(value) is str and not value.isascii() and STAND_IN.search(value):
            return UserText(value, self._plain_of)
        return value


class _Checks(jinja2.visitor.NodeTransformer):
    """Lets loops and `~` go through the sandbox, as calls and operators do by themselves."""

    def visit_For(self, node: jinja2.nodes.For) -> jinja2.nodes.Node:  # noqa: N802 - jinja looks for this name
        self.generic_visit(node)
        node.iter = _through("each", [node.iter], node.lineno)
        return node

    def visit_Concat(self, node: jinja2.nodes.Concat) -> jinja2.nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _through("tie", node.nodes, node.lineno)


def _through(method: str, arguments: list[Any], line: int) -> jinja2.nodes.Call:
    return jinja2.nodes.Call(
        jinja2.nodes.EnvironmentAttribute(method, lineno=line), arguments, [], None, None, lineno=line
    )


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks what the assistant says, for training; it renders as what is in it."""

    tags = {"generation"}  # noqa: RUF012 - jinja's own way

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        return jinja2.nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class _Namespace(jinja2.utils.Namespace):
    """A namespace without the names that Python gives a meaning to."""

    def __init__(*arguments: Any, **values: Any) -> None:  # `self` is free for the template
        self, *rest = arguments
        for name in dict(*rest, **values):
            _check_name(name)
        jinja2.utils.Namespace.__init__(self, *rest, **values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if str(name).startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace has no '{name}'; names begin with a letter")


def _apply_to_user_text(
    name: str, filter: Callable[..., Any], place: int, arguments: tuple[Any, ...], options: Mapping[str, Any]
) -> Any:
    """Filters that look at the characters themselves get the plain ones."""
    text = arguments[place]
    if name in _BY_LETTER:
        return by_letter(text, lambda one: str(filter(one)))
    if name == "title":
        return in_other_case(text, filter)
    if name in _COUNTING:
        text = plain_text(text)
    return filter(*arguments[:place], text, *arguments[place + 1 :], **options)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _refuse_over(size: int, most: int) -> None:
    if size > most:
        raise jinja2.exceptions.SecurityError("it makes a value larger than any conversation needs")


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | bytes | list | tuple | dict) else 0


def _spelled_length(value: Any) -> int:
    """About how long a value is when it is written out; stops counting where it is too long."""
    length, waiting = 0, [value]
    while waiting and length <= LONGEST:
        one = waiting.pop()
        length += _LEAST_SPELLED + _length(one)
        if isinstance(one, Mapping):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple):
            waiting += one
    return length
