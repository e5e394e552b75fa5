"""The transformation `likelihood`: a label becomes the value to be expected, given what else it could have been."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alora_cpp.errors import AnswerError
from alora_cpp.io.json_text import Literal, Path, Scalar
from alora_cpp.io.transformation import Answer, PathPattern, Transformation, show, show_path, value_at
from alora_cpp.io.yaml_text import Setting


@dataclass(frozen=True)
class CategoryLikelihood(Transformation):
    """Replaces a literal by its expected value.

    Attributes:
        categories_to_values: What the literal can say, and a number for each.
    """

    categories_to_values: Mapping[Scalar, float]

    name = "likelihood"
    required = ("categories_to_values",)

    @classmethod
    def parse(cls, input_path: PathPattern, parameters: Mapping[str, Setting]) -> CategoryLikelihood:
        """Reads `categories_to_values`."""
        setting = parameters["categories_to_values"]
        values = setting.mapping("a mapping of labels to numbers")
        if not values:
            raise setting.error("is empty, expected labels and their numbers")
        for category, value in values.items():
            if category is None or (isinstance(category, float) and not math.isfinite(category)):
                raise value.error(f"is for the label {category}, expected a text, number or boolean; put it in quotes")
        return cls(input_path, {category: value.number() for category, value in values.items()})

    def transform(self, value: Any, path: Path, answer: Answer) -> float:
        """Asks for the literal's value, if it still is what the model wrote."""
        try:
            literal = value_at(answer.tree, path)
        except LookupError:
            literal = None
        if not isinstance(literal, Literal):
            raise self.error(
                path, f"found {show(value)}, expected a text, number or boolean that the model wrote there"
            )
        if not same(value, literal.value):
            raise self.error(
                path,
                f"found {show(value)} where the model wrote {show(literal.value)}: "
                "what an earlier transformation changed has no likelihood any more",
            )
        return answer.likelihood(literal, self.categories_to_values)


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal; for Python, true and 1 are."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def category_of(label: Scalar, values: Mapping[Scalar, float]) -> float | None:
    """The value of a label, told apart from labels that are equal for Python only; None where it has none."""
    return next((value for category, value in values.items() if same(category, label)), None)


def expected_value(probabilities: Mapping[Scalar, float], values: Mapping[Scalar, float]) -> float:
    """The mean of the values by probability, over the labels that have a value.

    Args:
        probabilities: Labels and how probable they are; they need not add up to 1.
        values: Labels and their numbers.

    Raises:
        AnswerError: No label with a value has any probability.
    """
    known = [(p, value) for label, p in probabilities.items() if (value := category_of(label, values)) is not None]
    total = math.fsum(p for p, _ in known)
    if not total > 0:
        raise AnswerError(
            f"none of the labels {', '.join(map(repr, probabilities))} has both a probability and a value; "
            f"values are there for {', '.join(map(repr, values))}"
        )
    return math.fsum(p * value for p, value in known) / total


@dataclass(frozen=True)
class AnswerToken:
    """A token of an answer, as servers of OpenAI's interface report it.

    Attributes:
        text: The token's text.
        logprob: Its log-probability.
        top: The most probable tokens in its place, with theirs.
    """

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


def approximate_likelihood(literal: Literal, values: Mapping[Scalar, float], tokens: Sequence[AnswerToken]) -> float:
    """What granite-common and mellea take for a literal's expected value.

    They look at one token only, the literal's first, and take each alternative to it for the first category that begins
    with it. See docs/io_yaml.md for what that misses.

    Args:
        literal: The literal.
        values: Categories and their numbers, in the order of the `io.yaml`.
        tokens: The tokens of the answer; their texts make it up.

    Raises:
        AnswerError: No token begins where the literal does, or all have probability zero.
    """
    # Theirs is Python's equality, in which true is 1.
    begin = literal.begin + _is_quoted(literal)
    begins: dict[int, int] = {}
    offset = 0
    for index, token in enumerate(tokens):
        begins[offset] = index
        offset += len(token.text)
    if begin not in begins:
        before = [place for place in begins if place < begin]
        if before and tokens[begins[max(before)]].text.endswith(json.dumps(literal.value)) and literal.value in values:
            return values[literal.value]
        raise AnswerError(
            f"the answer's {literal.value!r} at {show_path(literal.path)} begins inside a token, at character {begin}: "
            "the approximation cannot tell its likelihood"
        )
    first = tokens[begins[begin]]
    weighted = [(math.exp(first.logprob), values[literal.value])] if literal.value in values else []
    for text, logprob in first.top:
        if text == first.text:
            continue
        category = next((category for category in values if str(category).startswith(text)), None)
        if category is not None:
            weighted.append((math.exp(logprob), values[category]))
    if not weighted:
        return 0.0
    total = sum(weight for weight, _ in weighted)
    if total == 0:
        raise AnswerError(f"all tokens at character {begin} of the answer have probability zero")
    return sum(weight / total * value for weight, value in weighted)


def _is_quoted(literal: Literal) -> bool:
    """Whether it is a JSON string; one of a closed set of choices is a bare text."""
    return isinstance(literal.value, str) and literal.end - literal.begin > len(literal.value)
