"""Answers are read as granite-common and mellea read them; test_io_differences.py has the exceptions."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alora_cpp.errors import AnswerError
from alora_cpp.io import AnswerToken
from oracle.io_cases import CONVERSATION, DOCUMENTS, EXPLODE, MERGE, SPANS, Messages, io_yaml, ours, theirs, tokens_of
from oracle.io_oracles import ORACLES, Oracle

pytestmark = pytest.mark.oracle

LABEL = {"type": "likelihood", "input_path": [], "categories_to_values": {"yes": 1.0, "no": 0.0}}
PAIRS = '[{"r": 1, "c": [0, 2]}, {"r": 0, "c": []}, {"r": 1, "c": [4, 2]}, {"r": 2, "c": [3]}]'

CASES: dict[str, tuple[str, list[str]]] = {
    "no transformations": (io_yaml([]), ['{"a": [1, 2.5, true, "x"], "b": {}}', "[]", "12", ' "x" ']),
    "label": (
        io_yaml([LABEL, {"type": "nest", "input_path": [], "field_name": "p"}]),
        ['"yes"', '"no"', '"maybe"'],
    ),
    "score": (
        io_yaml(
            [
                {
                    "type": "likelihood",
                    "input_path": ["score"],
                    "categories_to_values": {str(digit): digit / 10 + 0.05 for digit in range(10)},
                },
                {"type": "project", "input_path": [], "retained_fields": {"score": "certainty"}},
            ]
        ),
        ['{"score": "7"}', '{"score":"0"}', '{"score": "7", "why": "x"}', '{"other": "7"}'],
    ),
    "numbers and booleans": (
        "model: ~\nresponse_format: ~\ntransformations:\n"
        "- {type: likelihood, input_path: [~, n], categories_to_values: {1: 0.5, 12: 2, 3.5: 1}}\n"
        "- {type: likelihood, input_path: [~, t], categories_to_values: {true: 1, false: 0}}\n",
        ['[{"n": 1, "t": true}, {"n": 12, "t": false}, {"n": 3.5, "t": true}]'],
    ),
    "wildcards": (
        io_yaml(
            [
                {**LABEL, "input_path": ["items", None, "label"]},
                {"type": "nest", "input_path": ["items", 1], "field_name": "second"},
                {"type": "nest", "input_path": [None, None, None], "field_name": "deep"},
            ]
        ),
        ['{"items": [{"label": "yes"}, {"label": "no"}, {"label": "yes"}], "other": {"x": [1]}}', '{"items": []}', "3"],
    ),
    "project": (
        io_yaml([{"type": "project", "input_path": ["rows"], "retained_fields": ["b", "a", "z"]}]),
        ['{"rows": [{"a": 1, "b": 2, "c": 3}, {}]}', '{"rows": {"a": [1]}}'],
    ),
    "explode": (
        io_yaml(
            [
                {"type": "explode", "input_path": [], "target_field": "c"},
                {"type": "nest", "input_path": [None, "c"], "field_name": "n"},
            ]
        ),
        [PAIRS, "[]", '[{"c": [[1], {"a": 1}], "d": 1}]'],
    ),
    "sentences of the last message": (
        io_yaml(
            [
                {
                    "type": "decode_sentences",
                    "input_path": [None, "r"],
                    "source": "last_message",
                    "output_names": {"begin": "b", "end": "e", "text": "t"},
                },
            ],
            "sentence_boundaries: {last_message: r}\ninstruction: Go.\n",
        ),
        ['[{"r": 0}, {"r": 2, "x": 1}, {"r": 1, "b": 7}]', "[]"],
    ),
    "sentences of documents, merged": (
        io_yaml(
            [
                {"type": "explode", "input_path": [], "target_field": "c"},
                {
                    "type": "decode_sentences",
                    "input_path": [None, "c"],
                    "source": "documents",
                    "output_names": SPANS,
                },
                {"type": "project", "input_path": [], "retained_fields": ["r", "b", "e", "t", "d"]},
                {**MERGE, "group_fields": ["r", "d"]},
            ],
            "sentence_boundaries: {documents: c, last_message: r}\n",
        ),
        [PAIRS, '[{"r": 0, "c": [4, 3, 2, 1, 0]}, {"r": 1, "c": [0, 2, 4]}]'],
    ),
    "documents as json": (
        io_yaml(
            [{"type": "decode_sentences", "input_path": ["c"], "source": "documents", "output_names": SPANS}],
            "sentence_boundaries: {documents: c}\ndocs_as_message: json\n",
        ),
        ['{"c": 0}', '{"c": 3}'],
    ),
    "documents as roles": (
        io_yaml(
            [{"type": "decode_sentences", "input_path": ["c"], "source": ["documents"], "output_names": SPANS}],
            "sentence_boundaries: {documents: c}\ndocs_as_message: roles\ninstruction: Go.\n",
        ),
        ['{"c": 4}'],
    ),
    "duplicates": (
        io_yaml(
            [
                {"type": "explode", "input_path": [], "target_field": "c"},
                {"type": "drop_duplicates", "input_path": [], "target_fields": ["r", "c"]},
            ]
        ),
        [PAIRS, '[{"r": 1, "c": [1, 1], "x": "first"}, {"r": "1", "c": [1]}, {"r": 1, "c": [1], "x": "last"}]', "[]"],
    ),
    "history and documents": (
        io_yaml(
            [
                {
                    "type": "decode_sentences",
                    "input_path": [None, "c"],
                    "source": ["documents", "all_but_last_message"],
                    "output_names": {**SPANS, "message_index": "m"},
                }
            ],
            "sentence_boundaries: {documents: c, all_but_last_message: c, last_message: r}\ninstruction: Go.\n",
        ),
        ['[{"c": 0}, {"c": 4}, {"c": 5}, {"c": 6}, {"c": 9}]'],
    ),
    "merged without text": (
        io_yaml([{**MERGE, "text_field": None}]),
        ['[{"d": "x", "b": 5, "e": 9}, {"d": "x", "b": 0, "e": 5}, {"d": "w", "b": 9, "e": 10}, {"b": 9.0, "e": 12, "d": "x"}]'],  # noqa: E501
    ),
}  # fmt: skip
# granite-common keeps every record where it should drop duplicates, and knows neither several sources nor the history.
MELLEA_ONLY = ("duplicates", "history and documents", "documents as roles")


@pytest.fixture(scope="module", params=ORACLES)
def oracle(request: pytest.FixtureRequest) -> Oracle:
    return ORACLES[request.param]()


@pytest.fixture(scope="module")
def mellea() -> Oracle:
    return ORACLES["mellea"]()


@pytest.mark.parametrize("documents", [DOCUMENTS, []], ids=["documents", "none"])
@pytest.mark.parametrize("case", CASES)
def test_matrix(oracle: Oracle, case: str, documents: Messages) -> None:
    if case in MELLEA_ONLY and oracle.name != "mellea":
        pytest.skip("granite-common does not know this, or does it wrong")
    text, answers = CASES[case]
    if not documents and "sentence_boundaries: {documents" in text:
        pytest.skip("the answers cite documents")
    for answer in answers:
        for size in (1, 2, 3, 100):
            check(oracle, text, answer, documents, tokens_of(answer, size))


def check(oracle: Oracle, text: str, answer: str, documents: Messages, tokens: list[AnswerToken]) -> None:
    """Both give the same result, or both fail; we by our own error."""
    try:
        expected = theirs(oracle, text, answer, CONVERSATION, documents, tokens)
    except (ValueError, TypeError, LookupError, AttributeError, ZeroDivisionError):
        with pytest.raises(AnswerError):
            ours(text, answer, CONVERSATION, documents, tokens)
    else:
        # As text: fields in the same order, floats to the last bit, true apart from 1.
        assert json.dumps(ours(text, answer, CONVERSATION, documents, tokens)) == json.dumps(expected)


labels = st.sampled_from(["yes", "no", "yesterday", "y", "none", "Yes", "x"])
pieces = st.sampled_from(["", "y", "ye", "yes", '"yes', "n", "no", 'no"', '"', "x", "Y", " yes"])
logprobs = st.one_of(st.floats(-20, 0), st.just(-math.inf), st.just(-9999.0))
alternatives = st.lists(st.tuples(pieces, logprobs), max_size=10).map(tuple)


@settings(max_examples=500, deadline=None)
@example(label="yes", cuts=[0], tops=[(("n", -9999.0),)], own=-9999.0)
@example(label="yes", cuts=[], tops=[()], own=-1.0)
@given(
    label=labels,
    cuts=st.lists(st.integers(0, 20)),
    tops=st.lists(alternatives, min_size=1, max_size=4),
    own=logprobs,
)
def test_any_tokens(
    oracle: Oracle, label: str, cuts: list[int], tops: list[tuple[tuple[str, float], ...]], own: float
) -> None:
    """The top-10 approximation, whatever the tokenization and the alternatives."""
    answer = f'{{"l": "{label}"}}'
    ends = [*sorted(min(cut, len(answer)) for cut in cuts), len(answer)]
    texts = [answer[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    tokens = [AnswerToken(text, own, tops[index % len(tops)]) for index, text in enumerate(texts)]
    check(oracle, io_yaml([{**LABEL, "input_path": ["l"]}]), answer, [], tokens)


# Without null, true as a number, and digits in names: see the differences.
values = st.recursive(
    st.one_of(st.integers(-3, 5), st.floats(-9, 9).map(lambda x: x + 0.25), st.sampled_from("abc")),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from("abcd"), inner, max_size=4)),
    max_leaves=12,
)
fields = st.sampled_from("abcd")
paths = st.lists(st.one_of(st.none(), fields, st.integers(0, 2)), max_size=3)
rules = st.one_of(
    st.fixed_dictionaries({"type": st.just("nest"), "input_path": paths, "field_name": fields}),
    st.fixed_dictionaries({"type": st.just("explode"), "input_path": paths, "target_field": fields}),
    st.fixed_dictionaries(
        {
            "type": st.just("project"),
            "input_path": paths,
            "retained_fields": st.one_of(st.lists(fields, min_size=1), st.dictionaries(fields, fields, min_size=1)),
        }
    ),
)


@settings(max_examples=300, deadline=None)
@given(value=values, transformations=st.lists(rules, max_size=2))
def test_any_value(oracle: Oracle, value: Any, transformations: list[dict[str, Any]]) -> None:
    check(oracle, io_yaml(transformations), json.dumps(value), [], [])


citations = st.lists(
    st.fixed_dictionaries({"r": st.integers(0, 3), "c": st.lists(st.integers(0, 5), max_size=5)}), max_size=4
)
STEPS = (
    {
        "type": "decode_sentences",
        "input_path": [None, "r"],
        "source": "last_message",
        "output_names": {"begin": "rb", "end": "re", "text": "rt"},
    },
    {"type": "decode_sentences", "input_path": [None, "c"], "source": "documents", "output_names": SPANS},
    {"type": "project", "input_path": [], "retained_fields": {"rt": "r", "b": "b", "e": "e", "t": "t", "d": "d"}},
    {"type": "project", "input_path": [], "retained_fields": ["d", "b", "e", "t"]},
    {**MERGE, "group_fields": ["r", "d"]},
    MERGE,
)


@settings(max_examples=300, deadline=None)
@given(value=citations, taken=st.lists(st.booleans(), min_size=len(STEPS), max_size=len(STEPS)))
@example(value=[{"r": 1, "c": [4, 2, 3, 0]}, {"r": 0, "c": [1]}], taken=[True, True, True, False, True, False])
def test_any_citations(oracle: Oracle, value: Any, taken: list[bool]) -> None:
    steps = [step for step, take in zip(STEPS, taken, strict=True) if take]
    text = io_yaml([EXPLODE, *steps], "sentence_boundaries: {documents: c, last_message: r}\n")
    check(oracle, text, json.dumps(value), DOCUMENTS, [])


@settings(max_examples=200, deadline=None)
@given(value=citations, by=st.lists(st.sampled_from("rc"), max_size=2))
def test_any_duplicates(mellea: Oracle, value: Any, by: list[str]) -> None:
    text = io_yaml([EXPLODE, {"type": "drop_duplicates", "input_path": [], "target_fields": by}])
    check(mellea, text, json.dumps(value), [], [])
