"""From the text of an intrinsic's answer to its result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alora_cpp.errors import AnswerError
from alora_cpp.io.config import IoConfig
from alora_cpp.io.json_text import JsonTextError, Literal, Scalar, plain, read_json
from alora_cpp.io.likelihood import CategoryLikelihood, category_of
from alora_cpp.io.request import Request
from alora_cpp.io.transformation import Answer, Likelihood


def process_answer(config: IoConfig, text: str, request: Request, likelihood: Likelihood) -> Any:
    """Reads an answer as an `io.yaml` says.

    Args:
        config: The `io.yaml`.
        text: The answer.
        request: What was asked: sentences are decoded from it.
        likelihood: The value of a literal, given the values of its categories; asked for those of
            `likelihood_literals`.

    Returns:
        Plain JSON values; the text itself where the `io.yaml` asks for no JSON and changes nothing.

    Raises:
        AnswerError: The answer is no JSON, none of the choices, or not what a transformation expects.
    """
    tree = _read(config, text)
    answer = Answer(tree, request.sentences, likelihood)
    value = plain(tree)
    for transformation in config.transformations:
        value = transformation.apply(value, answer)
    return value


def likelihood_literals(config: IoConfig, text: str, request: Request) -> list[tuple[Literal, Mapping[Scalar, float]]]:
    """The literals whose likelihood `process_answer` will ask for, with the values of their categories.

    They are found by reading the answer as if the model had been certain of each, in the order of asking, without
    doubles.

    Raises:
        AnswerError: As for `process_answer`.
    """
    found: list[tuple[Literal, Mapping[Scalar, float]]] = []

    def note(literal: Literal, values: Mapping[Scalar, float]) -> float:
        if (literal, values) not in found:
            found.append((literal, values))
        return category_of(literal.value, values) or 0.0

    tree = _read(config, text)
    answer = Answer(tree, request.sentences, note)
    value = plain(tree)
    asking = [isinstance(transformation, CategoryLikelihood) for transformation in config.transformations]
    last = max((index for index, asks in enumerate(asking) if asks), default=-1)
    for transformation in config.transformations[: last + 1]:
        value = transformation.apply(value, answer)
    return found


def _read(config: IoConfig, text: str) -> Any:
    """The answer's tree of literals."""
    if config.choices and text not in config.choices:
        raise AnswerError(f"the answer is {text!r:.100}, expected one of {', '.join(map(repr, config.choices))}")
    if config.choices or (config.response_format is None and not config.transformations):
        return Literal((), text, 0, len(text))
    try:
        return read_json(text)
    except JsonTextError as error:
        raise AnswerError(f"the answer {text!r:.100} is no JSON: {error}; maybe it needs more tokens") from None
