"""JSON text read with the place of every literal, which `json.loads` does not tell."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

Scalar: TypeAlias = str | int | float | bool | None
Path: TypeAlias = tuple[str | int, ...]

# Deeper than any answer or schema that makes sense, and far from Python's recursion limit.
MAX_DEPTH = 100

_SPACE = re.compile(r"[ \t\n\r]*")
_LITERAL = re.compile(
    r"""(?P<string>"[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*")"""
    r"|(?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)|true|false|null"
)


class JsonTextError(ValueError):
    """Text that is no JSON; the message says where."""


@dataclass(frozen=True)
class Literal:
    """A string, number, boolean or null in an answer.

    Attributes:
        path: Field names and indices that lead to it from the root.
        value: What it says.
        begin: Offset of its first character in the answer's text, quote included.
        end: Offset after its last character, quote included.
    """

    path: Path
    value: Scalar
    begin: int
    end: int


def read_json(text: str) -> Any:
    """Reads JSON as RFC 8259 has it: NaN, Infinity, numbers beyond a double and halves of surrogate pairs are refused.

    Where an object has a key twice, the last one counts, as for `json.loads`.

    Returns:
        Dictionaries and lists as in the text, with a `Literal` for everything else.

    Raises:
        JsonTextError: The text is no JSON, or nested deeper than `MAX_DEPTH`.
    """
    reader = _Reader(text)
    value = reader.value(())
    if reader.peek():
        reader.fail("the end of the text")
    return value


def plain(value: Any) -> Any:
    """What `read_json` returned, with the literals' values instead of the literals."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.value if isinstance(value, Literal) else value


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8: escapes can put half of a surrogate pair into it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Reader:
    """Recursive descent; the depth is bounded."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        if space := _SPACE.match(self.text, self.position):
            self.position = space.end()
        return self.text[self.position : self.position + 1]

    def take(self, character: str) -> bool:
        """Passes over the character if it is the next one."""
        found = self.peek() == character
        self.position += found
        return found

    def fail(self, expected: str) -> NoReturn:
        found = repr(self.text[self.position : self.position + 20]) if self.position < len(self.text) else "the end"
        raise JsonTextError(f"at character {self.position} found {found}, expected {expected}")

    def value(self, path: Path) -> Any:
        if len(path) >= MAX_DEPTH and self.peek() in ("{", "["):
            raise JsonTextError(f"at character {self.position} it is nested deeper than {MAX_DEPTH} levels")
        if self.take("{"):
            return self.object(path)
        if self.take("["):
            return self.array(path)
        return self.literal(path)

    def object(self, path: Path) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        if self.take("}"):
            return fields
        while True:
            if self.peek() != '"':
                self.fail("a field name in double quotes")
            key = str(self.literal(path).value)
            if not self.take(":"):
                self.fail("':'")
            fields[key] = self.value((*path, key))
            if self.take("}"):
                return fields
            if not self.take(","):
                self.fail("',' or '}'")

    def array(self, path: Path) -> list[Any]:
        items: list[Any] = []
        if self.take("]"):
            return items
        while True:
            items.append(self.value((*path, len(items))))
            if self.take("]"):
                return items
            if not self.take(","):
                self.fail("',' or ']'")

    def literal(self, path: Path) -> Literal:
        self.peek()
        match = _LITERAL.match(self.text, self.position)
        if match is None:
            self.fail("a JSON value")
        begin, self.position = match.span()
        try:
            value = json.loads(match.group())
        except ValueError:  # Python bounds the digits of an integer
            raise JsonTextError(f"at character {begin} the number has too many digits") from None
        if value in (float("inf"), float("-inf")):
            raise JsonTextError(f"at character {begin} the number {match.group():.50} is too large")
        if isinstance(value, str) and not is_unicode(value):
            raise JsonTextError(f"at character {begin} the text is no valid Unicode: it has half of a surrogate pair")
        return Literal(path, value, begin, self.position)
