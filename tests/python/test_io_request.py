"""Requests are rewritten in the order and the words that adapters were trained with, and nothing given is changed."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alora_cpp.errors import ArgumentError
from alora_cpp.io import IoConfig, Request, parse_io_yaml, rewrite_request
from alora_cpp.io.sentences import Sentence

MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]},
    {"role": "user", "content": "Who? Me."},
    {"role": "user", "content": "When was it? Say.", "name": "Ann"},
]
DOCUMENTS: list[dict[str, Any]] = [
    {"source": "web", "doc_id": "a", "text": "One. Two."},
    {"text": "Three é.", "title": "T"},
]


def config(rest: str) -> IoConfig:
    return parse_io_yaml("model: ~\nresponse_format: ~\ntransformations: ~\n" + rest, source="x")


def rewrite(rest: str, messages: Any = MESSAGES, documents: Any = DOCUMENTS, **arguments: object) -> Request:
    return rewrite_request(config(rest), messages, documents, arguments)


def contents(request: Request) -> list[Any]:
    return [message["content"] for message in request.messages]


def test_nothing_asked_for_changes_nothing() -> None:
    request = rewrite("")
    assert request == Request(tuple(MESSAGES), tuple(DOCUMENTS))
    assert rewrite_request(IoConfig(), []) == Request()


def test_tags() -> None:
    request = rewrite("sentence_boundaries: {last_message: r, documents: c, all_but_last_message: h}")
    assert contents(request) == ["<h3> Be brief.", None, "<h4> Who? <h5> Me.", "<r0> When was it? <r1> Say."]
    assert request.messages[3] == {"role": "user", "content": "<r0> When was it? <r1> Say.", "name": "Ann"}
    assert request.documents == (
        {"source": "web", "doc_id": "a", "text": "<c0> One. <c1> Two."},
        {"text": "<c2> Three é.", "title": "T"},
    )
    assert request.sentences["documents"][1:] == (
        Sentence(1, "Two.", 5, 9, document_id="a"),
        Sentence(2, "Three é.", 0, 8),
    )
    assert request.sentences["all_but_last_message"][1] == Sentence(4, "Who? ", 0, 5, message_index=2)
    assert request.sentences["last_message"][1] == Sentence(1, "Say.", 13, 17)
    assert request.n_instructions == 0


def test_documents_as_messages() -> None:
    documents = [{"title": None, "text": "One. Two.", "doc_id": "a"}, {"text": "é", "x": 1}]
    (message, last) = rewrite(
        "docs_as_message: json\nsentence_boundaries: {documents: c}", MESSAGES[3:], documents
    ).messages
    assert message["role"] == "user"
    assert message["content"] == json.dumps(
        [{"text": "<c0> One. <c1> Two.", "title": None, "doc_id": "a"}, {"text": "<c2> é"}]
    )
    assert last == MESSAGES[3]
    request = rewrite("docs_as_message: string", MESSAGES[3:], documents)
    assert request.messages[0]["content"] == (
        "You have access to the following documents:\n\n[Document a]\nOne. Two.\n\n[Document None]\né"
    )
    assert request.documents == ()
    (roles, _) = rewrite("docs_as_message: roles", MESSAGES[3:], documents[:1]).messages
    assert roles == {"role": "document a", "content": "One. Two."}
    assert rewrite("docs_as_message: string", documents=[]).messages == tuple(MESSAGES)


def test_instruction() -> None:
    request = rewrite(
        "sentence_boundaries: {last_message: r}\ninstruction: 'Does {last_message} {n} {{x}} {n}?'",
        last_message="not this",
        n=1.5,
        other=object(),
    )
    assert request.messages[-1] == {
        "role": "user",
        "content": "Does <r0> When was it? <r1> Say. 1.5 {x} 1.5?",
    }
    assert request.n_instructions == 1
    assert len(request.messages) == len(MESSAGES) + 1


def test_inserted_text_is_no_template() -> None:
    request = rewrite("instruction: '{last_message}'", [{"role": "user", "content": "{a} {last_message} {0}"}])
    assert contents(request)[-1] == "{a} {last_message} {0}"


@pytest.mark.parametrize(
    ("rest", "messages", "documents", "message"),
    [
        ("instruction: '{rule} {b} {a}'", MESSAGES, [], "needs rule, b; given are a, last_message"),
        ("instruction: '{last_message}'", [], [], "needs last_message; given are a"),
        ("instruction: '{last_message}'", MESSAGES[1:2], [], "needs last_message"),
        ("sentence_boundaries: {last_message: r}", [], [], "the conversation has none"),
        ("docs_as_message: roles", [], [{"text": "x"}], "document 0 has no doc_id"),
        ("", [], [{"text": "x"}, {"title": "x"}], "document 1 has no text"),
        ("", [], [{"text": None}], "document 0 has no text"),
        ("", [], ["text"], "document 0 has no text"),
        ("", [], [{"text": "x", "doc_id": 3}], "document 0 has the doc_id 3, expected a text"),
        ("", [], [{"text": "x", "title": []}], "document 0 has the title"),
    ],
)
def test_wrong(rest: str, messages: Any, documents: Any, message: str) -> None:
    with pytest.raises(ArgumentError) as raised:
        rewrite(rest, messages, documents, a="x")
    assert message in str(raised.value)


def test_wrong_argument() -> None:
    with pytest.raises(ArgumentError, match="argument 'rule' is of type list, expected a text or a number"):
        rewrite("instruction: '{rule}'", rule=["x"])


texts = st.one_of(
    st.none(), st.text(alphabet="ab. !?\n<c0>{}é", max_size=30), st.just([{"type": "text", "text": "x. y."}])
)
messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": texts}), max_size=4
)
documents = st.lists(
    st.fixed_dictionaries({"text": st.text(alphabet="ab. ", max_size=20)}, optional={"doc_id": st.text(max_size=3)}),
    max_size=3,
)
configs = st.lists(
    st.sampled_from(
        [
            "instruction: 'a {last_message} {rule}'\n",
            "docs_as_message: json\n",
            "sentence_boundaries: {documents: c, all_but_last_message: c, last_message: r}\n",
            "sentence_boundaries: {all_but_last_message: c}\n",
        ]
    ),
    unique_by=lambda line: line.split(":")[0],
).map("".join)


@settings(deadline=None)
@given(configs, messages, documents)
def test_never_changes_what_is_given(rest: str, messages: Any, documents: Any) -> None:
    before = copy.deepcopy((messages, documents))
    arguments = {"rule": "x"}
    with contextlib.suppress(ArgumentError):
        request = rewrite_request(config(rest), messages, documents, arguments)
        for item in (*request.messages, *request.documents):
            item["role"] = "changed"
    assert (messages, documents) == before
    assert arguments == {"rule": "x"}
