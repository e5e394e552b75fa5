"""YAML from strangers, read into plain values that know where they stand in the text."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from alora_cpp.errors import AdapterError
from alora_cpp.io.json_text import Scalar, is_unicode

# Far beyond any real file; they bound the time and memory that a hostile one can take.
MAX_CHARACTERS = 256 * 1024
MAX_DEPTH = 64
MAX_VALUES = 10_000
MAX_INTEGER = 2**63 - 1

_TAG = "tag:yaml.org,2002:"
_SCALARS = {_TAG + name for name in ("null", "bool", "int", "float", "str")}


@dataclass(frozen=True)
class Setting:
    """A value of the YAML text.

    Attributes:
        value: A scalar; or a list of settings, or a mapping to settings.
        name: How it is called in messages, such as `transformations[0].type`.
        line: The line where it begins, from 1.
        source: What the text is called in messages.
    """

    value: Any
    name: str
    line: int
    source: str

    def error(self, problem: str) -> AdapterError:
        """An error about this value."""
        return AdapterError(f"{self.source}, line {self.line}: {self.name} {problem}")

    def wrong(self, expected: str) -> AdapterError:
        """An error that says what was found and what was expected."""
        kinds = {dict: "a mapping", list: "a list", type(None): "null"}
        found = kinds.get(type(self.value)) or f"{self.value!r:.100}"
        return self.error(f"is {found}, expected {expected}")

    @property
    def is_null(self) -> bool:
        """Whether nothing is said: `~`, `null`, or nothing at all."""
        return self.value is None

    def string(self, expected: str = "a string") -> str:
        """The value, if it is a string."""
        if not isinstance(self.value, str):
            hint = "; put it in quotes" if isinstance(self.value, bool | int | float) else ""
            raise self.wrong(expected + hint)
        return self.value

    def number(self, expected: str = "a number") -> float:
        """The value, if it is a finite number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float) or not math.isfinite(self.value):
            raise self.wrong(expected)
        return self.value

    def integer(self, expected: str = "an integer") -> int:
        """The value, if it is an integer."""
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise self.wrong(expected)
        return self.value

    def items(self, expected: str = "a list") -> list[Setting]:
        """The settings in it, if it is a list."""
        if not isinstance(self.value, list):
            raise self.wrong(expected)
        return self.value

    def strings(self, expected: str = "a list of strings") -> tuple[str, ...]:
        """The strings in it, if it is a list of nothing else."""
        return tuple(item.string() for item in self.items(expected))

    def mapping(self, expected: str = "a mapping") -> dict[Scalar, Setting]:
        """The settings in it by their keys, if it is a mapping."""
        if not isinstance(self.value, dict):
            raise self.wrong(expected)
        return self.value

    def named(self, expected: str = "a mapping") -> dict[str, Setting]:
        """The settings in it by their keys, if it is a mapping of which all keys are strings."""
        for key, item in self.mapping(expected).items():
            if not isinstance(key, str):
                raise item.error(f"has the key {key!r}, expected a string; put it in quotes")
        return {str(key): item for key, item in self.mapping().items()}

    def strings_by_name(self, expected: str = "a mapping of strings") -> dict[str, str]:
        """The strings in it by their keys, if it is a mapping of strings to strings."""
        return {key: item.string() for key, item in self.named(expected).items()}

    def fields(self, known: Collection[str], required: Collection[str] = ()) -> dict[str, Setting]:
        """The settings in it, if it is a mapping with these keys.

        Raises:
            AdapterError: It is none, has a key that is not known, or lacks one that is required.
        """
        found = self.mapping()
        for key, setting in found.items():
            if key not in known:
                raise AdapterError(
                    f"{self.source}, line {setting.line}: {self.name} has the unknown key {key!r:.100}; "
                    f"known are {', '.join(known)}"
                )
        if missing := [key for key in required if key not in found]:
            raise self.error(f"lacks {', '.join(missing)}")
        return {str(key): setting for key, setting in found.items()}

    def plain(self) -> Any:
        """The value without places, as a JSON document would have it."""
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.named().items()}
        if isinstance(self.value, float) and not math.isfinite(self.value):
            raise self.wrong("a number that JSON has")
        return self.value


def read_yaml(text: str, *, source: str, name: str) -> Setting:
    """Reads a text of one YAML document, safely.

    Args:
        text: The YAML text. Only null, booleans, integers, numbers, strings, lists and mappings are read; aliases may
            be used as long as what they stand for stays small; merge keys (`<<`) may not.
        source: What it is called in messages.
        name: How the whole document is called in messages.

    Raises:
        AdapterError: It is no YAML, or goes beyond these limits.
    """
    if len(text) > MAX_CHARACTERS:
        raise AdapterError(f"{source} has {len(text)} characters, expected {MAX_CHARACTERS} at most")
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise AdapterError(f"{source}, line {line}: it is no valid YAML: {error.reason}") from None
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}" if mark else ""
        raise AdapterError(f"{source}{place}: it is no valid YAML: {error.problem or error.context}") from None
    except (ValueError, OverflowError):
        # PyYAML converts some numbers without looking at their size: of escapes, and of the YAML version.
        raise AdapterError(f"{source}, line {loader.line + 1}: it is no valid YAML: a number is too large") from None
    if node is None:
        raise AdapterError(f"{source} is empty, expected a YAML mapping")
    return _Converter(loader, source).convert(node, name, 0)


class _Loader(yaml.SafeLoader):
    """Composes nodes only so deep."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(problem=f"nested deeper than {MAX_DEPTH} levels", problem_mark=mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Converter:
    """Nodes to settings."""

    def __init__(self, loader: _Loader, source: str) -> None:
        self.loader = loader
        self.source = source
        self.values = 0

    def convert(self, node: yaml.Node, name: str, depth: int) -> Setting:
        place = Setting(None, name, node.start_mark.line + 1, self.source)
        self.values += 1
        # An alias can stand for a node that holds aliases in turn, or itself: count what they grow to.
        if self.values > MAX_VALUES or depth > MAX_DEPTH:
            limits = f"{MAX_VALUES} values in {MAX_DEPTH} levels at most, each as often as an alias stands for it"
            raise AdapterError(f"{self.source}, line {place.line}: it is too large, expected {limits}")
        return Setting(self.value(node, place, depth), name, place.line, self.source)

    def value(self, node: yaml.Node, place: Setting, depth: int) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, place)
        if node.tag == _TAG + "seq" and isinstance(node, yaml.SequenceNode):
            items = enumerate(node.value)
            return [self.convert(item, f"{place.name}[{index}]", depth + 1) for index, item in items]
        if node.tag == _TAG + "map" and isinstance(node, yaml.MappingNode):
            return self.mapping(node, place, depth)
        raise place.error(f"has the tag {node.tag!r:.100}, expected a plain YAML value")

    def mapping(self, node: yaml.MappingNode, place: Setting, depth: int) -> Mapping[Scalar, Setting]:
        found: dict[Scalar, Setting] = {}
        for key_node, value_node in node.value:
            key_place = Setting(None, f"a key of {place.name}", key_node.start_mark.line + 1, self.source)
            if not isinstance(key_node, yaml.ScalarNode):
                raise key_place.error("is no scalar, expected a name")
            key = self.scalar(key_node, key_place)
            if key in found:
                raise key_place.error(f"is there twice: {key!r:.100}")
            name = f"{key!s:.40}"
            found[key] = self.convert(value_node, f"{place.name}.{name}" if depth else name, depth + 1)
        return found

    def scalar(self, node: yaml.ScalarNode, place: Setting) -> Scalar:
        if node.tag not in _SCALARS:
            raise place.error(
                f"is {node.value!r:.100}, which YAML reads as {node.tag.removeprefix(_TAG):.100}; put it in quotes"
            )
        try:
            value: Scalar = self.loader.construct_object(node)
        except (yaml.YAMLError, ValueError, LookupError, OverflowError):
            kind = node.tag.removeprefix(_TAG)
            raise place.error(f"is {node.value!r:.100}, which is no YAML {kind}; put it in quotes") from None
        if isinstance(value, str) and not is_unicode(value):
            raise place.error("is no valid Unicode: it has half of a surrogate pair")
        # Python fails to print integers of many thousand digits, which hexadecimal ones can have.
        if isinstance(value, int) and abs(value) > MAX_INTEGER:
            raise place.error(f"is {node.value!r:.100}, expected an integer of 64 bits")
        return value
