"""Labelled conversations: what is read, and that bad lines are told by file, line and reason."""

from __future__ import annotations

import io
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alora_cpp import AloraError
from alora_cpp.labelled_data import DataError, LabelledExample, read_labelled_data

MESSAGES = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi\u2028there"}]
LEAST: dict[str, Any] = {"messages": MESSAGES, "completion": "N"}


def write(path: Path, *lines: Any) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    path.write_bytes("\n".join(texts).encode())
    return path


def refused(tmp_path: Path, *lines: Any) -> str:
    with pytest.raises(DataError) as caught:
        read_labelled_data(write(tmp_path / "bad.jsonl", *lines))
    assert isinstance(caught.value, AloraError)
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_everything_that_a_line_can_say(tmp_path: Path) -> None:
    documents = [{"title": "A", "text": "B", "doc_id": "7"}, {"text": "C"}, "D"]
    full = {**LEAST, "documents": documents, "origin": "real", "correct": False, "weight": 2}
    file = write(tmp_path / "data.jsonl", LEAST, "", full, "  ", {**LEAST, "documents": None, "correct": None})
    least = LabelledExample(MESSAGES, "N", where=f"{file}, line 1")
    assert least == read_labelled_data(file)[0]
    assert (least.documents, least.origin, least.correct, least.weight) == ((), None, None, 1.0)
    second, third = read_labelled_data(str(file))[1:]
    assert second == LabelledExample(
        MESSAGES, "N", [*documents[:2], {"text": "D"}], "real", False, 2.0, f"{file}, line 3"
    )
    assert isinstance(second.weight, float)
    assert third == LabelledExample(MESSAGES, "N", where=f"{file}, line 5")


def test_several_files_windows_line_ends_and_a_byte_order_mark(tmp_path: Path) -> None:
    one = tmp_path / "one.jsonl"
    one.write_bytes(b"\xef\xbb\xbf" + json.dumps(LEAST).encode() + b"\r\n" + json.dumps(LEAST).encode() + b"\r\n")
    other = write(tmp_path / "other.jsonl", {**LEAST, "completion": "Y"})
    examples = read_labelled_data([one, str(other)])
    assert [example.completion for example in examples] == ["N", "N", "Y"]
    assert [example.where for example in examples] == [f"{one}, line 1", f"{one}, line 2", f"{other}, line 1"]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps(LEAST) + '\n{"completion": 1}'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    with pytest.raises(DataError, match=r"^standard input, line 2: has no 'messages'"):
        read_labelled_data("-")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "is no JSON: Expecting property name enclosed in double quotes at character 2"),
        ("[]", "is []; expected a JSON object with 'messages' and 'completion'"),
        ("[" * 100_000, "nested too deeply"),
        ('{"messages": ' + "1" * 5000 + "}", "is no JSON that can be read"),
        ({"completion": "Y"}, "has no 'messages'"),
        ({"messages": MESSAGES}, "has no 'completion'"),
        ({**LEAST, "document": []}, "has the key \"document\"; did you mean 'documents'?"),
        ({**LEAST, "label": "Y"}, "has the key \"label\"; expected 'messages', 'completion',"),
        ('{"completion": "Y", "completion": "N"}', 'has the key "completion" more than once'),
        ({**LEAST, "messages": "Hello"}, "'messages' is \"Hello\", expected a list"),
        ({**LEAST, "messages": []}, "'messages' is empty"),
        ({**LEAST, "messages": None}, "'messages' is null, expected a list"),
        ({**LEAST, "messages": [*MESSAGES, "Hello"]}, 'message 3 is "Hello", expected an object with'),
        ({**LEAST, "messages": [{"role": "user"}]}, 'message 1 is {"role": "user"}, expected an object with'),
        ({**LEAST, "messages": [{"role": "", "content": ""}]}, "message 1 has an empty 'role'"),
        ({**LEAST, "messages": [{"role": "user", "content": 7}]}, "expected an object with 'role' and 'content'"),
        ({**LEAST, "completion": " "}, "'completion' is \" \", expected a text that is not empty"),
        ({**LEAST, "completion": 5}, "'completion' is 5"),
        ({**LEAST, "completion": None}, "'completion' is null"),
        ({**LEAST, "documents": {"text": "x"}}, '\'documents\' is {"text": "x"}, expected a list'),
        ({**LEAST, "documents": [{"title": "x"}]}, 'document 1 is {"title": "x"}, expected an object with \'text\''),
        ({**LEAST, "documents": [{"text": "x", "title": 1}]}, "document 1 has the 'title' 1, expected text"),
        ({**LEAST, "origin": ""}, "'origin' is \"\""),
        ({**LEAST, "correct": 1}, "'correct' is 1, expected true or false"),
        ({**LEAST, "weight": 0}, "'weight' is 0, expected a number above 0"),
        ({**LEAST, "weight": True}, "'weight' is true"),
        ('{"messages": [{"role": "user", "content": "x"}], "completion": "Y", "weight": NaN}', "'weight' is NaN"),
        ('{"messages": [{"role": "user", "content": "x"}], "completion": "Y", "weight": 1e999}', "'weight' is Inf"),
        ('{"messages": [{"role": "user", "content": "\\ud800"}], "completion": "Y"}', "half of a surrogate pair"),
    ],
)
def test_bad_lines(tmp_path: Path, line: Any, reason: str) -> None:
    message = refused(tmp_path, LEAST, line)
    assert message.startswith("bad.jsonl, line 2: ")
    assert reason in message
    assert "\n" not in message
    assert len(message) < 400


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "bytes.jsonl"
    file.write_bytes(json.dumps(LEAST).encode() + b'\n{"a": "\xff"}\n')
    with pytest.raises(DataError, match=r"bytes\.jsonl, line 2: is not UTF-8: invalid start byte at byte 7"):
        read_labelled_data(file)


def test_all_bad_lines_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    one = write(tmp_path / "one.jsonl", "?", LEAST, *["!"] * 22)
    empty = write(tmp_path / "empty.jsonl", "", " ")
    with pytest.raises(DataError) as caught:
        read_labelled_data([one, empty])
    lines = str(caught.value).splitlines()
    assert [line.partition(": ")[0] for line in lines[:3]] == [f"{one}, line {n}" for n in (1, 3, 4)]
    assert len(lines) == 21
    assert lines[-1] == "and 4 more lines"
    with pytest.raises(DataError, match=r"^.*empty\.jsonl has no examples; expected a JSON object with"):
        read_labelled_data(empty)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl"):
        read_labelled_data(tmp_path / "none.jsonl")


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_KEYS = st.sampled_from(["messages", "completion", "documents", "origin", "correct", "weight"])


@given(st.dictionaries(_KEYS, _JSON, min_size=1))
def test_any_values_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any]) -> None:
    file = tmp_path_factory.getbasetemp() / "any.jsonl"
    file.write_text(json.dumps({**LEAST, **value}) + "\n")
    with suppress(DataError):
        (example,) = read_labelled_data(file)
        assert example.messages
        assert example.completion.strip()
        assert example.weight > 0
