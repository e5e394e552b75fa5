"""Requests are rewritten as granite-common and mellea rewrite them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alora_cpp.io import parse_io_yaml, rewrite_request
from oracle.io_oracles import ORACLES, Oracle

pytestmark = pytest.mark.oracle

NOTHING_ELSE = "model: ~\nresponse_format: ~\ntransformations: ~\n"

CONFIGS = {
    "nothing": "",
    "instruction": "instruction: Rewrite the last question.\n",
    "empty instruction": "instruction: ''\n",
    "arguments": "instruction: 'Does {last_message} meet {requirement}? {{yes}} or {{no}}, {requirement}!'\n",
    "last message": "sentence_boundaries: {last_message: r}\n",
    "documents": "sentence_boundaries: {documents: c}\n",
    "both": "sentence_boundaries: {last_message: i, documents: c}\ninstruction: 'Cite for {last_message}'\n",
    "as string": "docs_as_message: string\n",
    "as json": "docs_as_message: json\nsentence_boundaries: {documents: c, last_message: r}\n",
    "as roles": "docs_as_message: roles\nsentence_boundaries: {documents: c}\ninstruction: Go.\n",
    "not as message": "docs_as_message: ~\nsentence_boundaries: ~\ninstruction: ~\nparameters: {temperature: 0.0}\n",
}
# granite-common does not know the earlier messages as a place, and writes <0> for an empty tag.
NEWER_CONFIGS = {
    "history": "sentence_boundaries: {all_but_last_message: h}\n",
    "everywhere": "sentence_boundaries: {all_but_last_message: c, documents: c, last_message: r}\ninstruction: Go.\n",
    "empty tags": "sentence_boundaries: {all_but_last_message: '', documents: c, last_message: ''}\n",
}

CONVERSATIONS = {
    "question": [{"role": "user", "content": "Who won? And when was it?"}],
    "turns": [
        {"role": "system", "content": "Be brief. Be kind."},
        {"role": "user", "content": "Dr. Smith asked: why?  I do not know!\n\nDo you?"},
        {"role": "assistant", "content": "It was in the U.S. in 1999. \"Really.\" (Yes.) Mr. Jones said so..."},
        {"role": "user", "content": "  naïve 问题。第二句\uff01 {braces} <c0> tags?  "},
    ],
    "one sentence": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "no end here"}],
}  # fmt: skip
DOCUMENTS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "one": [{"doc_id": "1", "text": "The tower is 300 m high. It was built in 1889."}],
    "several": [
        {"text": 'Quotes " and ünïcode. Twice.\nNew line. 3.14 is pi.', "doc_id": "a", "title": "T"},
        {"title": None, "text": "Short", "doc_id": "b"},
        {"doc_id": "c c", "text": "One! Two? Three."},
    ],
}
ARGUMENTS = {"requirement": "brevity", "unused": "x"}


@pytest.fixture(scope="module", params=ORACLES)
def oracle(request: pytest.FixtureRequest) -> Oracle:
    return ORACLES[request.param]()


def _plain(item: Any) -> dict[str, Any]:
    """Without what is null by default, and not the role of it."""
    return {key: value for key, value in item.items() if value is not None}


def assert_same(
    oracle: Oracle,
    text: str,
    messages: list[dict[str, Any]],
    documents: list[dict[str, Any]],
    arguments: Mapping[str, str],
) -> None:
    theirs = oracle.rewrite(text, copy.deepcopy(messages), copy.deepcopy(documents), arguments)
    ours = rewrite_request(parse_io_yaml(text, source="io.yaml"), messages, documents, arguments)
    assert list(ours.messages) == [{"role": m.role, "content": m.content} for m in theirs.messages]
    left = (theirs.extra_body.documents if theirs.extra_body else None) or []
    assert [_plain(document) for document in ours.documents] == [_plain(d.model_dump()) for d in left]


@pytest.mark.parametrize("documents", DOCUMENTS)
@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("config", [*CONFIGS, *NEWER_CONFIGS])
def test_matrix(oracle: Oracle, config: str, conversation: str, documents: str) -> None:
    if config in NEWER_CONFIGS and oracle.name == "granite-common":
        pytest.skip("granite-common does not know this, or does it otherwise")
    text = NOTHING_ELSE + (CONFIGS | NEWER_CONFIGS)[config]
    assert_same(oracle, text, CONVERSATIONS[conversation], DOCUMENTS[documents], ARGUMENTS)


words = st.text(alphabet=st.sampled_from("ab. ?!\n\"'()1<>c0é。"), max_size=60)


@settings(max_examples=300, deadline=None)
@given(
    config=st.sampled_from([*CONFIGS.values()]),
    contents=st.lists(words, min_size=1, max_size=4),
    texts=st.lists(words, max_size=3),
)
def test_any_text(oracle: Oracle, config: str, contents: list[str], texts: list[str]) -> None:
    roles = ["user", "assistant"] * 2
    messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
    documents = [{"text": text, "doc_id": str(index)} for index, text in enumerate(texts)]
    assert_same(oracle, NOTHING_ELSE + config, messages, documents, ARGUMENTS)


def test_empty_tag_of_granite_common() -> None:
    """It tags with <0>; mellea and we take an empty tag for none."""
    granite_common = ORACLES["granite-common"]()
    text = NOTHING_ELSE + "sentence_boundaries: {last_message: ''}\n"
    theirs = granite_common.rewrite(text, [{"role": "user", "content": "Hi."}], [], {})
    assert theirs.messages[0].content == "<0> Hi."
    assert rewrite_request(parse_io_yaml(text, source="x"), [{"role": "user", "content": "Hi."}]).messages == (
        {"role": "user", "content": "Hi."},
    )
