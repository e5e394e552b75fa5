"""The list of a closed schema's answers, against jsonschema's own judgement of every small value."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from alora_cpp.constraint.schema_texts import MAX_TEXTS, closed_texts

LEAVES = [None, True, False, -1, 0, 1, 2, "", "a", "b é"]
FLAT = [
    *LEAVES,
    *([*items] for length in range(3) for items in itertools.product(LEAVES, repeat=length)),
    {},
    *({"a": one} for one in LEAVES),
    *({"b": one} for one in LEAVES),
    *({"a": one, "b": other} for one, other in itertools.product(LEAVES, repeat=2)),
]
UNIVERSE = [*FLAT, *({"a": one} for one in FLAT[len(LEAVES) :]), *([one] for one in FLAT[len(LEAVES) :])]


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def texts(schema: Any) -> list[str] | None:
    found = closed_texts(schema)
    return None if found is None else [one.text for one in found]


def leaf_schemas() -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        st.lists(st.sampled_from(LEAVES), min_size=1, max_size=4).map(lambda values: {"enum": values}),
        st.sampled_from(LEAVES).map(lambda value: {"const": value}),
        st.sampled_from([{"type": "null"}, {"type": "boolean"}, {"type": ["null", "boolean"]}]),
        st.builds(
            lambda low, high: {"type": "integer", **low, **high},
            st.sampled_from([{"minimum": -1}, {"exclusiveMinimum": -2}, {"minimum": -0.5}, {"exclusiveMinimum": 0.5}]),
            st.sampled_from([{"maximum": 2}, {"exclusiveMaximum": 2}, {"maximum": 1, "multipleOf": 2}]),
        ),
    )


def flat_schemas() -> st.SearchStrategy[dict[str, Any]]:
    leaf = leaf_schemas()
    members = st.dictionaries(st.sampled_from(["a", "b"]), leaf, min_size=1).map(
        lambda found: dict(sorted(found.items()))
    )
    return st.one_of(
        leaf,
        st.builds(
            lambda properties, required: {
                "type": "object",
                "properties": properties,
                "required": [name for name in required if name in properties],
                "additionalProperties": False,
            },
            members,
            st.lists(st.sampled_from(["a", "b"]), unique=True),
        ),
        st.builds(
            lambda items, least, most: {"type": "array", "items": items, "minItems": least, "maxItems": most},
            leaf,
            st.integers(0, 2),
            st.integers(0, 2),
        ),
        st.lists(leaf, max_size=2).map(lambda first: {"type": "array", "prefixItems": first, "items": False}),
    )


def schemas() -> st.SearchStrategy[dict[str, Any]]:
    flat = flat_schemas()
    branches = st.lists(flat, min_size=1, max_size=3)
    return st.one_of(
        flat,
        flat.map(
            lambda inner: {
                "type": "object",
                "properties": {"a": inner},
                "required": ["a"],
                "additionalProperties": False,
            }
        ),
        flat.map(lambda inner: {"type": "array", "items": inner, "minItems": 1, "maxItems": 1}),
        st.builds(lambda key, some: {key: some}, st.sampled_from(["anyOf", "oneOf", "allOf"]), branches),
        flat.map(lambda inner: {"$ref": "#/$defs/one%20of~1them", "$defs": {"one of/them": inner}}),
        st.builds(lambda one, other: {**one, "anyOf": [other]}, flat, flat),
    )


@settings(max_examples=300, deadline=None)
@given(schemas())
def test_exactly_the_valid_texts_are_listed(schema: dict[str, Any]) -> None:
    validator = Draft202012Validator(schema)
    valid = {dumps(value) for value in UNIVERSE if validator.is_valid(value)}
    found = texts(schema)
    if found is None:
        assert not valid or len(valid) > MAX_TEXTS
    else:
        assert len(found) == len(set(found))
        assert set(found) == valid


@settings(max_examples=200, deadline=None)
@given(schemas())
def test_texts_say_their_values(schema: dict[str, Any]) -> None:
    found = closed_texts(schema)
    assume(found is not None)
    for one in found or ():
        assert one.text == dumps(one.value)
        assert json.loads(one.text) == one.value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=8,
)
keywords = st.sampled_from(
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
        "multipleOf",
        "minLength",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "prefixItems",
        "minItems",
        "maxItems",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.recursive(st.dictionaries(keywords, json_values), lambda inner: st.dictionaries(keywords, inner)))
def test_nonsense_is_left_alone(schema: dict[str, Any]) -> None:
    found = closed_texts(schema)
    assert found is None or all(json.loads(one.text) == one.value for one in found)


def test_order_is_the_schemas() -> None:
    schema = {
        "type": "object",
        "properties": {"second": {"enum": ["z", "y"]}, "first": {"type": "boolean"}},
        "required": ["second"],
    }
    assert texts(schema) == [
        '{"second": "z", "first": true}',
        '{"second": "z", "first": false}',
        '{"second": "z"}',
        '{"second": "y", "first": true}',
        '{"second": "y", "first": false}',
        '{"second": "y"}',
    ]
    assert texts({"enum": ["b", "a"]}) == ['"b"', '"a"']
    assert texts({"anyOf": [{"const": 2}, {"enum": [1, 2]}]}) == ["2", "1"]


def test_same_value_with_another_text_is_another_answer() -> None:
    assert texts({"enum": [1, 1.0, True, 1, "1"]}) == ["1", "1.0", "true", '"1"']
    assert texts({"enum": [1, True], "type": "integer"}) == ["1"]
    assert texts({"enum": [0, False], "type": "boolean"}) == ["false"]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "object", "properties": {"a": {"const": 1}}}, ['{"a": 1}', "{}"]),
        ({"type": "object", "properties": {"a": {"const": 1}}, "required": ["a", "b"]}, None),
        ({"type": "object", "properties": {"a": {"const": 1}}, "additionalProperties": True}, None),
        ({"type": "object", "properties": {"a": {"const": 1}}, "minProperties": 1}, None),
        ({"type": "object"}, None),
        ({"allOf": [{"type": "object", "properties": {"a": {"const": 1}}}, {"required": ["b"]}]}, None),
        ({"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:x", "const": 1}, ["1"]),
        ({"properties": {"a": {"const": 1}}, "type": "object", "title": "T", "description": "D"}, ['{"a": 1}', "{}"]),
    ],
)
def test_objects_hold_what_is_named(schema: Any, expected: list[str] | None) -> None:
    assert texts(schema) == expected


@pytest.mark.parametrize(
    "schema",
    [
        True,
        False,
        3,
        None,
        {},
        {"type": "string"},
        {"type": "number", "minimum": 0, "maximum": 1},
        {"type": "integer", "minimum": 0},
        {"type": "integer", "minimum": 0, "maximum": MAX_TEXTS},
        {"type": "integer", "minimum": 0, "maximum": 10**30},
        {"type": "integer", "minimum": float("nan"), "maximum": 1},
        {"type": "array", "items": {"const": 1}},
        {"type": "array", "items": {"const": 1}, "minItems": 10**9, "maxItems": 10**9},
        {"type": "array", "items": {"enum": [1, 2]}, "maxItems": 6},
        {"enum": [{"key": "x" * 5000}]},
        {"enum": ["\ud800"]},
        {"const": 10**5000},
        {"type": "integer", "minimum": 10**5000, "maximum": 10**5000},
        {"enum": ["a"], "pattern": "b"},
        {"enum": ["a"], "not": {"const": "b"}},
        {"const": 1, "if": {}},
        {"enum": []},
        {"$ref": "#"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"const": 1}]}}},
        {"type": "object", "properties": {"next": {"$ref": "#"}}},
        {"const": 1, "allOf": [{"$ref": "#"}]},
        {"$ref": "#/$defs/missing"},
        {"$ref": "https://example.org/schema"},
    ],
)
def test_what_is_open_large_or_unknown_is_no_list(schema: Any) -> None:
    assert closed_texts(schema) is None


def test_one_of_leaves_out_what_two_branches_allow() -> None:
    assert texts({"oneOf": [{"enum": [1, 2]}, {"enum": [2, 3]}]}) == ["1", "3"]
    assert texts({"oneOf": [{"enum": [1, 2]}, {"const": True}]}) == ["1", "2", "true"]


def test_sixty_four_answers_are_still_listed() -> None:
    assert len(texts({"type": "integer", "minimum": 1, "maximum": MAX_TEXTS}) or ()) == MAX_TEXTS


def test_nesting_without_end_is_refused_in_bounded_time() -> None:
    schema: dict[str, Any] = {"const": 1}
    for _ in range(100_000):
        schema = {"anyOf": [schema]}
    assert closed_texts(schema) is None
    wide = {"$ref": "#/$defs/0", "$defs": {str(i): {"anyOf": [{"$ref": f"#/$defs/{i + 1}"}] * 4} for i in range(30)}}
    wide["$defs"]["30"] = {"const": 1}
    assert closed_texts(wide) in (None, closed_texts({"const": 1}))
