"""What `alora-cli show` says of an adapter's invocation and `io.yaml`, wherever they were read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from alora_cpp.cli.token_text import token_text
from alora_cpp.intrinsic import answer_labels, listed_answers
from alora_cpp.io import Parameters, parse_io_yaml


def invocation_facts(ids: Sequence[int], pieces: Sequence[str] | None) -> dict[str, Any]:
    """An invocation as ids, and as text where a vocabulary tells it.

    Args:
        ids: The tokens.
        pieces: Their entries in the base's vocabulary; None where it is not at hand.
    """
    return {"ids": list(ids), "text": None if pieces is None else token_text(pieces)}


def io_facts(text: str, *, source: str) -> dict[str, Any]:
    """What an `io.yaml` asks, what it allows as answer, and what becomes of the answer.

    Args:
        text: All of it.
        source: What to call it in messages.

    Raises:
        AdapterError: It is not as an `io.yaml` has to be.
    """
    config = parse_io_yaml(text, source=source)
    usual = Parameters()
    parameters = {field.name: getattr(config.parameters, field.name) for field in fields(Parameters)}
    return {
        "name": config.name,
        "instruction": None if config.instruction is None else config.instruction.template,
        "labels": list(answer_labels(listed_answers(config))),
        "response_format": config.response_format,
        "transformations": [step.name for step in config.transformations],
        "parameters": {name: value for name, value in parameters.items() if value != getattr(usual, name)},
        "sentence_boundaries": dict(config.sentence_boundaries),
        "docs_as_message": config.docs_as_message,
        "text": text,
    }
