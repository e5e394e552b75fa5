"""Expected values: exact ones, and the approximation that other libraries make of them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alora_cpp.errors import AnswerError
from alora_cpp.io import AnswerToken, Literal, approximate_likelihood, expected_value

YES_NO = {"yes": 1.0, "no": 0.0}


def test_expected_value() -> None:
    assert expected_value({"yes": 0.75, "no": 0.25}, YES_NO) == 0.75
    assert expected_value({"no": 0.25, "yes": 0.25, "maybe": 0.5}, YES_NO) == 0.5
    assert expected_value({1: 0.25, 2: 0.75}, {1.0: 4, 2: 8}) == 7.0
    assert expected_value({True: 0.75, False: 0.25}, {True: -1, False: 1}) == -0.5


def test_true_is_not_one() -> None:
    assert expected_value({True: 0.5, 2: 0.5}, {1: 10.0, 2: 20.0}) == 20.0
    with pytest.raises(AnswerError, match="none of the labels True has"):
        expected_value({True: 1.0}, {1: 1.0})


@pytest.mark.parametrize("probabilities", [{}, {"maybe": 1.0}, {"yes": 0.0}])
def test_no_probability(probabilities: dict[str, float]) -> None:
    with pytest.raises(AnswerError, match="values are there for 'yes', 'no'"):
        expected_value(probabilities, YES_NO)


@given(st.dictionaries(st.text(), st.tuples(st.floats(1e-6, 1), st.floats(-5, 5)), min_size=1))
def test_expected_value_lies_between(labels: dict[str, tuple[float, float]]) -> None:
    values = {label: value for label, (_, value) in labels.items()}
    expected = expected_value({label: p for label, (p, _) in labels.items()}, values)
    assert min(values.values()) - 1e-9 <= expected <= max(values.values()) + 1e-9


def token(text: str, p: float, **top: float) -> AnswerToken:
    return AnswerToken(text, math.log(p), tuple((name, math.log(q)) for name, q in top.items()))


ANSWER = Literal((), "yes", 0, 5)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        # The sampled token and its alternatives, renormalised; the token itself is not counted twice.
        ([token('"', 1), token("yes", 0.6, yes=0.6, no=0.2, x=0.2)], 0.75),
        # A token that a label begins with stands for the first such label.
        ([token('"', 1), token("ye", 0.6, n=0.2, y=0.2), token("s", 1)], 0.8),
        # A label with another token's length is taken for the whole label.
        ([token('"', 1), token("y", 0.5, nope=0.5), token("es", 1)], 1.0),
        # The label's first character is no token's: certain, if it is a token's end.
        ([token('"yes"', 0.5, n=0.5)], 1.0),
    ],
)
def test_approximation(tokens: list[AnswerToken], expected: float) -> None:
    assert approximate_likelihood(ANSWER, YES_NO, tokens) == pytest.approx(expected)


def test_approximation_of_unknown_labels() -> None:
    maybe = Literal((), "maybe", 0, 7)
    assert approximate_likelihood(maybe, YES_NO, [token('"', 1), token("maybe", 0.9, x=0.1)]) == 0.0
    assert approximate_likelihood(maybe, YES_NO, [token('"', 1), token("maybe", 0.9, n=0.1)]) == 0.0
    assert approximate_likelihood(maybe, YES_NO, [token('"', 1), token("maybe", 0.9, n=0.1, y=0.1)]) == pytest.approx(
        0.5
    )


def test_approximation_of_a_bare_choice() -> None:
    tokens = [token("yes", 0.6, no=0.2, ye=0.2)]
    assert approximate_likelihood(Literal((), "yes", 0, 3), YES_NO, tokens) == pytest.approx(0.8)


def test_approximation_takes_the_first_of_two_categories() -> None:
    values = {"unanswerable": 0.25, "unsafe": 0.75}
    literal = Literal(("a",), "unsafe", 6, 14)
    tokens = [token('{"a": "', 1), token("uns", 0.5, un=0.5), token('afe"}', 1)]
    assert approximate_likelihood(literal, values, tokens) == 0.5


def test_approximation_of_numbers_and_booleans() -> None:
    assert (
        approximate_likelihood(Literal((), 7, 0, 1), {7: 1.0, 70: 2.0, 8: 3.0}, [token("7", 0.5, **{"8": 0.5})]) == 2.0
    )
    # Categories are spelled as Python does, so JSON's true and false match no token but the sampled one.
    assert (
        approximate_likelihood(Literal((), True, 0, 4), {True: 1.0, False: 0.0}, [token("true", 0.5, false=0.5)]) == 1.0
    )


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], "begins inside a token, at character 1"),
        ([token('"ye', 1), token('s"', 1)], "begins inside a token, at character 1"),
        ([token('"', 1), AnswerToken("yes", -math.inf)], "probability zero"),
    ],
)
def test_approximation_fails(tokens: list[AnswerToken], message: str) -> None:
    with pytest.raises(AnswerError, match=message):
        approximate_likelihood(ANSWER, YES_NO, tokens)


def test_approximation_fails_for_labels_at_a_token_end_without_value() -> None:
    with pytest.raises(AnswerError, match="begins inside a token"):
        approximate_likelihood(Literal((), "maybe", 0, 7), YES_NO, [token('"maybe"', 1)])
