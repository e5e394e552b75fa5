"""Whether a value is what a JSON schema asks for, as far as lists of answers need it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alora_cpp.constraint.answer_schema import resolve

ANNOTATIONS = frozenset(
    [
        "$schema",
        "$comment",
        "$defs",
        "definitions",
        "title",
        "description",
        "default",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
    ]
)
KNOWN = ANNOTATIONS | frozenset(
    [
        "type",
        "enum",
        "const",
        "$ref",
        "allOf",
        "anyOf",
        "oneOf",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "prefixItems",
        "minItems",
        "maxItems",
    ]
)


MAX_STEPS = 100_000


class OpenSchema(Exception):  # noqa: N818 - no error: such a schema is left to the grammar
    """The schema is not provably finite, not small, or not understood here."""


def check_keywords(schema: Any, root: Any) -> None:
    """Accepts mappings whose keywords are all known; the root may have a name besides.

    Raises:
        OpenSchema: It is no mapping, or has another keyword.
    """
    if not isinstance(schema, dict):
        raise OpenSchema
    named = {"$id", "id"} if schema is root else frozenset()
    if not KNOWN.issuperset(schema.keys() - named):
        raise OpenSchema


def items_of(schema: dict[str, Any], key: str) -> list[Any]:
    """The list under a key; empty where there is none.

    Raises:
        OpenSchema: It is no list.
    """
    items = schema.get(key, [])
    if not isinstance(items, list):
        raise OpenSchema
    return items


def members_of(schema: dict[str, Any]) -> dict[str, Any]:
    """The schemas under `properties`.

    Raises:
        OpenSchema: They are no mapping.
    """
    members = schema.get("properties", {})
    if not isinstance(members, dict):
        raise OpenSchema
    return members


def number_of(schema: dict[str, Any], key: str, default: float) -> float:
    """The number under a key.

    Raises:
        OpenSchema: It is no number.
    """
    number = schema.get(key, default)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise OpenSchema
    return number


class Judge:
    """Tells whether a schema allows a value; gives up on a schema that takes too much work."""

    def __init__(self, root: Any) -> None:
        """Takes the schema that `$ref` starts from."""
        self._root = root
        self._steps = 0

    def allows(self, value: Any) -> bool:
        """Whether the schema allows a value, as `json.loads` gives it.

        Raises:
            OpenSchema: A keyword is not known here, or not used as it should be, or this takes too long.
        """
        return self._allows(self._root, value, ())

    def _allows(self, schema: Any, value: Any, references: tuple[str, ...]) -> bool:
        """Judges by a subschema; a reference among those that led here for this very value has no end."""
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise OpenSchema
        if isinstance(schema, bool):
            return schema
        check_keywords(schema, self._root)
        if "$ref" in schema:
            reference = schema["$ref"]
            if reference in references:
                raise OpenSchema
            if not self._allows(resolve(self._root, reference), value, (*references, reference)):
                return False
        all_of, any_of, one_of = (self._count(schema, key, value, references) for key in ("allOf", "anyOf", "oneOf"))
        return (
            all_of == len(items_of(schema, "allOf"))
            and (any_of > 0 or "anyOf" not in schema)
            and (one_of == 1 or "oneOf" not in schema)
            and ("const" not in schema or same(schema["const"], value))
            and ("enum" not in schema or any(same(one, value) for one in items_of(schema, "enum")))
            and ("type" not in schema or _has_type(schema["type"], value))
            and self._within(schema, value)
        )

    def _count(self, schema: dict[str, Any], key: str, value: Any, references: tuple[str, ...]) -> int:
        return sum(self._allows(branch, value, references) for branch in items_of(schema, key))

    def _within(self, schema: dict[str, Any], value: Any) -> bool:
        """The keywords that speak about one type of value only."""
        if isinstance(value, bool) or value is None:
            return True
        if isinstance(value, (int, float)):
            return _number_within(schema, value)
        if isinstance(value, str):
            return _length_within(schema, "minLength", value, "maxLength")
        if isinstance(value, list):
            first, rest = items_of(schema, "prefixItems"), schema.get("items", True)
            schemas = [*first, *[rest] * (len(value) - len(first))]
            return _length_within(schema, "minItems", value, "maxItems") and all(
                self._allows(one, item, ()) for one, item in zip(schemas, value, strict=False)
            )
        members, other = members_of(schema), schema.get("additionalProperties", True)
        return all(name in value for name in items_of(schema, "required")) and all(
            self._allows(members.get(name, other), item, ()) for name, item in value.items()
        )


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same to JSON: 1 is 1.0, but not true."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def _has_type(kinds: Any, value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    types = {
        "null": value is None,
        "boolean": isinstance(value, bool),
        "integer": number and value == int(value),
        "number": number,
        "string": isinstance(value, str),
        "array": isinstance(value, list),
        "object": isinstance(value, dict),
    }
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if not all(isinstance(kind, str) and kind in types for kind in kinds):
        raise OpenSchema
    return any(types[kind] for kind in kinds)


def _number_within(schema: dict[str, Any], value: float) -> bool:
    divisor = number_of(schema, "multipleOf", 1)
    if divisor <= 0 or divisor != int(divisor):
        raise OpenSchema  # no two implementations agree about multiples of fractions
    return (
        number_of(schema, "minimum", value) <= value <= number_of(schema, "maximum", value)
        and ("exclusiveMinimum" not in schema or number_of(schema, "exclusiveMinimum", 0) < value)
        and ("exclusiveMaximum" not in schema or number_of(schema, "exclusiveMaximum", 0) > value)
        and ("multipleOf" not in schema or value % divisor == 0)
    )


def _length_within(schema: dict[str, Any], least: str, value: Sequence[Any], most: str) -> bool:
    return number_of(schema, least, 0) <= len(value) <= number_of(schema, most, len(value))
