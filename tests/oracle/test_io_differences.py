"""What we read, or refuse, otherwise than granite-common and mellea, on purpose; docs/io_yaml.md tells users."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from alora_cpp.errors import AdapterError, AloraError, AnswerError
from oracle.io_cases import CONVERSATION, DOCUMENTS, EXPLODE, MERGE, io_yaml, ours, theirs
from oracle.io_oracles import ORACLES, Oracle

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module", params=ORACLES)
def oracle(request: pytest.FixtureRequest) -> Oracle:
    return ORACLES[request.param]()


@dataclass(frozen=True)
class Difference:
    """A case that we read, or refuse, otherwise on purpose."""

    text: str
    answer: str
    ours: Any
    theirs: Any
    oracles: tuple[str, ...] = tuple(ORACLES)


def decode(source: Any, outputs: Mapping[str, str], rest: str) -> str:
    step = {"type": "decode_sentences", "input_path": ["c"], "source": source, "output_names": outputs}
    return io_yaml([step], rest)


TAG_ALL = "sentence_boundaries: {documents: c, last_message: r, all_but_last_message: h}\n"
TAG_BOTH = "sentence_boundaries: {documents: c, last_message: r}\n"
TEXT = {"text": "t"}

DIFFERENCES = {
    "drop_duplicates of granite-common compares generators, which never are equal": Difference(
        io_yaml([{"type": "drop_duplicates", "input_path": [], "target_fields": ["a"]}]),
        '[{"a": 1}, {"a": 1}]',
        [{"a": 1}],
        [{"a": 1}, {"a": 1}],
        ("granite-common",),
    ),
    "their reader takes digits in the first string for numbers": Difference(
        io_yaml([]), '{"score1": 2}', {"score1": 2}, ValueError
    ),
    "their reader has no null": Difference(io_yaml([]), '{"a": null}', {"a": None}, ValueError),
    "a number beyond a double": Difference(io_yaml([]), '{"a": 1e999}', AnswerError, {"a": float("inf")}),
    "a negative number is no sentence; Python counts from the end": Difference(
        decode("documents", TEXT, TAG_BOTH), '{"c": -1}', AnswerError, {"c": -1, "t": "He died in 1923."}
    ),
    "true is no number": Difference(
        decode("documents", {"document_id": "d"}, TAG_BOTH), '{"c": true}', AnswerError, {"c": True, "d": "a"}
    ),
    "the history alone, where documents have tags too": Difference(
        decode("all_but_last_message", TEXT, TAG_ALL),
        '{"c": 5}',
        {"c": 5, "t": "Who built it? "},
        ValueError,
        ("mellea",),
    ),
    "the last message's numbers mixed with others, which cannot be told apart": Difference(
        decode(["last_message", "documents"], TEXT, TAG_ALL), '{"c": 0}', AdapterError, ValueError, ("mellea",)
    ),
    "documents as string": Difference(
        decode("documents", TEXT, TAG_BOTH + "docs_as_message: string\n"),
        '{"c": 2}',
        {"c": 2, "t": "Gustave Eiffel. "},
        ValueError,
    ),
    "the message's index in the conversation, not in the rewritten one": Difference(
        decode("all_but_last_message", {"message_index": "m"}, TAG_ALL + "docs_as_message: json\n"),
        '{"c": 7}',
        {"c": 7, "m": 1},
        ValueError,
        ("mellea",),
    ),
    "an item of several records is changed once in each, not all in one": Difference(
        io_yaml([EXPLODE, {"type": "nest", "input_path": [None, "a", "x"], "field_name": "n"}]),
        '[{"a": {"x": "y"}, "c": ["u", "v"]}]',
        [{"a": {"x": {"n": "y"}}, "c": "u"}, {"a": {"x": {"n": "y"}}, "c": "v"}],
        [{"a": {"x": {"n": {"n": "y"}}}, "c": "u"}, {"a": {"x": {"n": {"n": "y"}}}, "c": "v"}],
    ),
    "groups of different types are sorted, not compared": Difference(
        io_yaml([{**MERGE, "text_field": None}]),
        '[{"d": "x", "b": 0, "e": 1}, {"d": 1, "b": 0, "e": 1}]',
        [{"d": 1, "b": 0, "e": 1}, {"d": "x", "b": 0, "e": 1}],
        TypeError,
    ),
    "an answer as it is, where the io.yaml asks for nothing": Difference(
        "model: ~\nresponse_format: ~\ntransformations: ~\n", "Plain words.", "Plain words.", ValueError
    ),
}


@pytest.mark.parametrize("case", DIFFERENCES)
def test_differs(oracle: Oracle, case: str) -> None:
    difference = DIFFERENCES[case]
    if oracle.name not in difference.oracles:
        pytest.skip("this one reads it as we do, or does not know it")
    for read, expected in ((ours, difference.ours), (lambda *rest: theirs(oracle, *rest), difference.theirs)):
        case_of = (difference.text, difference.answer, CONVERSATION, DOCUMENTS, [])
        if isinstance(expected, type):
            with pytest.raises(expected) as raised:
                read(*case_of)
            assert isinstance(raised.value, AloraError) == (read is ours)
        else:
            assert json.dumps(read(*case_of)) == json.dumps(expected)


def test_differs_on_tags_in_the_conversation(oracle: Oracle) -> None:
    """A user who writes tags shifts what they decode; we decode the sentences that were tagged."""
    text = decode("last_message", TEXT, "sentence_boundaries: {last_message: r}\n")
    messages = [{"role": "user", "content": "One <r1> is a trap. Two."}]
    assert ours(text, '{"c": 1}', messages, [], []) == {"c": 1, "t": "Two."}
    assert theirs(oracle, text, '{"c": 1}', messages, [], []) == {"c": 1, "t": "is a trap. <r1> Two."}
