"""Probabilities of labels against brute force: closed sets whole, and labels in the midst of generated JSON."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from likelihood_oracle import BPE, BruteForce, asked, choices, likelihood, write_bpe, write_unigram, write_vocabulary

from alora_cpp import AnswerError, Model


@pytest.fixture(scope="module", params=["characters", "bpe", "unigram"])
def any_model(request: pytest.FixtureRequest, folder: Path, model_path: Path) -> Iterator[Model]:
    """The tiny model with a vocabulary of characters, and with two whose tokens go across the edges of labels."""
    with Model(write_vocabulary(request.param, model_path, folder)) as model:
        yield model


def an_object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties]}


def one_of(*values: Any) -> dict[str, Any]:
    return {"enum": [*values]}


YES_NO = one_of("yes", "no")
WHY = {"type": "string", "maxLength": 4}

CLOSED: dict[str, dict[str, Any]] = {
    "letters": {"parameters": choices("Y", "N")},
    "words that share tokens": {"parameters": choices("yes", "yesno", "no", "noyes", "es")},
    "digits, each the next one's beginning": {"parameters": choices("1", "10", "100", "0")},
    "an enum": {"response_format": one_of("yes", "no", "n", 1, 10, 100, True, None)},
    "integers": {"response_format": {"type": "integer", "minimum": 0, "maximum": 21}},
    "an object": {"response_format": an_object(score=YES_NO)},
    "an object with numbers": {"response_format": an_object(n=one_of(1, 10, 100))},
    "two leaves": {"response_format": an_object(a=YES_NO, b={"type": "boolean"})},
    "a leaf that may be missing": {"response_format": {**an_object(a=YES_NO, b=YES_NO), "required": ["b"]}},
    "an array": {"response_format": {"type": "array", "items": YES_NO, "minItems": 1, "maxItems": 2}},
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_sets_equal_brute_force(any_model: Model, adapter_paths: list[Path], tmp_path: Path, name: str) -> None:
    """Tried with: labels tokenized behind a space; labels counted that go on to longer ones."""
    with asked(any_model, adapter_paths[0], tmp_path, **CLOSED[name]) as (chat, intrinsic):
        verdict = chat.check("asked")
        texts = [one.text for one in intrinsic.closed]
        expected = BruteForce(chat, intrinsic).closed(texts)
    assert [*verdict.probabilities] == [*intrinsic.labels]
    assert list(verdict.probabilities.values()) == pytest.approx([expected[text] for text in texts], abs=1e-5)
    best = max(texts, key=expected.__getitem__)
    assert (verdict.text, verdict.label) == (best, intrinsic.labels[texts.index(best)])
    assert verdict.probability == verdict.probabilities[verdict.label]


def test_places_in_closed_answers_are_conditioned_on_what_stands_before_them(
    any_model: Model, adapter_paths: list[Path], tmp_path: Path
) -> None:
    """Tried with: all answers counted, whatever stands before; the last answer's probability instead of the sum."""
    array = {"type": "array", "items": one_of(1, 10, 2), "minItems": 2, "maxItems": 2}
    config = {
        "response_format": an_object(a=YES_NO, b=array),
        "transformations": [likelihood({"yes": 1.0, "no": 0.0}, "a"), likelihood({1: 0.1, 10: 1.0, 7: 5.0}, "b", None)],
    }
    with asked(any_model, adapter_paths[1], tmp_path, **config) as (chat, intrinsic):
        verdict = chat.check("asked")
        probabilities = BruteForce(chat, intrinsic).closed([one.text for one in intrinsic.closed])
    given = json.loads(verdict.text)

    def mean(values: dict[Any, float], place: Callable[[Any], Any], is_given: Callable[[Any], bool]) -> float:
        weights = dict.fromkeys(values, 0.0)
        for text, probability in probabilities.items():
            if is_given(json.loads(text)) and place(json.loads(text)) in values:
                weights[place(json.loads(text))] += probability
        return sum(weight * values[label] for label, weight in weights.items()) / sum(weights.values())

    digits = {1: 0.1, 10: 1.0}
    assert verdict.result["a"] == pytest.approx(
        mean({"yes": 1.0, "no": 0.0}, lambda v: v["a"], lambda v: True), abs=1e-5
    )
    assert verdict.result["b"] == pytest.approx(
        [
            mean(digits, lambda v: v["b"][0], lambda v: v["a"] == given["a"]),
            mean(digits, lambda v: v["b"][1], lambda v: (v["a"], v["b"][0]) == (given["a"], given["b"][0])),
        ],
        abs=1e-5,
    )
    assert verdict.value is None


# A schema; where in its answers labels are weighed: a path, the labels' values, and what may follow them there.
Place = tuple[tuple[Any, ...], dict[Any, float], str]
YES_NO_VALUES = {"yes": 1.0, "no": 0.0}
OPEN: dict[str, tuple[dict[str, Any], list[Place]]] = {
    "a word at the end": (an_object(why=WHY, a=YES_NO), [(("a",), YES_NO_VALUES, "}")]),
    "a word in the middle": (an_object(a=YES_NO, why=WHY), [(("a",), YES_NO_VALUES, ",")]),
    "a word that may be the last": (
        {**an_object(a=YES_NO, why=WHY), "required": ["a"]},
        [(("a",), YES_NO_VALUES, ",}")],
    ),
    "numbers that begin one another": (
        an_object(why=WHY, n=one_of(1, 10, 100, 0)),
        [(("n",), {1: 0.1, 10: 0.3, 100: 1.0, 0: 0.0}, "}")],
    ),
    "any number": (
        {**an_object(n={"type": "integer"}, why=WHY), "required": ["n"]},
        [(("n",), {1: 0.1, 10: 1.0, 100: 2.0, 12: 3.0}, ",}")],
    ),
    "a boolean": (an_object(b={"type": "boolean"}, why=WHY), [(("b",), {True: 1.0, False: 0.0}, ",")]),
    "several": (
        an_object(a=YES_NO, why=WHY, b={"type": "boolean"}, n=one_of(1, 10)),
        [
            (("b",), {True: 1.0, False: 0.0}, ","),
            (("a",), YES_NO_VALUES, ","),
            (("n",), {10: 1.0, 1: 0.0}, "}"),
        ],
    ),
    "words in an array": (
        {"type": "array", "items": {"anyOf": [YES_NO, WHY]}, "minItems": 1, "maxItems": 3},
        [((0,), {"yes": 1.0, "no": 0.0, "y": 0.5}, ",]")],
    ),
    "records in an array": (
        {"type": "array", "items": an_object(a=YES_NO, why=WHY, n=one_of(1, 10)), "minItems": 2, "maxItems": 2},
        [((0, "a"), YES_NO_VALUES, ","), ((1, "n"), {1: 0.0, 10: 1.0}, "}")],
    ),
    "all of the answer": ({"type": "integer"}, [((), {1: 0.1, 10: 1.0, 7: 0.4}, "")]),
}


@pytest.mark.parametrize("name", OPEN)
def test_labels_in_generated_json_equal_brute_force(
    any_model: Model, adapter_paths: list[Path], tmp_path: Path, name: str
) -> None:
    """Tried with: only a comma behind a label; only the tokenizer's own last token; forks one token early."""
    schema, places = OPEN[name]
    config = {
        "response_format": schema,
        "transformations": [likelihood(values, *path) for path, values, _ in places],
        "parameters": {"max_tokens": 60},
    }
    with asked(any_model, adapter_paths[2], tmp_path, **config) as (chat, intrinsic):
        verdict = chat.check("asked")
        assert not intrinsic.closed
        assert (chat.context.n_cells_used, chat.context.n_branches) == (chat.trunk.length, 1)
        oracle = BruteForce(chat, intrinsic)
        weights = [weigh(oracle, verdict.text, path, values, ends) for path, values, ends in places]
    for (path, values, _), weight in zip(places, weights, strict=True):
        mean = sum(probability * values[label] for label, probability in weight.items())
        assert at(verdict.result, path) == pytest.approx(mean, abs=1e-5)
    if len(places) == 1:
        spelled = {label if isinstance(label, str) else json.dumps(label): p for label, p in weights[0].items()}
        assert verdict.probabilities == pytest.approx(spelled, abs=1e-5)
        assert verdict.label == max(spelled, key=spelled.__getitem__)


def test_a_label_is_as_likely_as_its_text_where_tokens_are_characters(
    model: Model, adapter_paths: list[Path], tmp_path: Path
) -> None:
    """There is one way to write a text then, so that nothing of the definition matters."""
    schema = {**an_object(a=YES_NO, why=WHY), "required": ["a"]}
    config = {"response_format": schema, "transformations": [likelihood(YES_NO_VALUES, "a")]}
    with asked(model, adapter_paths[3], tmp_path, parameters={"max_tokens": 40}, **config) as (chat, intrinsic):
        verdict = chat.check("asked")
        oracle = BruteForce(chat, intrinsic)
        before = '{"a": '
        logs = [
            np.logaddexp.reduce([oracle.written_in_any_way(before + one + end, after=before) for end in ",}"])
            for one in ('"yes"', '"no"')
        ]
    assert verdict.value == pytest.approx(1.0 / (1.0 + np.exp(logs[1] - logs[0])), abs=1e-5)


TEXT = '{"why": "is", "a": "yes", "n": 100}'
PIECES = st.tuples(st.integers(0, len(TEXT) - 2), st.integers(2, 4)).map(lambda cut: TEXT[cut[0] : cut[0] + cut[1]])


@settings(max_examples=12, deadline=None)
@given(pieces=st.lists(PIECES, min_size=10, max_size=40, unique=True))
def test_any_vocabulary_gives_what_brute_force_gives(
    folder: Path, model_path: Path, adapter_paths: list[Path], pieces: list[str]
) -> None:
    """Tokens are random pieces of an answer, merged in a random order, across whatever edges."""
    longer = [piece for piece in pieces if len(piece) > 1]
    schema = an_object(why=WHY, a=YES_NO, n=one_of(1, 10, 100))
    numbers = {1: 0.1, 10: 0.3, 100: 1.0}
    config = {
        "response_format": schema,
        "transformations": [likelihood(YES_NO_VALUES, "a"), likelihood(numbers, "n")],
    }
    with (
        Model(write_unigram(model_path, folder / "random.gguf", longer)) as model,
        asked(model, adapter_paths[1], folder, parameters={"max_tokens": 30}, **config) as (chat, intrinsic),
    ):
        verdict = chat.check("asked")
        oracle = BruteForce(chat, intrinsic)
        for key, values, ends in (("a", YES_NO_VALUES, ","), ("n", numbers, "}")):
            weights = weigh(oracle, verdict.text, (key,), values, ends)
            mean = sum(probability * values[label] for label, probability in weights.items())
            assert verdict.result[key] == pytest.approx(mean, abs=1e-5)


def test_labels_may_have_any_letters(model_path: Path, folder: Path, adapter_paths: list[Path], tmp_path: Path) -> None:
    """A letter of two bytes, one token each or both. Tried with: labels spelled with JSON's escapes."""
    values = {"é": 1.0, "ée": 2.0, "e": 0.0}
    for name, pairs in {"bytes": BPE, "letters": [*BPE, "\u00c3|\u00a9"]}.items():
        with Model(write_bpe(model_path, folder / f"{name}.gguf", pairs)) as model:
            assert len(model.tokenize("é")) == (2 if name == "bytes" else 1)
            schema = an_object(why=WHY, a=one_of(*values))
            config = {"response_format": schema, "transformations": [likelihood(values, "a")]}
            with asked(model, adapter_paths[0], tmp_path, **config) as (chat, intrinsic):
                verdict = chat.check("asked")
                weight = weigh(BruteForce(chat, intrinsic), verdict.text, ("a",), values, "}")
            assert verdict.probabilities == pytest.approx(weight, abs=1e-5)


@pytest.mark.parametrize(
    "schema",
    [
        an_object(a={"type": "integer", "minimum": 0, "maximum": 20}),
        an_object(why=WHY, a={"type": "integer", "minimum": 0, "maximum": 20}),
        {"type": "integer", "minimum": 0},
    ],
    ids=["closed", "open", "all of the answer"],
)
def test_labels_that_the_schema_does_not_allow_do_not_count(
    any_model: Model, adapter_paths: list[Path], tmp_path: Path, schema: dict[str, Any]
) -> None:
    """Where none of them is allowed, the io.yaml is wrong."""
    path = ["a"] if "properties" in schema else []
    config = {"response_format": schema, "parameters": {"max_tokens": 30}}
    means = likelihood({2: 0.0, 3: 1.0, -3: 7.0, "3": 9.0, "yes": 9.0, True: 5.0}, *path)
    with asked(any_model, adapter_paths[2], tmp_path, transformations=[means], **config) as (chat, _):
        value = chat.check("asked").value
        assert value is not None
        assert 0.0 < value < 1.0
    wrong = likelihood({"yes": 1.0, False: 2.0}, *path)
    with asked(any_model, adapter_paths[2], tmp_path, transformations=[wrong], **config) as (chat, _):
        for _ in range(2):
            with pytest.raises(AnswerError, match="'yes', False can stand"):
                chat.check("asked")
            assert (chat.context.n_cells_used, chat.context.n_branches) == (chat.trunk.length, 1)


def weigh(
    oracle: BruteForce, text: str, path: tuple[Any, ...], values: dict[Any, float], ends: str
) -> dict[Any, float]:
    """The labels' probabilities in one place of an answer."""
    if not path:
        probabilities = oracle.closed([json.dumps(label) for label in values])
        return dict(zip(values, probabilities.values(), strict=True))
    value = json.loads(text)
    assert text == json.dumps(value, ensure_ascii=False)
    before = json.dumps(replaced(value, path, "@@"), ensure_ascii=False).split('"@@"')[0]
    logs = {}
    for label in values:
        whole = before + json.dumps(label, ensure_ascii=False)
        logs[label] = np.logaddexp.reduce([oracle.written(whole + end, own=[whole, whole + end]) for end in ends])
    highest = max(logs.values())
    weights = {label: np.exp(log - highest) for label, log in logs.items()}
    return {label: float(weight / sum(weights.values())) for label, weight in weights.items()}


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    value = copy.copy(value)
    value[path[0]] = replaced(value[path[0]], path[1:], new)
    return value
