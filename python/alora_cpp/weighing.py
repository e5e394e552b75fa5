"""Likelihoods of what an answer says, from exact probabilities of the alternatives."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from alora_cpp.branch import Branch
from alora_cpp.context import Context
from alora_cpp.conversation import common_prefix
from alora_cpp.errors import AnswerError
from alora_cpp.io import Literal, Scalar, expected_value
from alora_cpp.schema_texts import ClosedText

Values = Mapping[Scalar, float]
Likelihood = Callable[[Literal, Values], float]


def closed_alternatives(
    closed: Sequence[ClosedText], probabilities: Sequence[float], answer: str, literal: Literal, values: Values
) -> dict[Scalar, float]:
    """How likely each category is in a literal's place, given what the answer says before it.

    Args:
        closed: All answers that are allowed.
        probabilities: How likely each of them is.
        answer: The text of the one given.
        literal: A place in it.
        values: The categories, with their values.

    Returns:
        A probability for each category that is among the alternatives; they add up to 1.
    """
    weights = dict.fromkeys(values, 0.0)
    spelled = {_spelled(category): category for category in values}
    before = answer[: literal.begin]
    for one, probability in zip(closed, probabilities, strict=True):
        if one.text.startswith(before) and (there := _at(one.value, literal.path)) in spelled:
            weights[spelled[there]] += probability
    return _normalised(weights)


class Weighing:
    """Alternatives in the places of a written answer, being scored: rows queued now, probabilities after a decode."""

    def __init__(
        self,
        context: Context,
        branch: Branch,
        begin: int,
        text: str,
        literals: Sequence[tuple[Literal, Values]],
    ) -> None:
        """Queues the alternatives' rows.

        Args:
            context: The context.
            branch: The branch with the answer; it stays as it is.
            begin: The answer's first position.
            text: The answer.
            literals: Places in it, each with its categories.

        Raises:
            ContextFullError: The alternatives' rows do not fit.
        """
        self._literals = literals
        self._forks: list[Branch] = []
        queries = []
        try:
            for literal, values in literals:
                labels, shared = _continuations(context, branch.tokens[begin:], text, literal, values)
                self._forks.append(branch.fork(begin + shared))
                queries.append((self._forks[-1], labels))
            self._scoring = context.queue_scores(queries)
        except BaseException:
            self.close()
            raise

    def read(self) -> dict[Literal, dict[Scalar, float]]:
        """The probability of each category in each place; they add up to 1 for a place."""
        return {
            literal: _normalised(dict(zip(values, map(float, scores.probabilities), strict=True)))
            for (literal, values), scores in zip(self._literals, self._scoring.read(), strict=True)
        }

    def close(self) -> None:
        """Gives the forks back."""
        for fork in self._forks:
            fork.close()


def by_alternatives(alternatives: Mapping[Literal, Mapping[Scalar, float]]) -> Likelihood:
    """The likelihood of literals whose alternatives are known."""
    return lambda literal, values: expected_value(alternatives[literal], values)


def _continuations(
    context: Context, answer: Sequence[int], text: str, literal: Literal, values: Values
) -> tuple[list[tuple[int, ...]], int]:
    """Each category's tokens in the literal's place, and how many tokens of the answer come before them.

    A text is tokenized as a whole, up to the character that ends the literal, so that it does not matter how tokens lie
    across the literal's edges.
    """
    end = text[literal.end : literal.end + 1]
    spelled = [context.model.tokenize(text[: literal.begin] + _spelled(category) + end) for category in values]
    shared = min(common_prefix(answer, tokens) for tokens in spelled)
    shared = min(shared, min(map(len, spelled)) - 1)
    return [tuple(tokens[shared:]) for tokens in spelled], shared


def _spelled(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _at(value: object, path: Sequence[str | int]) -> str | None:
    for key in path:
        try:
            value = value[key]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return None
    return _spelled(value)


def _normalised(weights: Mapping[Scalar, float]) -> dict[Scalar, float]:
    total = sum(weights.values())
    if not total > 0:
        raise AnswerError(
            f"none of the categories {list(weights)} can stand where the answer has its literal; "
            "the io.yaml's response_format and its likelihood transformation do not fit"
        )
    return {category: weight / total for category, weight in weights.items()}
