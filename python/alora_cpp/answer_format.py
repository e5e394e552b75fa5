"""How an intrinsic's answer is read: one of a closed set of labels, with values for them, or free text.

Reads what an adapter's `io.yaml` says about that: `response_format` as an enumeration of strings, and the `likelihood`
transformation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from alora_cpp.errors import AdapterError


@dataclass(frozen=True)
class AnswerFormat:
    """What an intrinsic may answer.

    Attributes:
        labels: The closed set of answers; empty for free text.
        values: A number for each label, of which the verdict's value is the expectation; may be empty.
        max_tokens: Longest free answer.
    """

    labels: tuple[str, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)
    max_tokens: int = 256


def parse_answer_format(text: str | None, adapter: str) -> AnswerFormat:
    """Reads the answer's part of an `io.yaml`.

    Args:
        text: The file's text; None gives free text.
        adapter: The adapter's name, for messages.

    Raises:
        AdapterError: It is no YAML mapping, or asks for a kind of answer that cannot be read yet.
    """
    if text is None:
        return AnswerFormat()
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise AdapterError(f"the io.yaml of adapter '{adapter}' is no valid YAML: {error}") from None
    if not isinstance(config, dict):
        raise AdapterError(f"the io.yaml of adapter '{adapter}' is a {type(config).__name__}, expected a mapping")
    for key in ("instruction", "sentence_boundaries", "docs_as_message"):
        if config.get(key):
            raise AdapterError(f"the io.yaml of adapter '{adapter}' uses '{key}', which this version cannot do yet")
    parameters = config.get("parameters") or {}
    return AnswerFormat(
        labels=_labels(config.get("response_format"), adapter),
        values=_values(config.get("transformations") or [], adapter),
        max_tokens=int(parameters.get("max_completion_tokens", AnswerFormat.max_tokens)),
    )


def _labels(response_format: Any, adapter: str) -> tuple[str, ...]:
    if response_format is None:
        return ()
    try:
        schema = json.loads(response_format) if isinstance(response_format, str) else response_format
        labels = schema["enum"]
    except (json.JSONDecodeError, KeyError, TypeError):
        labels = None
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise AdapterError(
            f"the io.yaml of adapter '{adapter}' has response_format {response_format!r}; "
            "this version reads an enumeration of strings, or null"
        )
    return tuple(labels)


def _values(transformations: Any, adapter: str) -> dict[str, float]:
    values: dict[str, float] = {}
    for transformation in transformations:
        kind = transformation.get("type") if isinstance(transformation, dict) else transformation
        if kind != "likelihood":
            raise AdapterError(
                f"the io.yaml of adapter '{adapter}' has the transformation {kind!r}; this version knows 'likelihood'"
            )
        categories = transformation.get("categories_to_values") or {}
        values.update({str(label): float(value) for label, value in categories.items()})
    return values
