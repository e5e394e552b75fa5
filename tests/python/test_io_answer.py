"""Answers become results: every transformation, where it applies, and what it says when it cannot."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alora_cpp.errors import AnswerError
from alora_cpp.io import (
    IoConfig,
    Literal,
    Request,
    Scalar,
    likelihood_literals,
    parse_io_yaml,
    process_answer,
    rewrite_request,
)

MESSAGES = [{"role": "user", "content": "Zero. One."}, {"role": "user", "content": "Last zero. Last one."}]
DOCUMENTS = [{"doc_id": "a", "text": "D zero. D one."}, {"text": "D two."}]
REST = "sentence_boundaries: {documents: c, last_message: r, all_but_last_message: c}\n"


def config(*steps: Mapping[str, Any]) -> IoConfig:
    text = f"model: ~\nresponse_format: '{{}}'\ntransformations: {json.dumps(steps)}\n{REST}"
    return parse_io_yaml(text, source="x")


def certain(literal: Literal, values: Mapping[Scalar, float]) -> float:
    return values[literal.value]


def process(answer: Any, *steps: Mapping[str, Any]) -> Any:
    made = config(*steps)
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return process_answer(made, text, rewrite_request(made, MESSAGES, DOCUMENTS), certain)


def nest(*path: Any, field: str = "n") -> dict[str, Any]:
    return {"type": "nest", "input_path": path, "field_name": field}


def explode(*path: Any) -> dict[str, Any]:
    return {"type": "explode", "input_path": path, "target_field": "c"}


def likelihood(*path: Any, **values: float) -> dict[str, Any]:
    return {"type": "likelihood", "input_path": path, "categories_to_values": values or {"Y": 1.0, "N": 0.25}}


def decode(source: Any, *path: Any, **names: str) -> dict[str, Any]:
    return {"type": "decode_sentences", "input_path": path, "source": source, "output_names": names}


def merge(*group: str, text: str | None = None) -> dict[str, Any]:
    fields = {"begin_field": "b", "end_field": "e", "text_field": text}
    return {"type": "merge_spans", "input_path": [], "group_fields": group, **fields}


def project(retained: Any, *path: Any) -> dict[str, Any]:
    return {"type": "project", "input_path": path, "retained_fields": retained}


def unique(*fields: str) -> dict[str, Any]:
    return {"type": "drop_duplicates", "input_path": [], "target_fields": fields}


def span(begin: int, end: int, **other: Any) -> dict[str, Any]:
    return {"b": begin, "e": end, **other}


@pytest.mark.parametrize(
    ("answer", "steps", "result"),
    [
        ({"a": [None, True, 1]}, [], {"a": [None, True, 1]}),
        # Where a transformation applies.
        ("1", [nest()], {"n": 1}),
        ([1, [2]], [nest(None)], [{"n": 1}, {"n": [2]}]),
        ({"a": [1, 2], "b": [3]}, [nest("a", 1)], {"a": [1, {"n": 2}], "b": [3]}),
        ({"a": {"x": 1}, "b": {"x": 2}, "c": [0]}, [nest(None, "x")],
         {"a": {"x": {"n": 1}}, "b": {"x": {"n": 2}}, "c": [0]}),
        ({"a": 1}, [nest("b"), nest(0), nest("a", "b"), nest(None, None)], {"a": 1}),
        ({"1": "x"}, [nest(1)], {"1": "x"}),
        ("1", [nest(), nest("n", field="m")], {"n": {"m": 1}}),
        # project
        ({"a": 1, "b": 2}, [project(["b", "z"])], {"b": 2, "z": None}),
        ([{"a": 1, "b": 2}, {}], [project({"a": "x"})], [{"x": 1}, {"x": None}]),
        # explode
        ([{"a": 1, "c": [2, 3], "z": 4}, {"c": []}], [explode()], [{"a": 1, "c": 2, "z": 4}, {"a": 1, "c": 3, "z": 4}]),
        ([{"a": {"x": 1}, "c": [0, 1]}], [explode(), nest(None, "a", "x")],
         [{"a": {"x": {"n": 1}}, "c": 0}, {"a": {"x": {"n": 1}}, "c": 1}]),
        # drop_duplicates
        ([{"a": 1, "x": 1}, {"a": 2}, {"a": 1, "x": 2}], [unique("a")], [{"a": 1, "x": 2}, {"a": 2}]),
        ([{"a": [1]}, {"a": [1]}, {"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}], [unique("a")],
         [{"a": [1]}, {"a": {"y": 2, "x": 1}}]),
        ([{"a": True}, {"a": 1}, {"a": "1"}, {"a": None}], [unique("a")],
         [{"a": True}, {"a": 1}, {"a": "1"}, {"a": None}]),
        ([{"a": 1}, {"b": 1}], [unique()], [{"b": 1}]),
        # merge_spans
        ([], [merge()], []),
        ([span(5, 9), span(0, 5), span(9, 10)], [merge()], [span(0, 10)]),
        ([span(6, 9), span(0, 5)], [merge()], [span(0, 5), span(6, 9)]),
        ([span(0, 5, d="b"), span(5, 9, d="a"), span(5, 6, d="b")], [merge("d")],
         [span(5, 9, d="a"), span(0, 6, d="b")]),
        ([span(0, 5, d="a"), span(5, 9, d=None), span(6, 7, d=2), span(7, 8, d=10)], [merge("d")],
         [span(5, 9, d=None), span(6, 7, d=2), span(7, 8, d=10), span(0, 5, d="a")]),
        ([span(1, 2, t="b"), span(0, 1, t="a ")], [merge(text="t")], [span(0, 2, t="a b")]),
        ([{"s": [span(0, 1), span(1, 2)], "c": [0, 1]}], [explode(), {**merge(), "input_path": [None, "s"]}],
         [{"s": [span(0, 2)], "c": 0}, {"s": [span(0, 2)], "c": 1}]),
        # decode_sentences
        ([{"c": 1}, {"c": 0}], [decode("last_message", None, "c", text="t", begin="b", end="e")],
         [{"c": 1, "t": "Last one.", "b": 11, "e": 20}, {"c": 0, "t": "Last zero. ", "b": 0, "e": 11}]),
        ([{"c": 0}, {"c": 2}], [decode("documents", None, "c", document_id="d", text="t")],
         [{"c": 0, "d": "a", "t": "D zero. "}, {"c": 2, "d": None, "t": "D two."}]),
        ([{"c": 4}, {"c": 1}],
         [decode(["all_but_last_message", "documents"], None, "c", message_index="m", document_id="d", text="t")],
         [{"c": 4, "m": 0, "d": None, "t": "One."}, {"c": 1, "m": None, "d": "a", "t": "D one."}]),
        ({"c": 3}, [decode("all_but_last_message", "c", text="c")], {"c": "Zero. "}),
        # likelihood
        ('"N"', [likelihood()], 0.25),
        ({"a": {"b": ["N", "Y"]}}, [likelihood("a", "b", None)], {"a": {"b": [0.25, 1.0]}}),
        ({"a": "N"}, [likelihood("a"), project({"a": "p"})], {"p": 0.25}),
    ],
)  # fmt: skip
def test_results(answer: Any, steps: list[dict[str, Any]], result: Any) -> None:
    assert json.dumps(process(answer, *steps)) == json.dumps(result)


@pytest.mark.parametrize(
    ("answer", "steps", "message"),
    [
        ('{"a": ', [], "the answer '{\"a\": ' is no JSON: at character 6 found the end, expected a JSON value; maybe"),
        ("[" * 1000, [], "nested deeper"),
        ({"a": 1}, [explode()], "transformation 'explode' at the root: found a record, expected a list of records"),
        ({"x": [[{}]]}, [explode("x", None)], "'explode' at ['x'][0][0]['c']: found nothing, expected a list"),
        ([{"c": None}], [explode()], "found None, expected a list"),
        ([1], [explode()], "at [0]: found 1, expected a record"),
        ("3", [project(["a"])], "'project' at the root: found 3, expected a list of records"),
        ([[]], [project(["a"])], "at [0]: found a list, expected a record"),
        ([{"b": 1}], [unique("a")], "lacks the field 'a'"),
        ("3", [unique("a")], "expected a list of records"),
        ([span(0, 1), span(0, 2)], [merge()], "'merge_spans' at [1]: a second span begins at 0"),
        ([{"e": 1}], [merge()], "at [0]['b']: found None, expected an offset"),
        ([span(0, True)], [merge()], "found True, expected an offset"),
        ([span(0, 1)], [merge(text="t")], "at [0]['t']: found None, expected the span's text"),
        ([span(0, 1, x=1)], [merge()], "found the field 'x', expected only those of the group and the span"),
        ({"c": 2}, [decode("last_message", "c", text="t")], "found sentence 2, expected 0 to 1 in last_message"),
        ({"c": 0}, [decode("all_but_last_message", "c", text="t")], "expected 3 to 4"),
        ({"c": -1}, [decode("documents", "c", text="t")], "found sentence -1, expected 0 to 2"),
        ({"c": True}, [decode("documents", "c", text="t")], "found True, expected a sentence's number"),
        ({"c": "0"}, [decode("documents", "c", text="t")], "found '0', expected a sentence's number"),
        ({"c": [0]}, [decode("documents", "c", None, text="t")], "found a list at ['c'], expected a record to add"),
        ({"a": "Y"}, [nest("a"), likelihood("a", "n")], "at ['a']['n']: found 'Y', expected a text, number"),
        ({"a": ["Y"]}, [likelihood("a")], "found a list, expected a text, number or boolean"),
        ({"a": "Y"}, [likelihood("a"), likelihood("a")], "found 1.0 where the model wrote 'Y'"),
        ([{"c": [1]}, {"a": True, "c": []}, {"a": 1, "c": [1]}], [explode(), likelihood(1, "a")], "found 1 where"),
    ],
)  # fmt: skip
def test_errors(answer: Any, steps: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(AnswerError) as raised:
        process(answer, *steps)
    assert message in str(raised.value)


def test_no_sentences() -> None:
    made = config(decode("documents", "c", text="t"))
    with pytest.raises(AnswerError, match="expected none, as there are no sentences in documents"):
        process_answer(made, '{"c": 0}', rewrite_request(made, MESSAGES, []), certain)


def test_free_text() -> None:
    assert process_answer(IoConfig(), "Plain {words", Request(), certain) == "Plain {words"
    schema = IoConfig(response_format={"type": "string"})
    assert process_answer(schema, '"x"', Request(), certain) == "x"


def choices(*steps: Mapping[str, Any]) -> IoConfig:
    parameters = "parameters: {extra_body: {structured_outputs: {choice: ['Y', 'N']}}}\n"
    return parse_io_yaml(
        f"model: ~\nresponse_format: ~\ntransformations: {json.dumps(steps)}\n{parameters}", source="x"
    )


def test_choices_are_bare_text() -> None:
    assert process_answer(choices(), "Y", Request(), certain) == "Y"
    made = choices(likelihood(), nest())
    assert likelihood_literals(made, "N", Request()) == [(Literal((), "N", 0, 1), {"Y": 1.0, "N": 0.25})]
    assert process_answer(made, "N", Request(), certain) == {"n": 0.25}
    with pytest.raises(AnswerError, match="the answer is '\"Y\"', expected one of 'Y', 'N'"):
        process_answer(made, '"Y"', Request(), certain)


def test_likelihood_is_asked_for_each_literal() -> None:
    made = config(likelihood("b", None), nest("b"), likelihood("a", Y=2.0))
    text = '{"a": "Y", "b": ["N", "maybe"]}'
    asked: list[tuple[Literal, Mapping[Scalar, float]]] = []

    def note(literal: Literal, values: Mapping[Scalar, float]) -> float:
        asked.append((literal, values))
        return float(len(asked))

    assert process_answer(made, text, Request(), note) == {"a": 3.0, "b": {"n": [1.0, 2.0]}}
    assert asked == [
        (Literal(("b", 0), "N", 17, 20), {"Y": 1.0, "N": 0.25}),
        (Literal(("b", 1), "maybe", 22, 29), {"Y": 1.0, "N": 0.25}),
        (Literal(("a",), "Y", 6, 9), {"Y": 2.0}),
    ]
    assert likelihood_literals(made, text, Request()) == asked


def test_literals_are_found_without_what_comes_after() -> None:
    assert likelihood_literals(config(explode()), "{}", Request()) == []
    assert len(likelihood_literals(config(likelihood("a"), explode()), '{"a": "Y"}', Request())) == 1
    with pytest.raises(AnswerError):
        likelihood_literals(config(explode(), likelihood("a")), '{"a": "Y"}', Request())


def test_literals_without_doubles() -> None:
    """Where a literal's value is the literal again, a second transformation asks for it again."""
    made = parse_io_yaml(
        "model: ~\nresponse_format: ~\ntransformations:\n"
        + "- {type: likelihood, input_path: [], categories_to_values: {2: 2, 3: 3}}\n" * 2,
        source="x",
    )
    assert len(likelihood_literals(made, "2", Request())) == 1


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 6), st.sampled_from(["Y", "N", "x"])),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from("abce"), inner, max_size=4)),
    max_leaves=15,
)
paths = st.lists(st.one_of(st.none(), st.sampled_from("abce"), st.integers(0, 2)), max_size=3)
fields = st.sampled_from("abce")
steps = st.one_of(
    paths.map(lambda path: nest(*path)),
    paths.map(lambda path: explode(*path)),
    paths.map(lambda path: likelihood(*path)),
    st.builds(lambda path, kept: project(kept, *path), paths, st.lists(fields)),
    st.builds(lambda path, keys: {**unique(*keys), "input_path": path}, paths, st.lists(fields)),
    st.builds(
        lambda path, group, text: {**merge(*group, text=text), "input_path": path},
        paths,
        st.lists(fields, max_size=1),
        st.sampled_from([None, "a"]),
    ),
    st.builds(
        lambda path, source, field: decode(source, *path, field, text="t"),
        paths,
        st.sampled_from(["documents", "last_message", ["all_but_last_message", "documents"]]),
        fields,
    ),
)


@settings(max_examples=1000, deadline=None)
@given(st.one_of(values.map(json.dumps), st.text(alphabet='{}[]",:1a \\')), st.lists(steps, max_size=4))
def test_any_answer(text: str, transformations: list[dict[str, Any]]) -> None:
    """A result that is JSON, or an AnswerError; and the literals asked for are those that were foretold."""
    made = config(*transformations)
    request = rewrite_request(made, MESSAGES, DOCUMENTS)
    before = copy.deepcopy((made, request))
    asked = []

    def note(literal: Literal, values: Mapping[Scalar, float]) -> float:
        asked.append((literal, values))
        return values.get(literal.value, 0.0)

    try:
        foretold = likelihood_literals(made, text, request)
    except AnswerError:
        with pytest.raises(AnswerError):
            process_answer(made, text, request, note)
    else:
        with contextlib.suppress(AnswerError):
            json.dumps(process_answer(made, text, request, note))
        assert all(pair in foretold for pair in asked)
    assert (made, request) == before
