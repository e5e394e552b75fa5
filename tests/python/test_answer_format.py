"""What an adapter's io.yaml says about its answer."""

from __future__ import annotations

import pytest

from alora_cpp import AdapterError
from alora_cpp.answer_format import AnswerFormat, parse_answer_format


def test_labels_and_values() -> None:
    answer = parse_answer_format(
        """
        model: null
        response_format: '{"type": "string", "enum": ["Y", "N"]}'
        transformations:
          - type: likelihood
            categories_to_values: {"Y": 1.0, "N": 0.0}
        parameters: {max_completion_tokens: 1}
        """,
        "safety",
    )
    assert answer == AnswerFormat(labels=("Y", "N"), values={"Y": 1.0, "N": 0.0}, max_tokens=1)


def test_none_is_free_text() -> None:
    assert parse_answer_format(None, "x") == AnswerFormat()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: [", "no valid YAML"),
        ("- 1", "is a list, expected a mapping"),
        ("instruction: hello", "'instruction'"),
        ('response_format: \'{"type": "object"}\'', "response_format"),
        ("response_format: nonsense", "response_format"),
        ("response_format: null\ntransformations: [{type: nest}]", "'nest'"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(text: str, found: str) -> None:
    with pytest.raises(AdapterError, match="'safety'") as caught:
        parse_answer_format(text, "safety")
    assert found in str(caught.value)
