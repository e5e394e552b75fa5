"""An intrinsic's instruction: a `str.format` template that becomes one more user message."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass

from alora_cpp.errors import ArgumentError
from alora_cpp.io.yaml_text import Setting


@dataclass(frozen=True)
class Instruction:
    """A template, taken apart.

    Attributes:
        template: The text, with `{names}` for what is inserted.
        parts: Its pieces in order: literal text, and the name of what is inserted after it, or None.
    """

    template: str
    parts: tuple[tuple[str, str | None], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of what is inserted, in order, each once."""
        return tuple(dict.fromkeys(name for _, name in self.parts if name is not None))

    def fill(self, arguments: Mapping[str, object]) -> str:
        """The text with everything inserted.

        Raises:
            ArgumentError: An argument is missing, or is neither text, number nor boolean.
        """
        if missing := [name for name in self.names if name not in arguments]:
            raise ArgumentError(
                f"the intrinsic's instruction needs {', '.join(missing)}; "
                f"given are {', '.join(map(str, arguments)) or 'no arguments'}; add them to arguments"
            )
        for name in self.names:
            if not isinstance(value := arguments[name], str | bool | int | float):
                raise ArgumentError(f"argument '{name}' is of type {type(value).__name__}, expected a text or a number")
        return self._join({name: str(arguments[name]) for name in self.names})

    def _join(self, inserted: Mapping[str, str]) -> str:
        return "".join(text + (inserted[name] if name is not None else "") for text, name in self.parts)


def parse_instruction(setting: Setting) -> Instruction:
    """Reads an instruction template.

    Of what `str.format` can do only `{name}` is read: templates come from strangers, and attributes, indices, widths
    and conversions reach further than the text inserted.

    Raises:
        AdapterError: It is no such template.
    """
    template = setting.string("a text")
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as error:
        raise setting.error(f"is no format template: {error}; write {{{{ and }}}} for braces of the text") from None
    for _, name, specification, conversion in pieces:
        if name is not None and not (name.isidentifier() and not specification and conversion is None):
            raise setting.error(
                f"inserts {name!r}{' with a format' if specification or conversion else ''}, expected a plain name "
                "such as {last_message}; write {{ and }} for braces of the text"
            )
    return Instruction(template, tuple((text, name) for text, name, _, _ in pieces))
