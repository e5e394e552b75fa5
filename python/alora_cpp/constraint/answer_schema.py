"""JSON schemas as answers are held to them: bounded in size, and open only where they mean to be."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from alora_cpp.errors import AdapterError

MAX_DEPTH = 64
MAX_NODES = 20_000
# Larger integers are no floats any more.
_MAX_BITS = 1000

# Keywords whose subschemas judge the same value as the schema around them.
_IN_PLACE = ("$ref", "allOf", "anyOf", "oneOf")
# Keywords that say something about the members of an object.
_MEMBERS = ("properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties")
# With one of these a schema says itself which other members there may be.
_OTHER_MEMBERS = ("additionalProperties", "patternProperties", "unevaluatedProperties", "minProperties")
# How far answers stay from a bound that excludes itself: more than the rounding of a number's text to a float.
_BOUND_GAP = 1e-12
# Bounds of numbers without any: floats tell all integers up to here apart, and no text of digits overflows.
_FARTHEST = 10**15


def check_size(schema: Any) -> None:
    """Refuses what is no JSON, or too large or too deep to be worked with in bounded time.

    Raises:
        AdapterError: The schema has another kind of value or key, or exceeds `MAX_DEPTH` or `MAX_NODES`.
    """
    waiting = [(schema, 0)]
    seen = 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if depth > MAX_DEPTH:
            raise AdapterError(f"the JSON schema is nested deeper than {MAX_DEPTH} levels; write it flatter, with $ref")
        if seen + len(waiting) > MAX_NODES:
            raise AdapterError(f"the JSON schema has more than {MAX_NODES} values; make it smaller")
        if isinstance(value, dict):
            for key, item in value.items():
                if not isinstance(key, str):
                    raise AdapterError(f"the JSON schema has the key {key!r}, expected strings only; quote it")
                waiting.append((item, depth + 1))
        elif isinstance(value, list):
            waiting.extend((item, depth + 1) for item in value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise AdapterError(f"the JSON schema has the number {value}, which JSON does not know")
        elif isinstance(value, int) and value.bit_length() > _MAX_BITS:
            raise AdapterError(
                f"the JSON schema has an integer of {value.bit_length()} bits, expected {_MAX_BITS} at most"
            )
        elif value is not None and not isinstance(value, (str, int, float, bool)):
            raise AdapterError(f"the JSON schema has a {type(value).__name__} in it, expected what JSON knows")


def resolve(root: Any, reference: Any) -> Any:
    """What a `$ref` within the schema points to; None where it points nowhere, or outside."""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        return None
    node = root
    for part in reference.split("/")[1:]:
        name = unquote(part).replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and name in node:
            node = node[name]
        elif isinstance(node, list) and name.isdecimal() and int(name) < len(node):
            node = node[int(name)]
        else:
            return None
    return node


def answer_schema(schema: Any) -> Any:
    """A copy that allows a subset of what the schema allows: what an answer should be.

    Objects that name their properties hold nothing else, unless the schema says that they may. Left as they are:
    objects that several subschemas judge together (`allOf`, `anyOf` beside `properties`), where one does not know what
    the others name. Bounds of numbers that exclude themselves move inwards by 1e-12, so that no text of many digits
    rounds to the bound; numbers without bounds stay within 1e15, so that none is read as infinite.

    Raises:
        AdapterError: As for `check_size`.
    """
    check_size(schema)
    schema = copy.deepcopy(schema)
    for node, alone in _judges(schema):
        if alone and "properties" in node and not any(key in node for key in (*_IN_PLACE, *_OTHER_MEMBERS)):
            _close(node)
        if node.get("type") != "integer":
            _move_bounds(node)
        _add_bounds(node)
    return schema


def _judges(root: Any) -> list[tuple[dict[str, Any], bool]]:
    """Every schema reached from the root, and whether it alone judges its value wherever it is used."""
    alone: dict[int, bool] = {}
    nodes: dict[int, dict[str, Any]] = {}
    waiting = [(root, True)]
    while waiting:
        node, claimed = waiting.pop()
        if not isinstance(node, dict):
            continue
        before = alone.get(id(node))
        now = claimed and before is not False
        if before == now:
            continue
        alone[id(node)], nodes[id(node)] = now, node
        several = sum(key in node for key in _IN_PLACE) > 1 or any(key in node for key in _MEMBERS)
        waiting.append((resolve(root, node.get("$ref")), now and not several))
        for key in ("allOf", "anyOf", "oneOf"):
            branches = node.get(key, [])
            if not isinstance(branches, list):
                continue
            together = several or (key == "allOf" and len(branches) > 1)
            waiting.extend((branch, now and not together) for branch in branches)
        waiting.extend((child, True) for child in _children(node))
    return [(node, alone[key]) for key, node in nodes.items()]


def _children(node: dict[str, Any]) -> Iterator[Any]:
    """Schemas of what is inside the value that this one judges."""
    for key in ("properties", "patternProperties"):
        if isinstance(node.get(key), dict):
            yield from node[key].values()
    for key in ("items", "prefixItems", "additionalProperties", "additionalItems"):
        inner = node.get(key)
        yield from inner if isinstance(inner, list) else [inner]


def _close(node: dict[str, Any]) -> None:
    properties, required = node["properties"], node.get("required", [])
    if isinstance(properties, dict) and isinstance(required, list):
        for name in required:
            if isinstance(name, str):
                properties.setdefault(name, True)
        node["additionalProperties"] = False


def _move_bounds(node: dict[str, Any]) -> None:
    for exclusive, inclusive, inwards in (("exclusiveMinimum", "minimum", 1), ("exclusiveMaximum", "maximum", -1)):
        bound = node.get(exclusive)
        if isinstance(bound, bool) or not isinstance(bound, (int, float)):
            continue
        del node[exclusive]
        moved = bound + inwards * max(_BOUND_GAP, math.ulp(bound))
        other = node.get(inclusive)
        if not isinstance(other, (int, float)) or (moved - other) * inwards > 0:
            node[inclusive] = moved


def _add_bounds(node: dict[str, Any]) -> None:
    kinds = node.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if not {"number", "integer"}.isdisjoint(kind for kind in kinds if isinstance(kind, str)):
        given = [node[key] for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum") if key in node]
        if not any(key in node for key in ("const", "enum")) and all(_is_small(bound) for bound in given):
            if "exclusiveMinimum" not in node:
                node.setdefault("minimum", -_FARTHEST)
            if "exclusiveMaximum" not in node:
                node.setdefault("maximum", _FARTHEST)


def _is_small(bound: Any) -> bool:
    return isinstance(bound, (int, float)) and abs(bound) <= _FARTHEST
