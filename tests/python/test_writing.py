"""Answers that are written: parameters, limits, what is settled, and what does not fit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from likelihood_oracle import BruteForce, asked, likelihood, write_vocabulary

from alora_cpp import AnswerError, Chat, Intrinsic, Model, Verdict
from alora_cpp.chat.prompt import write_prompt
from alora_cpp.chat.writing import MAX_TOKENS, Writing
from alora_cpp.constraint import SchemaConstraint
from alora_cpp.constraint.closed_literal import ways_to_end

WHY = {"type": "string"}
YES_NO = {"enum": ["no", "yes", "yesno"]}


def an_object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties]}


@contextmanager
def written(chat: Chat, intrinsic: Intrinsic) -> Iterator[Writing]:
    """An answer that was written on a branch of its own."""
    prompt = write_prompt(intrinsic, chat.transcript.conversation(), {})
    with chat.context.branch() as branch:
        branch.append(prompt.tokens[: prompt.activation])
        branch.activate(intrinsic.adapter)
        branch.append(prompt.tokens[prompt.activation :])
        writing = Writing(chat.context, branch, intrinsic)
        while not writing.is_done:
            chat.context.decode()
            writing.advance()
        yield writing


def generated(chat: Chat, intrinsic: Intrinsic, **options: Any) -> tuple[list[int], str]:
    """The same text from the engine's plain generation."""
    prompt = write_prompt(intrinsic, chat.transcript.conversation(), {})
    with chat.context.branch() as branch:
        branch.append(prompt.tokens[: prompt.activation])
        branch.activate(intrinsic.adapter)
        branch.append(prompt.tokens[prompt.activation :])
        steps = [*chat.context.generate([branch], **options)]
    ends = chat.context.model.is_end_of_generation
    return [step.token for step in steps if not ends(step.token)], "".join(step.text for step in steps)


def check(model: Model, adapter: Path, folder: Path, **config: Any) -> Verdict:
    with asked(model, adapter, folder, **config) as (chat, _):
        return chat.check("asked")


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_tokens": 7},
        {"max_completion_tokens": 20, "temperature": 1.3, "seed": 5},
        {"max_tokens": 20, "temperature": 1.3, "seed": 5, "top_k": 3},
        {"max_tokens": 20, "temperature": 1.3, "seed": 2**32 - 1, "top_p": 0.7},
        {"max_tokens": 20, "temperature": 1.3, "min_p": 0.3},
        {},
    ],
    ids=str,
)
def test_free_text_is_generated_as_the_parameters_say(
    model: Model, adapter_paths: list[Path], tmp_path: Path, parameters: dict[str, Any]
) -> None:
    """Tried with: each of the options left out; the limit one token off."""
    options = {"max_tokens": MAX_TOKENS, **parameters}
    options["max_tokens"] = options.pop("max_completion_tokens", options["max_tokens"])
    with asked(model, adapter_paths[0], tmp_path, parameters=parameters or None) as (chat, intrinsic):
        tokens, text = generated(chat, intrinsic, **options)
        verdict = chat.check("asked")
        with written(chat, intrinsic) as writing:
            assert (writing.tokens, writing.text, writing.is_truncated) == (tokens, text, verdict.truncated)
    assert verdict.text == verdict.result == text
    assert verdict.truncated == (len(tokens) == options["max_tokens"])
    assert (verdict.label, verdict.value, verdict.probabilities) == (None, None, {})


def test_seeds_tell_answers_apart(model: Model, adapter_paths: list[Path], tmp_path: Path) -> None:
    schema = an_object(why={"type": "string", "maxLength": 12}, n={"type": "integer"})
    for response_format in (None, schema):

        def sample(seed: int, response_format: Any = response_format) -> str:
            parameters = {"max_tokens": 40, "temperature": 1.5, "seed": seed}
            config = {"response_format": response_format, "parameters": parameters}
            return check(model, adapter_paths[0], tmp_path, **config).text

        assert sample(1) == sample(1)
        assert len({sample(seed) for seed in range(5)}) > 3


def test_a_stop_string_ends_free_text_and_leaves_json_alone(
    model: Model, adapter_paths: list[Path], tmp_path: Path
) -> None:
    sampled = {"max_tokens": 40, "temperature": 1.0, "seed": 3}
    whole = check(model, adapter_paths[0], tmp_path, parameters=sampled).text
    stop = whole[8:10]
    cut = check(model, adapter_paths[0], tmp_path, parameters={**sampled, "stop": [stop]})
    assert cut.text == whole[: whole.index(stop)]
    assert not cut.truncated
    config = {"response_format": an_object(n={"type": "integer"}, why=WHY)}
    parameters = {"max_tokens": 20}
    plain = check(model, adapter_paths[0], tmp_path, parameters=parameters, **config).text
    assert (
        check(model, adapter_paths[0], tmp_path, parameters={**parameters, "stop": ['"', ","]}, **config).text == plain
    )


def test_what_is_settled_takes_one_pass(model: Model, adapter_paths: list[Path], tmp_path: Path) -> None:
    """Each token is a character here. Tried with: nothing appended that is settled."""
    schema = an_object(a_long_name_that_is_settled={"type": "integer"}, another_long_name={"type": "boolean"})
    for compat in (None, "granite-common"):
        with asked(model, adapter_paths[0], tmp_path, response_format=schema, compat=compat) as (chat, intrinsic):
            before = chat.context.counters.batches
            with written(chat, intrinsic) as writing:
                passes = chat.context.counters.batches - before
        assert list(json.loads(writing.text)) == [*schema["properties"]]
        if compat is None:
            assert passes < len(writing.tokens) - len("a_long_name_that_is_settledanother_long_name") + 10
            assert writing.recorded == []
        else:
            assert passes == len(writing.tokens) == len(writing.recorded)


@pytest.mark.parametrize("compat", [None, "granite-common"])
def test_the_end_of_the_text_is_no_part_of_the_answer(
    model: Model, adapter_paths: list[Path], tmp_path: Path, compat: Any
) -> None:
    """An integer ends where the model says so, or at the limit. Tried with: the last token kept."""
    config = {"response_format": {"type": "integer"}, "parameters": {"max_tokens": 6}}
    for adapter in adapter_paths:
        with (
            asked(model, adapter, tmp_path, compat=compat, **config) as (chat, intrinsic),
            written(chat, intrinsic) as writing,
        ):
            assert writing.text == model.detokenize(writing.tokens)
            assert len(writing.recorded) == (len(writing.tokens) if compat else 0)
            assert len(writing.tokens) <= 6
            assert isinstance(json.loads(writing.text), int)


@pytest.mark.parametrize("limit", [1, 2, 5, 12, 20, 31])
def test_an_answer_that_is_too_long_is_brought_to_its_end(
    model: Model, adapter_paths: list[Path], tmp_path: Path, limit: int
) -> None:
    schema = {
        "type": "array",
        "items": an_object(why=WHY, n={"type": "number"}, more={"type": "array", "items": WHY}, a=YES_NO),
        "minItems": 1,
    }
    for seed in range(4):
        parameters = {"max_tokens": limit, "temperature": 1.0, "seed": seed}
        verdict = check(model, adapter_paths[seed], tmp_path, response_format=schema, parameters=parameters)
        Draft202012Validator(schema).validate(verdict.result)
        assert verdict.truncated
        assert json.loads(verdict.text) == verdict.result


def test_an_answer_within_its_limit_is_not_truncated(model: Model, adapter_paths: list[Path], tmp_path: Path) -> None:
    config = {"response_format": {"anyOf": [an_object(a={"const": number}) for number in range(70)]}}
    with (
        asked(model, adapter_paths[0], tmp_path, **config) as (chat, intrinsic),
        written(chat, intrinsic) as writing,
    ):
        assert intrinsic.constraint is not None
        assert not writing.is_truncated
        text, length = writing.text, len(writing.tokens)
    verdict = check(model, adapter_paths[0], tmp_path, parameters={"max_tokens": length}, **config)
    assert (verdict.truncated, verdict.text) == (False, text)
    assert check(model, adapter_paths[0], tmp_path, parameters={"max_tokens": 1}, **config).truncated


def test_the_model_chooses_among_labels_also_where_the_answer_has_to_end(
    model: Model, adapter_paths: list[Path], tmp_path: Path
) -> None:
    """Step by step the most probable character that a label has next. Tried with: the shortest ending instead."""
    schema = an_object(why=WHY, a=YES_NO, n={"enum": [1, 10, 100, 2, 20]}, b={"type": "boolean"})
    met = set()
    for number, adapter in enumerate(adapter_paths * 3):
        parameters = {"max_tokens": 14 + number}
        with asked(model, adapter, tmp_path, response_format=schema, parameters=parameters) as (chat, intrinsic):
            verdict = chat.check("asked")
            oracle = BruteForce(chat, intrinsic)
        assert verdict.truncated
        for key, behind in (("a", ","), ("n", ","), ("b", "}")):
            before = verdict.text[: verdict.text.index(f'"{key}": ') + len(key) + 4]
            options = schema["properties"][key].get("enum", [True, False])
            rest = most_probable(oracle, before, [json.dumps(option) + behind for option in options])
            assert json.loads(rest[:-1]) == verdict.result[key]
            met.add(rest[:-1])
    assert {'"yes"', '"yesno"', "10", "20", "false"} & met


@pytest.mark.parametrize("vocabulary", ["characters", "bpe", "unigram"])
def test_an_array_that_has_to_end_gets_no_more_than_it_must_have(
    model_path: Path, folder: Path, adapter_paths: list[Path], tmp_path: Path, vocabulary: str
) -> None:
    """Tried with: commas before brackets behind a number; tokens that hold a label's end and a comma."""
    with Model(write_vocabulary(vocabulary, model_path, folder)) as model:
        for items in (YES_NO, {"enum": [1, 10, 100]}, {"type": "boolean"}):
            for adapter in adapter_paths:
                schema = {"type": "array", "items": items, "minItems": 1}
                config = {"response_format": schema, "parameters": {"max_tokens": 1}}
                verdict = check(model, adapter, tmp_path, **config)
                assert verdict.truncated
                assert len(verdict.result) == 1


def test_the_limit_counts_what_is_settled(model: Model, adapter_paths: list[Path], tmp_path: Path) -> None:
    """Tokens are characters. Tried with: the limit one token off."""
    config = {"response_format": an_object(why=WHY), "parameters": {"max_tokens": len('{"why": "') + 3}}
    lengths = {len(check(model, adapter, tmp_path, **config).result["why"]) for adapter in adapter_paths}
    assert max(lengths) == 3


def most_probable(oracle: BruteForce, before: str, options: list[str]) -> str:
    """The option that is reached by the most probable next character each time."""
    written = ""
    while options != [written]:
        row = oracle.next_tokens(oracle.model.tokenize(before + written))
        following = {option[len(written)]: row[oracle.model.tokenize(option[len(written)])[0]] for option in options}
        written += max(following, key=following.__getitem__)
        options = [option for option in options if option.startswith(written)]
    return written


WAYS: dict[str, tuple[dict[str, Any], dict[str, list[str] | None]]] = {
    "strings": (
        an_object(why=WHY, a=YES_NO, e={"enum": ['é"', "\\"]}),
        {
            "": None,
            '{"why": "x': None,
            '{"why": "x", "a":': [' "no"', ' "yes"', ' "yesno"'],
            '{"why": "x", "a": "y': ['es"', 'esno"'],
            '{"why": "x", "a": "no"': [', "e": "\\\\"', ', "e": "é\\""'],
            '{"why": "x", "a": "no", "e": ': ['"\\\\"', '"é\\""'],
        },
    ),
    "numbers and words": (
        an_object(n={"type": "integer"}, k={"enum": [1, 10, 100, None, True]}, why=WHY),
        {
            '{"n": ': None,
            '{"n": 1': None,
            '{"n": 1, "k": ': ["1", "10", "100", "null", "true"],
            '{"n": 1, "k": 1': ["", "0", "00"],
            '{"n": 1, "k": t': None,
        },
    ),
    "arrays": (
        {"type": "array", "items": {"enum": [1, 12]}, "maxItems": 3},
        {"": None, "[": None, "[1": ["", "2"], "[1, ": ["1", "12"], "[1, 12, 1": ["", "2"]},
    ),
    "optional keys": (
        {**an_object(a=YES_NO, b=YES_NO, c=YES_NO), "required": []},
        {
            "{": None,
            '{"': None,
            '{"a": ': ['"no"', '"yes"', '"yesno"'],
            '{"a": "no"': None,
            '{"a": "no", ': None,
            '{"a": "no", "b": "no", ': ['"c": "no"', '"c": "yes"', '"c": "yesno"'],
        },
    ),
    "all of the answer": (
        {"type": "integer", "minimum": 8, "maximum": 11},
        {"": ["10", "11", "8", "9"], "1": ["0", "1"]},
    ),
}


@pytest.mark.parametrize("name", WAYS)
def test_ways_to_end_a_literal(model: Model, name: str) -> None:
    schema, expected = WAYS[name]
    constraint = SchemaConstraint(model, schema)
    for text, ways in expected.items():
        found = ways_to_end(constraint._bytes, text.encode())
        shown = None if found is None else sorted(way.decode() for way in found)
        assert shown == ways, text


MISFITS: dict[str, dict[str, Any]] = {
    "no JSON": {"transformations": [likelihood({"yes": 1.0}, "a")], "parameters": {"max_tokens": 5}},
    "an object where a label should be": {
        "response_format": an_object(a=an_object(b=YES_NO)),
        "transformations": [likelihood({"yes": 1.0}, "a")],
    },
    "an array where a label should be": {
        "response_format": {"type": "array", "items": YES_NO, "minItems": 1, "maxItems": 1},
        "transformations": [likelihood({"yes": 1.0})],
    },
    "a text where records should be": {
        "response_format": an_object(a={"type": "string", "maxLength": 3}),
        "transformations": [{"type": "explode", "input_path": ["a"], "target_field": "b"}],
    },
    "a value that is no label any more": {
        "response_format": an_object(a=YES_NO),
        "transformations": [likelihood({"yes": 0.3, "no": 0.2}, "a"), likelihood({"yes": 1.0}, "a")],
    },
    "labels that cannot stand there": {
        "response_format": an_object(a=YES_NO, why=WHY),
        "transformations": [likelihood({"maybe": 1.0}, "a")],
        "parameters": {"max_tokens": 20},
    },
}


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_is_an_answer_error_that_leaves_no_trace(
    model: Model, adapter_paths: list[Path], tmp_path: Path, name: str
) -> None:
    with asked(model, adapter_paths[0], tmp_path, **MISFITS[name]) as (chat, _):
        for _ in range(2):
            with pytest.raises(AnswerError):
                chat.check("asked")
            assert (chat.context.n_cells_used, chat.context.n_branches) == (chat.trunk.length, 1)


LEAVES = st.sampled_from([YES_NO, WHY, {"type": "boolean"}, {"type": "integer"}, {"enum": [1, 10]}, {"type": "null"}])
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda a, b: an_object(a=a, b=b), inner, inner),
        st.builds(lambda items: {"type": "array", "items": items, "maxItems": 2}, inner),
    ),
    max_leaves=4,
)
PATHS = st.lists(st.sampled_from(["a", "b", 0, None]), max_size=3)
TRANSFORMATIONS = st.one_of(
    st.builds(lambda path: likelihood({"yes": 1.0, "no": 0.5, True: 0.2, False: 0.1}, *path), PATHS),
    st.builds(lambda path: {"type": "nest", "input_path": path, "field_name": "a"}, PATHS),
    st.builds(lambda path: {"type": "project", "input_path": path, "retained_fields": ["a"]}, PATHS),
    st.builds(lambda path: {"type": "explode", "input_path": path, "target_field": "a"}, PATHS),
    st.builds(lambda path: {"type": "drop_duplicates", "input_path": path, "target_fields": ["a"]}, PATHS),
)


@settings(max_examples=40, deadline=None)
@given(
    schema=SCHEMAS,
    transformations=st.lists(TRANSFORMATIONS, max_size=3),
    compat=st.sampled_from([None, "granite-common"]),
    limit=st.integers(1, 20),
)
def test_any_io_yaml_gives_a_result_or_an_error_of_its_own(
    model: Model,
    adapter_paths: list[Path],
    folder: Path,
    schema: dict[str, Any],
    transformations: list[dict[str, Any]],
    compat: Any,
    limit: int,
) -> None:
    config = {"response_format": schema, "transformations": transformations, "parameters": {"max_tokens": limit}}
    with asked(model, adapter_paths[1], folder, name="random", compat=compat, **config) as (chat, _):
        try:
            verdict = chat.check("random")
        except AnswerError:
            pass
        else:
            Draft202012Validator(schema).validate(json.loads(verdict.text))
            assert verdict.probabilities == {} or abs(sum(verdict.probabilities.values()) - 1.0) < 1e-9
        assert (chat.context.n_cells_used, chat.context.n_branches) == (chat.trunk.length, 1)
