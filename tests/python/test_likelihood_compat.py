"""With `compat="granite-common"` likelihoods are what granite-common makes of the same answer and log-probabilities."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from likelihood_oracle import BruteForce, asked, choices, described, likelihood, write_vocabulary

from alora_cpp import AnswerError, Chat, Intrinsic, Model
from alora_cpp.chat.prompt import write_prompt
from alora_cpp.chat.writing import Writing
from alora_cpp.io import AnswerToken
from oracle.io_oracles import Oracle, granite_common

pytestmark = pytest.mark.oracle

YES_NO = {"enum": ["yes", "no"]}
WHY = {"type": "string", "maxLength": 4}
VALUES = {"yes": 1.0, "no": 0.25, "maybe": 0.5}
DIGITS = {1: 0.1, 10: 1.0, 2: 0.5, 20: 0.7, 0: 0.0}


@pytest.fixture(scope="module")
def theirs() -> Oracle:
    return granite_common()


@pytest.fixture(scope="module", params=["characters", "bpe", "unigram"])
def any_model(request: pytest.FixtureRequest, folder: Path, model_path: Path) -> Iterator[Model]:
    with Model(write_vocabulary(request.param, model_path, folder)) as model:
        yield model


def an_object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties]}


CASES: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "a word": (an_object(score=YES_NO), [likelihood(VALUES, "score")]),
    "a word behind others": (an_object(why=WHY, score=YES_NO), [likelihood(VALUES, "score")]),
    "numbers that begin one another": (an_object(n={"enum": [1, 10, 2, 20]}), [likelihood(DIGITS, "n")]),
    "any number": (an_object(why=WHY, n={"type": "integer"}), [likelihood(DIGITS, "n")]),
    "a boolean": (an_object(b={"type": "boolean"}), [likelihood({True: 0.75, False: 0.5}, "b")]),
    "an array": (
        {"type": "array", "items": an_object(a=YES_NO, n={"enum": [1, 10]}), "minItems": 2, "maxItems": 2},
        [likelihood(VALUES, None, "a"), likelihood(DIGITS, None, "n")],
    ),
    "nothing known": (an_object(score=YES_NO), [likelihood({"other": 1.0}, "score")]),
    "all of the answer": ({"enum": [1, 10, 2]}, [likelihood(DIGITS)]),
    "a closed text": ({"enum": ["yes", "no"]}, [likelihood(VALUES)]),
}


def write(chat: Chat, intrinsic: Intrinsic) -> Writing:
    """The answer that a check gets, token by token."""
    prompt = write_prompt(intrinsic, chat.transcript.conversation(), {})
    with chat.context.branch() as branch:
        branch.append(prompt.tokens[: prompt.activation])
        branch.activate(intrinsic.adapter)
        branch.append(prompt.tokens[prompt.activation :])
        writing = Writing(chat.context, branch, intrinsic)
        while not writing.is_done:
            chat.context.decode()
            writing.advance()
    return writing


def served(oracle: BruteForce, tokens: list[int]) -> list[AnswerToken]:
    """An answer's tokens as a server would report them: no masks, the ten most probable ones."""
    reported = []
    for i, token in enumerate(tokens):
        row = oracle.next_tokens(tokens[:i])
        top = sorted(range(len(row)), key=lambda one, row=row: -row[one])[:10]
        alternatives = [(oracle.model.detokenize([one], special=True), float(row[one])) for one in top]
        reported.append(AnswerToken(oracle.model.detokenize([token]), float(row[token]), tuple(alternatives)))
    return reported


@pytest.mark.parametrize("name", CASES)
def test_json_answers(any_model: Model, adapter_paths: list[Path], tmp_path: Path, theirs: Oracle, name: str) -> None:
    """Where a token holds a label's beginning and more before it, both refuse. Tried with: eight alternatives;
    probabilities under the mask; tokens recorded a place late; what is settled appended without recording."""
    schema, transformations = CASES[name]
    config = {"response_format": schema, "transformations": transformations, "parameters": {"max_tokens": 40}}
    text = described(**config)
    for adapter in adapter_paths:
        with asked(any_model, adapter, tmp_path, compat="granite-common", **config) as (chat, intrinsic):
            writing = write(chat, intrinsic)
            tokens = served(BruteForce(chat, intrinsic), writing.tokens)
            assert "".join(token.text for token in tokens) == writing.text
            request = theirs.rewrite(text, chat.messages, [], {})
            try:
                expected = theirs.process(text, writing.text, request, tokens)
            except ValueError:
                with pytest.raises(AnswerError, match="begins inside a token"):
                    chat.check("asked")
                continue
            verdict = chat.check("asked")
        assert verdict.text == writing.text
        assert flat(verdict.result) == pytest.approx(flat(expected), abs=1e-5)
        assert verdict.probabilities == {}


@pytest.mark.parametrize("texts", [("Y", "N"), ("yes", "no", "es"), ("10", "1", "2"), ("un", "unyes", "yes")], ids=str)
def test_bare_texts(
    any_model: Model, adapter_paths: list[Path], tmp_path: Path, theirs: Oracle, texts: tuple[str, ...]
) -> None:
    """They read JSON only: they get the text in quotes, which are tokens of their own."""
    config = {
        "parameters": choices(*texts),
        "transformations": [likelihood({text: i + 1.0 for i, text in enumerate(texts)})],
    }
    for adapter in adapter_paths:
        with asked(any_model, adapter, tmp_path, compat="granite-common", **config) as (chat, intrinsic):
            writing = write(chat, intrinsic)
            tokens = served(BruteForce(chat, intrinsic), writing.tokens)
            verdict = chat.check("asked")
        assert verdict.label == verdict.text == writing.text
        assert writing.text in texts
        quote = AnswerToken('"', 0.0)
        text = described(**{**config, "parameters": {}})
        request = theirs.rewrite(text, chat.messages, [], {})
        assert verdict.value == pytest.approx(
            theirs.process(text, json.dumps(writing.text), request, [quote, *tokens, quote]), abs=1e-5
        )


def test_characters_of_several_tokens_leave_places_right(
    model_path: Path, folder: Path, adapter_paths: list[Path], tmp_path: Path
) -> None:
    """A letter of two tokens before the label. Tried with: each token shown as a character of its own."""
    with Model(write_vocabulary("bpe", model_path, folder)) as model:
        assert len(model.tokenize("é")) == 2
        for why in ("é", "e"):
            schema = an_object(why={"const": why}, score=YES_NO)
            config = {"response_format": schema, "transformations": [likelihood(VALUES, "score")]}
            with asked(model, adapter_paths[0], tmp_path, compat="granite-common", **config) as (chat, intrinsic):
                recorded = write(chat, intrinsic).recorded
                verdict = chat.check("asked")
            assert "".join(token.text for token in recorded) == verdict.text
            assert json.loads(verdict.text)["why"] == why


def test_what_is_recorded_is_what_the_model_says(any_model: Model, adapter_paths: list[Path], tmp_path: Path) -> None:
    """Not what the grammar leaves of it, and without the token that ends the answer."""
    schema = an_object(why=WHY, n={"type": "integer"})
    with asked(any_model, adapter_paths[1], tmp_path, compat="granite-common", response_format=schema) as (
        chat,
        intrinsic,
    ):
        writing = write(chat, intrinsic)
        expected = served(BruteForce(chat, intrinsic), writing.tokens)
    assert len(writing.recorded) == len(writing.tokens) == len(expected)
    for ours, theirs in zip(writing.recorded, expected, strict=True):
        assert ours.text == theirs.text
        assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-4)
        assert [text for text, _ in ours.top] == [text for text, _ in theirs.top]
        assert [logprob for _, logprob in ours.top] == pytest.approx([p for _, p in theirs.top], abs=1e-4)


def flat(value: Any) -> list[float]:
    """The numbers in a result."""
    if isinstance(value, dict | list):
        return [one for item in (value.values() if isinstance(value, dict) else value) for one in flat(item)]
    return [] if isinstance(value, str) else [float(value)]
