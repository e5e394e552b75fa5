"""JSON schemas that allow few answers, as the list of those answers.

Such answers need no grammar: each text is scored by its own probability. Whatever is not provably finite and small, or
uses a keyword not known here, is left to the grammar.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

from alora_cpp.constraint.answer_schema import answer_schema, resolve
from alora_cpp.constraint.schema_values import (
    MAX_STEPS,
    Judge,
    OpenSchema,
    check_keywords,
    items_of,
    members_of,
    number_of,
)
from alora_cpp.errors import AdapterError

MAX_TEXTS = 64
# Of the lists on the way to the answers, before all of the schema has judged them, and of an answer.
_MAX_CANDIDATES = 1024
_MAX_LENGTH = 4096

_Choice = TypeVar("_Choice")


@dataclass(frozen=True)
class ClosedText:
    """One of the answers that a schema allows.

    Attributes:
        text: The JSON text, as `json.dumps(value, ensure_ascii=False)` writes it.
        value: What the text says.
    """

    text: str
    value: Any


def closed_texts(schema: Any) -> tuple[ClosedText, ...] | None:
    """Lists every answer that a schema allows, where these are few.

    Answers come in the schema's order, their keys in the order of `properties`; a property that is not required gives
    answers with it and without. An object that names its properties holds no others unless the schema says so, and an
    integer is written without a fraction.

    Args:
        schema: A JSON schema, as `json.loads` gives it.

    Returns:
        At most 64 answers with different texts; None where there are more, or none, or where the schema is not known to
        be finite.
    """
    try:
        judge = Judge(schema)
        found = [one for one in _Lister(answer_schema(schema)).answers() if judge.allows(one.value)]
    except (OpenSchema, AdapterError):
        return None
    return tuple(found) if 0 < len(found) <= MAX_TEXTS else None


class _Lister:
    """Lists a superset of the answers, from the first keyword of each subschema that is finite."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._steps = 0

    def answers(self) -> list[ClosedText]:
        return self._list(self._root, ())

    def _list(self, schema: Any, references: tuple[str, ...]) -> list[ClosedText]:
        """Answers to a subschema; a reference among those that led here has no end."""
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise OpenSchema
        if schema is False:
            return []
        check_keywords(schema, self._root)
        if "const" in schema:
            return [_leaf(schema["const"])]
        if "enum" in schema:
            return _union([_leaf(value)] for value in items_of(schema, "enum"))
        if "$ref" in schema:
            reference = schema["$ref"]
            if reference in references:
                raise OpenSchema
            return self._list(resolve(self._root, reference), (*references, reference))
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return _union(self._list(branch, references) for branch in items_of(schema, key))
        if "allOf" in schema:
            return self._first_finite(items_of(schema, "allOf"), references)
        kinds = schema.get("type")
        kinds = kinds if isinstance(kinds, list) else [kinds]
        return _union(self._list_kind(kind, schema, references) for kind in kinds)

    def _first_finite(self, schemas: Sequence[Any], references: tuple[str, ...]) -> list[ClosedText]:
        for schema in schemas:
            try:
                return self._list(schema, references)
            except OpenSchema:
                continue
        raise OpenSchema

    def _list_kind(self, kind: Any, schema: dict[str, Any], references: tuple[str, ...]) -> list[ClosedText]:
        if kind == "null":
            return [_leaf(None)]
        if kind == "boolean":
            return [_leaf(True), _leaf(False)]
        if kind == "integer":
            return [_leaf(value) for value in _integers(schema)]
        if kind == "array":
            return self._arrays(schema, references)
        if kind == "object":
            return self._objects(schema, references)
        raise OpenSchema

    def _arrays(self, schema: dict[str, Any], references: tuple[str, ...]) -> list[ClosedText]:
        first = [self._list(item, references) for item in items_of(schema, "prefixItems")]
        shortest, longest = number_of(schema, "minItems", 0), number_of(schema, "maxItems", math.inf)
        rest = self._list(schema.get("items", True), references) if longest > len(first) else []
        if not rest:
            longest = min(longest, len(first))
        if not longest <= _MAX_CANDIDATES:
            raise OpenSchema
        first += [rest] * (math.floor(longest) - len(first))
        lengths = range(math.ceil(max(0, shortest)), math.floor(longest) + 1)
        return _union(_combine(first[:length], _array) for length in lengths)

    def _objects(self, schema: dict[str, Any], references: tuple[str, ...]) -> list[ClosedText]:
        if schema.get("additionalProperties") is not False:
            raise OpenSchema
        members, required = members_of(schema), items_of(schema, "required")
        choices: list[list[ClosedText | None]] = []
        for name, member in members.items():
            present = self._list(member, references)
            choices.append([*present] if name in required else [*present, None])
        return _combine(choices, lambda chosen: _object(members, chosen))


def _integers(schema: dict[str, Any]) -> range:
    """The integers within a schema's bounds that its `multipleOf` allows."""
    step = number_of(schema, "multipleOf", 1)
    low = max(number_of(schema, "minimum", -math.inf), number_of(schema, "exclusiveMinimum", -math.inf))
    high = min(number_of(schema, "maximum", math.inf), number_of(schema, "exclusiveMaximum", math.inf))
    if math.isinf(low) or math.isinf(high) or step < 1 or step != int(step) or high - low > _MAX_CANDIDATES * step:
        raise OpenSchema
    first = math.ceil(low) + -math.ceil(low) % int(step)
    return range(first, math.floor(high) + 1, int(step))


def _combine(positions: Sequence[Sequence[_Choice]], build: Callable[[Any], ClosedText]) -> list[ClosedText]:
    """Builds every choice of one for each position."""
    if math.prod(map(len, positions)) > _MAX_CANDIDATES:
        raise OpenSchema
    return [_short(build(chosen)) for chosen in product(*positions)]


def _union(lists: Iterable[list[ClosedText]]) -> list[ClosedText]:
    """All of them in order, each text once."""
    found: dict[str, ClosedText] = {}
    for some in lists:
        for one in some:
            found.setdefault(one.text, one)
        if len(found) > _MAX_CANDIDATES:
            raise OpenSchema
    return list(found.values())


def _array(items: Sequence[ClosedText]) -> ClosedText:
    return ClosedText(f"[{', '.join(item.text for item in items)}]", [item.value for item in items])


def _object(names: Iterable[str], members: Sequence[ClosedText | None]) -> ClosedText:
    held = {name: member for name, member in zip(names, members, strict=True) if member is not None}
    texts = (f"{_leaf(name).text}: {member.text}" for name, member in held.items())
    return ClosedText(f"{{{', '.join(texts)}}}", {name: member.value for name, member in held.items()})


def _leaf(value: Any) -> ClosedText:
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise OpenSchema from None
    return _short(ClosedText(text, value))


def _short(one: ClosedText) -> ClosedText:
    if len(one.text) > _MAX_LENGTH:
        raise OpenSchema
    return one
