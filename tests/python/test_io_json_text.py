"""JSON is read as `json.loads` reads it, and every literal is where it says."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alora_cpp.io.json_text import MAX_DEPTH, JsonTextError, Literal, plain, read_json

values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
)


def literals(tree: Any) -> list[Literal]:
    if isinstance(tree, Literal):
        return [tree]
    items = tree.values() if isinstance(tree, dict) else tree
    return [literal for item in items for literal in literals(item)]


def as_text(value: Any) -> str:
    """For comparing: Python takes true for 1, and 1.0 too."""
    return json.dumps(value)


@settings(deadline=None)
@given(values, st.sampled_from([None, 1, "\t"]), st.booleans(), st.sampled_from(["", " ", "\r\n\t "]))
def test_any_value(value: Any, indent: Any, ascii_only: bool, around: str) -> None:
    text = around + json.dumps(value, indent=indent, ensure_ascii=ascii_only) + around
    tree = read_json(text)
    assert as_text(plain(tree)) == as_text(json.loads(text))
    for literal in literals(tree):
        assert as_text(json.loads(text[literal.begin : literal.end])) == as_text(literal.value)
        at = tree
        for key in literal.path:
            at = at[key]
        assert at is literal


def no_constants(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is no double")
    return number


pieces = st.sampled_from(
    [
        *'{}[]:,"\\ \n',
        "1",
        "-",
        ".5",
        "e9",
        "0",
        "00",
        "true",
        "nul",
        "null",
        '"a"',
        '"a":',
        "\\u00e",
        "\\ud83d",
        "\t",
        "é",
    ]
)


@settings(max_examples=2000, deadline=None)
@example('{"a":1,}')
@example("[1,]")
@example('"\\x"')
@example('"a\nb"')
@example('"\x7f\x00"')
@example("1e999")
@example("-Infinity")
@example("NaN")
@example("\ufeff1")
@example("\u00a01")
@example("1\u0661")
@example('{"a":{"b":1},"a":2}')
@example("9" * 5000)
@example('"\\ud800"')
@example('{"\\udc00":1}')
@example('"\\ud83d\\ude00"')
@given(st.one_of(st.lists(pieces, max_size=12).map("".join), st.text()))
def test_any_text(text: str) -> None:
    try:
        expected = json.loads(text, parse_constant=no_constants, parse_float=finite)
        # A half of a surrogate pair is no text.
        json.dumps(expected, ensure_ascii=False).encode()
    except ValueError:
        with pytest.raises(JsonTextError):
            read_json(text)
    else:
        assert as_text(plain(read_json(text))) == as_text(expected)


def test_places() -> None:
    tree = read_json('{"a": ["é", 1.50], "b": null}')
    assert tree == {
        "a": [Literal(("a", 0), "é", 7, 10), Literal(("a", 1), 1.5, 12, 16)],
        "b": Literal(("b",), None, 24, 28),
    }


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_depth_is_bounded(opening: str, closing: str) -> None:
    deepest = opening * MAX_DEPTH + "1" + closing * MAX_DEPTH
    assert plain(read_json(deepest)) == json.loads(deepest)
    for levels in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(JsonTextError, match="nested deeper than 100 levels"):
            read_json(opening * levels + "1" + closing * levels)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at character 0 found the end, expected a JSON value"),
        ('{"a" 1}', "at character 5 found '1}', expected ':'"),
        ("{a: 1}", "at character 1 found 'a: 1}', expected a field name in double quotes"),
        ('{"a": 1 "b"}', "at character 8 found '\"b\"}', expected ',' or '}'"),
        ("[1 2]", "at character 3 found '2]', expected ',' or ']'"),
        ("1 2", "at character 2 found '2', expected the end of the text"),
    ],
)
def test_messages(text: str, message: str) -> None:
    with pytest.raises(JsonTextError) as raised:
        read_json(text)
    assert str(raised.value) == message
