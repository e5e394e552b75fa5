"""What the comparisons with granite-common and mellea share: a conversation, and an answer read by both sides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from alora_cpp.io import (
    AnswerToken,
    Literal,
    Scalar,
    approximate_likelihood,
    parse_io_yaml,
    process_answer,
    rewrite_request,
)
from oracle.io_oracles import Oracle

Messages = list[dict[str, Any]]

CONVERSATION: Messages = [
    {"role": "user", "content": "Who built it? And when?"},
    {"role": "assistant", "content": "Eiffel did. In 1889. It took two years."},
    {"role": "user", "content": "Are you sure? I am not. Tell me."},
]
DOCUMENTS: Messages = [
    {"doc_id": "a", "text": "The tower is 300 m high. It was built in 1889."},
    {"doc_id": "b", "text": "Gustave Eiffel. He was an engineer. He died in 1923."},
]


def io_yaml(transformations: list[dict[str, Any]], rest: str = "") -> str:
    return f"model: ~\nresponse_format: '{{}}'\ntransformations: {json.dumps(transformations)}\n{rest}"


def tokens_of(answer: str, size: int = 3) -> list[AnswerToken]:
    """The answer cut every few characters, each piece with made-up alternatives."""
    pieces = [answer[begin : begin + size] for begin in range(0, len(answer), size)]
    return [
        AnswerToken(piece, -0.1 * (index + 1), ((piece, -0.1), ("n", -1.5), ("ye", -2.0), ("1", -3.0), ("", -4.0)))
        for index, piece in enumerate(pieces)
    ]


def ours(text: str, answer: str, messages: Messages, documents: Messages, tokens: list[AnswerToken]) -> Any:
    config = parse_io_yaml(text, source="io.yaml")
    request = rewrite_request(config, messages, documents)

    def likelihood(literal: Literal, values: Mapping[Scalar, float]) -> float:
        return approximate_likelihood(literal, values, tokens)

    return process_answer(config, answer, request, likelihood)


def theirs(
    oracle: Oracle, text: str, answer: str, messages: Messages, documents: Messages, tokens: list[AnswerToken]
) -> Any:
    return oracle.process(text, answer, oracle.rewrite(text, messages, documents, {}), tokens)


SPANS = {"begin": "b", "end": "e", "text": "t", "document_id": "d"}
MERGE = {
    "type": "merge_spans",
    "input_path": [],
    "group_fields": ["d"],
    "begin_field": "b",
    "end_field": "e",
    "text_field": "t",
}
EXPLODE = {"type": "explode", "input_path": [], "target_field": "c"}
