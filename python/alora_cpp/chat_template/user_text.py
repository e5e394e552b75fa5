"""Text that users wrote, kept apart from what a template writes, whatever the template does with it.

Every character that occurs in some control token is replaced by a stand-in, one for one, before the template sees it.
Stand-ins are lone surrogates, which no valid text has. In the rendered text, a control token is one only where the
template wrote all of it: no slicing, joining or replacing turns a stand-in back. Being one for one, stand-ins leave
lengths and positions as they are, and `UserText` lets the template search and compare as if they were not there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import repeat
from typing import Any

from alora_cpp.errors import ArgumentError

STAND_IN = re.compile("[\ud800-\udfff]")
_CODES = range(0xD800, 0xE000)
_MARKS = 1024
# Where the letters are that become ASCII in another case, such as the Kelvin sign and the ligatures.
_BEYOND_ASCII = [chr(code) for code in (*range(0x80, 0x2200), *range(0xFB00, 0xFB07))]
SPACES = " \t\n\r\x0b\x0c"

# Filters that write JSON have to see these in order to escape them.
_ESCAPED_IN_JSON = frozenset('"\\')


class StandIns:
    """The stand-ins of one vocabulary's control tokens."""

    def __init__(self, control_tokens: Iterable[str]) -> None:
        """Gives a stand-in to every character of the control tokens, and to those that become one in another case.

        Args:
            control_tokens: Their texts.

        Raises:
            ArgumentError: They have more different characters than there are stand-ins.
        """
        characters: set[str] = set()
        for text in control_tokens:
            characters |= (set(text) - _ESCAPED_IN_JSON) or set(text)
        characters |= {other for one in characters for other in (one.upper(), one.lower()) if len(other) == 1}
        characters |= {one for one in _BEYOND_ASCII if characters & set(one.upper() + one.lower() + one.casefold())}
        codes = iter(_CODES[:-_MARKS])
        if len(characters) + len(SPACES) > len(_CODES) - _MARKS:
            raise ArgumentError(
                f"the control tokens have {len(characters)} different characters, expected at most "
                f"{len(_CODES) - _MARKS - len(SPACES)}; user text could not be told from them"
            )
        self._of = {ord(one): chr(code) for one, code in zip(sorted(characters), codes, strict=False)}
        # The edges of a reply have stand-ins of their own, so that they show where the template cut them.
        self._of_edges = {ord(one): chr(code) for one, code in zip(SPACES, codes, strict=False)}
        self.plain_of: Mapping[int, str] = {
            ord(new): chr(old) for old, new in [*self._of.items(), *self._of_edges.items()]
        }

    def replace(self, text: str) -> str:
        """The text with stand-ins.

        Raises:
            ArgumentError: It is no valid Unicode.
        """
        lone = STAND_IN.search(text)
        if lone:
            raise ArgumentError(f"the text is no valid Unicode at character {lone.start()}: surrogates not allowed")
        return text.translate(self._of)

    def replace_edge(self, spaces: str) -> str:
        """White space at an edge of a reply, with stand-ins."""
        return spaces.translate(self._of_edges)

    def marks(self) -> Iterator[str]:
        """Characters left over, to mark places with."""
        return map(chr, _CODES[-_MARKS:])


class UserText(str):
    """Text with stand-ins, whole or in part, that answers questions as its plain text would.

    What is cut out of it is again such a text; its plain text is out of a template's reach.
    """

    __slots__ = ("_plain", "_plain_of")

    _plain: str | None
    _plain_of: Mapping[int, str]

    def __new__(cls, text: str, plain_of: Mapping[int, str]) -> UserText:
        """Wraps a text with stand-ins.

        Args:
            text: The text.
            plain_of: The characters that stand-ins stand for, as `str.translate` takes them.
        """
        made = super().__new__(cls, text)
        made._plain_of = plain_of
        made._plain = None  # until it is asked for
        return made

    def _cut(self, begin: int, end: int) -> UserText:
        return UserText(str.__getitem__(self, slice(begin, end)), self._plain_of)

    def _cut_along(self, pieces: Iterable[str], gap: int) -> list[UserText]:
        """The pieces of the plain text that follow one another, `gap` characters apart."""
        cut, begin = [], 0
        for piece in pieces:
            cut.append(self._cut(begin, begin + len(piece)))
            begin += len(piece) + gap
        return cut

    def __repr__(self) -> str:
        """As Python writes a text in a list; what can be shown keeps its stand-in."""
        plain = plain_text(self)
        quote = repr(plain)[0]
        return quote + "".join(map(_written, str.__str__(self), plain, repeat(quote))) + quote

    def __hash__(self) -> int:
        return hash(plain_text(self))

    def __getitem__(self, key: Any) -> UserText:
        return UserText(str.__getitem__(self, key), self._plain_of)

    def __iter__(self) -> Iterator[Any]:
        return (UserText(one, self._plain_of) for one in str.__iter__(self))


def _written(stand_in: str, plain: str, quote: str) -> str:
    if plain == quote:
        return "\\" + plain
    return stand_in if plain.isprintable() and plain != "\\" else repr(plain)[1:-1]


def plain_text(value: Any) -> Any:
    """What a user's text says; any other value as it is."""
    if isinstance(value, tuple):
        return tuple(map(plain_text, value))
    if not isinstance(value, UserText):
        return value
    if value._plain is None:
        value._plain = str.translate(value, value._plain_of)
    return value._plain


def _asks_plain(name: str) -> Callable[..., Any]:
    def method(self: UserText, *arguments: Any) -> Any:
        return getattr(plain_text(self), name)(*map(plain_text, arguments))

    return method


def by_letter(text: UserText, change: Callable[[str], str]) -> UserText:
    """A text with every character rewritten; what comes of a user's character is the user's as well.

    Args:
        text: The text.
        change: Gives what is written instead of a character.
    """
    back = {ord(letter): chr(code) for code, letter in text._plain_of.items()}
    pairs = zip(str.__str__(text), map(change, plain_text(text)), strict=True)
    written = "".join(new.translate(back) if STAND_IN.match(old) else new for old, new in pairs)
    return UserText(written, text._plain_of)


def in_other_case(text: UserText, change: Callable[[str], str]) -> UserText:
    """A text in upper, lower or mixed case, letter for letter.

    Args:
        text: The text.
        change: Gives a plain text in that case.
    """
    plain = plain_text(text)
    # Letters that would become two, such as the German sharp s, stay as they are: places have to be kept.
    held = {one for one in set(plain) if len(change(one)) != 1}
    changed = change("".join("x" if one in held else one for one in plain))
    letters = iter(old if old in held else new for old, new in zip(plain, changed, strict=True))
    return by_letter(text, lambda _: next(letters))


def _changes_case(name: str) -> Callable[..., Any]:
    def method(self: UserText) -> UserText:
        return in_other_case(self, lambda text: str(getattr(text, name)()))

    return method


def _strips(left: bool, right: bool) -> Callable[..., Any]:
    def method(self: UserText, characters: Any = None, /) -> UserText:
        text, characters = plain_text(self), plain_text(characters)
        begin = len(text) - len(text.lstrip(characters)) if left else 0
        end = max(begin, len(text.rstrip(characters))) if right else len(text)
        return self._cut(begin, end)

    return method


def _splits(name: str) -> Callable[..., Any]:
    def method(self: UserText, sep: Any = None, maxsplit: int = -1) -> list[UserText]:
        text, sep = plain_text(self), plain_text(sep)
        pieces = getattr(text, name)(sep, maxsplit)
        if sep is not None:
            return self._cut_along(pieces, len(sep))
        cut, end = [], 0
        for piece in pieces:
            begin = text.index(piece, end)
            end = begin + len(piece)
            cut.append(self._cut(begin, end))
        return cut

    return method


def _parts(name: str) -> Callable[..., Any]:
    def method(self: UserText, sep: Any, /) -> tuple[UserText, ...]:
        return tuple(self._cut_along(getattr(plain_text(self), name)(plain_text(sep)), 0))

    return method


def _splitlines(self: UserText, keepends: bool = False) -> list[UserText]:
    whole = self._cut_along(plain_text(self).splitlines(True), 0)
    return whole if keepends else [line._cut(0, len(plain_text(line).splitlines()[0])) for line in whole]


def _replace(self: UserText, old: Any, new: Any, count: int = -1, /) -> UserText:
    if not old:
        return UserText(str.replace(self, old, new, count), self._plain_of)
    return UserText(str.join(new, self.split(old, count)), self._plain_of)


def _removeprefix(self: UserText, prefix: Any, /) -> UserText:
    return self._cut(len(prefix) if self.startswith(prefix) else 0, len(self))


def _removesuffix(self: UserText, suffix: Any, /) -> UserText:
    return self._cut(0, len(self) - len(suffix) if self.endswith(suffix) else len(self))


_METHODS: dict[str, Callable[..., Any]] = {
    "strip": _strips(True, True),
    "lstrip": _strips(True, False),
    "rstrip": _strips(False, True),
    "split": _splits("split"),
    "rsplit": _splits("rsplit"),
    "partition": _parts("partition"),
    "rpartition": _parts("rpartition"),
    "splitlines": _splitlines,
    "replace": _replace,
    "removeprefix": _removeprefix,
    "removesuffix": _removesuffix,
}
_METHODS |= {
    name: _asks_plain(name)
    for name in dir(str)
    if name.startswith("is")
    or name in ("startswith", "endswith", "find", "rfind", "index", "rindex", "count", "__contains__")
    or name in ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__")
}
_METHODS |= {name: _changes_case(name) for name in ("upper", "lower", "casefold", "capitalize", "title", "swapcase")}
for _name, _method in _METHODS.items():
    _method.__name__ = _name
    setattr(UserText, _name, _method)
