"""Likelihoods of what an answer says, from exact probabilities of the alternatives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from alora_cpp.branch import Branch
from alora_cpp.chat.conversation import common_prefix
from alora_cpp.chat.forking import fork_at
from alora_cpp.chat.label_spelling import LabelSpelling, spelled
from alora_cpp.constraint.schema_texts import ClosedText
from alora_cpp.context import Context
from alora_cpp.errors import AnswerError
from alora_cpp.intrinsic import Constraint
from alora_cpp.io import Literal, Scalar, expected_value

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
    categories = {spelled(category): category for category in values}
    before = answer[: literal.begin]
    for one, probability in zip(closed, probabilities, strict=True):
        if one.text.startswith(before) and (there := _at(one.value, literal.path)) in categories:
            weights[categories[there]] += probability
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
        constraint: Constraint | None,
        base: Branch,
    ) -> None:
        """Queues the alternatives' rows.

        Args:
            context: The context.
            branch: The branch with the answer; it stays as it is.
            begin: The answer's first position.
            text: The answer.
            literals: Places in it, each with its categories.
            constraint: What the answer was held to.
            base: What the branch forked from.

        Raises:
            AnswerError: None of a literal's categories can stand in its place.
            ContextFullError: The alternatives' rows do not fit.
        """
        spelling = LabelSpelling(context.model, text, constraint)
        written = tuple(branch.tokens[begin:])
        self._literals = literals
        self._ways: list[list[Scalar]] = []
        self._forks: list[Branch] = []
        queries: list[tuple[Branch, list[tuple[int, ...]]]] = []
        try:
            for literal, values in literals:
                ways = [(category, way) for category in values for way in spelling.ways(literal, category)]
                if not ways:
                    raise _misfit(values)
                shared = min(common_prefix(written, way[:-1]) for _, way in ways)
                self._ways.append([category for category, _ in ways])
                self._forks.append(fork_at(context, branch, begin + shared, others=[base]))
                queries.append((self._forks[-1], [way[shared:] for _, way in ways]))
            self._scoring = context.queue_scores(queries)
        except BaseException:
            self.close()
            raise

    def read(self) -> dict[Literal, dict[Scalar, float]]:
        """The probability of each category in each place; they add up to 1 for a place."""
        alternatives = {}
        for (literal, values), ways, scores in zip(self._literals, self._ways, self._scoring.read(), strict=True):
            weights = dict.fromkeys(values, 0.0)
            for category, probability in zip(ways, scores.probabilities, strict=True):
                weights[category] += float(probability)
            alternatives[literal] = _normalised(weights)
        return alternatives

    def close(self) -> None:
        """Gives the forks back."""
        for fork in self._forks:
            fork.close()


def by_alternatives(alternatives: Mapping[Literal, Mapping[Scalar, float]]) -> Likelihood:
    """The likelihood of literals whose alternatives are known."""
    return lambda literal, values: expected_value(alternatives[literal], values)


def _at(value: Any, path: Sequence[str | int]) -> str | None:
    for key in path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return spelled(value)


def _normalised(weights: Mapping[Scalar, float]) -> dict[Scalar, float]:
    total = sum(weights.values())
    if not total > 0:
        raise _misfit(weights)
    return {category: weight / total for category, weight in weights.items()}


def _misfit(categories: Iterable[Scalar]) -> AnswerError:
    return AnswerError(
        f"none of the categories {', '.join(map(repr, categories))} can stand where the answer has its literal; "
        "the io.yaml's response_format and its likelihood transformation do not fit"
    )
