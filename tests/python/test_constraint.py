"""Masks against brute force over the vocabulary, endings, formats, and schemas that mean harm."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import textwrap
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from jsonschema import Draft202012Validator

from alora_cpp import AdapterError, AnswerError, Model
from alora_cpp.constraint import Matcher, SchemaConstraint
from alora_cpp.constraint.schema_texts import closed_texts
from alora_cpp.constraint.vocabulary import vocabulary_of

if TYPE_CHECKING:
    from alora_cpp.model import Model as AnyModel


def tokens_of(mask: npt.NDArray[np.uint32], n_vocab: int) -> set[int]:
    """Reads a mask the slow way, as it is documented."""
    return {token for token in range(n_vocab) if mask[token // 32] >> np.uint32(token % 32) & np.uint32(1)}


def write(matcher: Matcher, model: AnyModel, text: str) -> None:
    for token in model.tokenize(text):
        matcher.accept(token)


def land(matcher: Matcher) -> list[int]:
    tokens = matcher.landing()
    for token in tokens:
        matcher.accept(token)
    return tokens


def finish(constraint: SchemaConstraint, model: AnyModel, text: str) -> Any:
    """The value of the answer that begins with a text and lands there."""
    matcher = constraint.start()
    write(matcher, model, text)
    return json.loads(text + model.detokenize(land(matcher)))


CLOSED: list[dict[str, Any]] = [
    {"enum": ["yes", "yesterday", "no", "naïve", "日本"]},
    {"enum": [1, 10, 100, 12, -1, True, None]},
    {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 2},
    {"type": "object", "properties": {"a": {"type": "boolean"}, "ß": {"enum": [1, 11]}}, "required": ["ß"]},
]


@pytest.mark.parametrize("schema", CLOSED, ids=str)
def test_masks_allow_what_begins_an_answer(bundled: Model, schema: dict[str, Any]) -> None:
    """All of what the answers' list allows, where the next byte is open; else the model's own next token."""
    answers = [one.text.encode() for one in closed_texts(schema) or ()]
    pieces = [bundled._core.piece(token) for token in range(bundled.n_vocab)]
    constraint = SchemaConstraint(bundled, schema)
    waiting: list[tuple[int, ...]] = [()]
    met = 0
    for _ in range(60):
        if not waiting:
            break
        written = waiting.pop()
        matcher = constraint.start()
        for token in written:
            matcher.accept(token)
        text = b"".join(pieces[token] for token in written)
        assert matcher.complete == (text in answers)
        allowed = tokens_of(matcher.mask(), bundled.n_vocab)
        possible = {
            token
            for token, piece in enumerate(pieces)
            if piece and any(answer.startswith(text + piece) for answer in answers)
        }
        if text in answers:
            possible.add(bundled.eos or 0)
        forced = matcher.forced()
        assert allowed <= possible
        assert allowed == (possible if not forced else {forced[0]})
        met += len(allowed)
        waiting += [(*written, token) for token in allowed - {bundled.eos}]
    assert met > len(answers)


def test_control_tokens_are_never_allowed(bundled: Model) -> None:
    control = {*bundled.control_tokens.values()}
    constraint = SchemaConstraint(bundled, {"type": "object", "additionalProperties": {"type": "string"}})
    matcher = constraint.start()
    for token in bundled.tokenize('{"<|end_of_text|>": "<|start_of_role|>x"}'):
        assert not tokens_of(matcher.mask(), bundled.n_vocab) & control
        matcher.accept(token)
    assert tokens_of(matcher.mask(), bundled.n_vocab) == {bundled.eos}
    matcher.accept(bundled.eos or 0)
    assert matcher.ended
    assert matcher.complete
    assert not matcher.mask().any()
    assert not matcher.landing_mask().any()


def test_end_of_generation_waits_for_a_whole_answer(bundled: Model) -> None:
    matcher = SchemaConstraint(bundled, {"type": "integer", "minimum": 10}).start()
    write(matcher, bundled, "1")
    assert not matcher.complete
    with pytest.raises(AnswerError, match="not complete"):
        matcher.accept(bundled.eos or 0)
    write(matcher, bundled, "2")
    assert matcher.complete
    assert not matcher.ended
    assert bundled.eos in tokens_of(matcher.mask(), bundled.n_vocab)
    matcher.accept(bundled.eos or 0)
    assert matcher.ended


def test_a_token_that_cannot_follow_is_refused_and_harms_nothing(bundled: Model) -> None:
    matcher = SchemaConstraint(bundled, {"enum": ["yes", "no"]}).start()
    write(matcher, bundled, '"y')
    before = matcher.mask().copy()
    with pytest.raises(AnswerError, match="cannot follow"):
        matcher.accept(bundled.tokenize("n")[0])
    with pytest.raises(AnswerError, match="cannot follow"):
        matcher.accept(bundled.control_tokens["<|start_of_role|>"])
    assert (matcher.mask() == before).all()
    land(matcher)
    assert matcher.ended
    with pytest.raises(AnswerError, match="cannot follow"):
        matcher.accept(bundled.tokenize("y")[0])


def test_forced_tokens_are_the_models_own(bundled: Model) -> None:
    schema = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}
    matcher = SchemaConstraint(bundled, schema).start()
    forced = matcher.forced()
    assert bundled.tokenize('{"answer": 5}')[: len(forced)] == forced
    assert bundled.detokenize(forced).startswith('{"answer":')
    for token in forced:
        assert tokens_of(matcher.mask(), bundled.n_vocab) == {token}
        matcher.accept(token)
    assert matcher.forced() == []


def test_texts_are_what_json_writes(bundled: Model) -> None:
    schema = {
        "type": "object",
        "properties": {
            "z": {"type": "array", "items": {"type": "integer"}},
            "a": {"type": "object", "properties": {"ключ": {"type": "string"}}},
            "m": {"type": "null"},
        },
        "required": ["z", "a", "m"],
    }
    constraint = SchemaConstraint(bundled, schema)
    value = {"z": [1, 2, -3], "a": {"ключ": 'ü"\n\\'}, "m": None}
    matcher = constraint.start()
    write(matcher, bundled, json.dumps(value, ensure_ascii=False))
    assert matcher.ended
    for other in (
        json.dumps(value, ensure_ascii=False, separators=(",", ":")),
        json.dumps(value, ensure_ascii=False, indent=1),
        json.dumps(dict(reversed(value.items())), ensure_ascii=False),
        json.dumps(value, ensure_ascii=False).replace("}, ", ', "other": 1}, '),
    ):
        with pytest.raises(AnswerError):
            write(constraint.start(), bundled, other)


ENDINGS: list[tuple[Any, str, Any]] = [
    ({"type": "string"}, '"half a', "half a"),
    ({"type": "string"}, '"a\\', 'a"'),
    ({"type": "string", "minLength": 6}, '"ab', "ab0000"),
    ({"type": "string", "pattern": "^(ab)*c$"}, '"aba', "ababc"),
    ({"type": "string", "pattern": "^[a-z]*z$"}, '"ab', None),
    ({"type": "string", "pattern": "stop"}, '"so far', "so farstop"),
    ({"type": "string", "pattern": "^.*one.*two.*$", "minLength": 12}, '"x', None),
    ({"type": "number"}, "-", None),
    ({"type": "number"}, "1.", 1.0),
    ({"type": "integer", "minimum": 300, "maximum": 350}, "3", None),
    ({"enum": ["yes", "yesterday"]}, '"yest', "yesterday"),
    ({"type": "array", "items": {"type": "integer"}, "minItems": 3}, "[7", None),
    ({"type": "array", "items": {"type": "null"}}, "[null, n", [None, None]),
    ({}, '{"a": [[{"b": "c', {"a": [[{"b": "c"}]]}),
    (
        {
            "$ref": "#/$defs/tree",
            "$defs": {
                "tree": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string"},
                        "next": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]},
                    },
                    "required": ["name", "next"],
                }
            },
        },
        '{"name": "a", "next": {"name": "b',
        {"name": "a", "next": {"name": "b", "next": None}},
    ),
    (
        {
            "anyOf": [
                {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
                {"type": "object", "properties": {"leaf": {"const": 1}}, "required": ["leaf"]},
            ]
        },
        "[[",
        [[{"leaf": 1}]],
    ),
]


@pytest.mark.parametrize(("schema", "text", "expected"), ENDINGS, ids=str)
def test_every_beginning_lands_on_a_valid_answer(bundled: Model, schema: Any, text: str, expected: Any) -> None:
    value = finish(SchemaConstraint(bundled, schema), bundled, text)
    Draft202012Validator(schema).validate(value)
    if expected is not None:
        assert value == expected


def test_landing_goes_on_from_the_middle_of_a_character(bundled: Model) -> None:
    part = next(token for token in range(bundled.n_vocab) if bundled._core.piece(token) == "é".encode()[:1])
    matcher = SchemaConstraint(bundled, {"type": "string"}).start()
    written = [*bundled.tokenize('"'), part]
    for token in written:
        matcher.accept(token)
    tokens = [*written, *land(matcher)]
    assert len(json.loads(b"".join(bundled._core.piece(token) for token in tokens))) == 1


def test_landing_masks_hold_one_token_of_the_mask(bundled: Model) -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 3},
            "sizes": {"type": "array", "items": {"type": "number"}},
        },
        "required": ["name", "sizes"],
    }
    matcher = SchemaConstraint(bundled, schema).start()
    seen = []
    while not matcher.ended:
        landing = matcher.landing()
        (token,) = tokens_of(matcher.landing_mask(), bundled.n_vocab)
        assert token in tokens_of(matcher.mask(), bundled.n_vocab)
        assert landing[:1] == [token]
        matcher.accept(token)
        assert matcher.landing() == landing[1:]
        seen.append(token)
    assert json.loads(bundled.detokenize(seen)) == {"name": "000", "sizes": []}


def test_another_token_than_the_landing_changes_it(bundled: Model) -> None:
    matcher = SchemaConstraint(bundled, {"type": "string", "minLength": 4}).start()
    write(matcher, bundled, '"')
    assert bundled.detokenize(matcher.landing()) == '0000"'
    write(matcher, bundled, "abc")
    assert bundled.detokenize(matcher.landing()) == '0"'


def test_a_complete_answer_lands_by_ending(bundled: Model) -> None:
    matcher = SchemaConstraint(bundled, {"type": "integer", "minimum": 0}).start()
    write(matcher, bundled, "42")
    assert matcher.landing() == []
    assert tokens_of(matcher.landing_mask(), bundled.n_vocab) == {bundled.eos}


@pytest.mark.parametrize("text", ["0.00000000000000000000000001", "0.99999999999999999999999999", "1e-9", "-1", "1"])
def test_numbers_keep_away_from_what_they_must_not_be(bundled: Model, text: str) -> None:
    constraint = SchemaConstraint(bundled, {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1})
    assert finish(constraint, bundled, "0.5") == 0.5
    matcher = constraint.start()
    write(matcher, bundled, "0.0000")
    assert not matcher.complete
    with pytest.raises(AnswerError):
        write(constraint.start(), bundled, text)


def test_numbers_are_never_infinite(bundled: Model) -> None:
    matcher = SchemaConstraint(bundled, {"type": "number"}).start()
    with pytest.raises(AnswerError):
        write(matcher, bundled, "1e999")


@pytest.mark.parametrize(
    ("schema", "closed"),
    [
        ({"type": "object", "properties": {"a": {}}}, True),
        ({"type": "object", "properties": {"a": {}}, "required": ["a"]}, True),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": True}, False),
        ({"type": "object", "properties": {"a": {}}, "patternProperties": {"^b": {}}}, False),
        ({"allOf": [{"type": "object", "properties": {"a": {}}}, {"type": "object", "properties": {"b": {}}}]}, False),
        ({"allOf": [{"$ref": "#/$defs/a"}], "properties": {"b": {}}, "$defs": {"a": {"properties": {"a": {}}}}}, False),
        ({"$ref": "#/$defs/a", "properties": {"b": {}}, "$defs": {"a": {"properties": {"a": {}}}}}, False),
        ({"anyOf": [{"type": "object", "properties": {"a": {}}}, {"type": "null"}]}, True),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "properties": {"a": {}}}}}, True),
    ],
    ids=str,
)
def test_objects_hold_what_is_named(bundled: Model, schema: Any, closed: bool) -> None:
    constraint = SchemaConstraint(bundled, schema)
    assert finish(constraint, bundled, '{"a": 1') == {"a": 1}
    matcher = constraint.start()
    if closed:
        with pytest.raises(AnswerError):
            write(matcher, bundled, '{"a": 1, "b": 1}')
    else:
        write(matcher, bundled, '{"a": 1, "b": 1}')


def test_a_required_property_without_schema_is_there(bundled: Model) -> None:
    schema = {"type": "object", "properties": {"a": {"const": 1}}, "required": ["b", "a"]}
    assert [*finish(SchemaConstraint(bundled, schema), bundled, "{")] == ["a", "b"]


def test_branches_of_one_of_must_differ_as_they_are_written(bundled: Model) -> None:
    def branch(name: str) -> dict[str, Any]:
        return {"type": "object", "properties": {name: {"type": "integer"}}, "required": [name]}

    with pytest.raises(AdapterError, match="oneOf"):
        SchemaConstraint(bundled, {"oneOf": [branch("a"), branch("b")]})
    closed = [{**branch(name), "additionalProperties": False} for name in "ab"]
    assert finish(SchemaConstraint(bundled, {"oneOf": closed}), bundled, '{"b') == {"b": 0}


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (None, "NoneType"),
        (3, "int"),
        ("{}", "str"),
        (False, "cannot be used"),
        ({"type": "foo"}, "foo"),
        ({"type": [1, {}]}, "type"),
        ({"enum": []}, "cannot be used"),
        ({"enum": [float("inf")]}, "inf"),
        ({1: 2}, "key 1"),
        ({"const": {1, 2}}, "set"),
        ({"not": {}}, "not"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "object", "required": 5}, "required"),
        ({"type": "object", "properties": [1]}, "properties"),
        ({"type": "integer", "minimum": "x"}, "minimum"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "minimum"),
        ({"type": "string", "minLength": -1}, "minLength"),
        ({"type": "string", "pattern": "("}, "unclosed"),
        ({"type": "string", "pattern": "(?=a)"}, "look-around"),
        ({"type": "string", "format": "no such"}, "no such"),
        ({"const": "\ud800"}, "cannot be used"),
        ({"$ref": "#/$defs/none"}, "none"),
        ({"$ref": "https://example.org/schema.json"}, "example.org"),
        ({"$ref": "#"}, "no answer"),
        ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "Too many items"),
        ({"type": "string", "minLength": 5000}, "no answer"),
    ],
    ids=lambda value: None if isinstance(value, str) else repr(value),
)
def test_what_cannot_be_done_is_refused_with_the_reason(bundled: Model, schema: Any, message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        SchemaConstraint(bundled, schema)


HOSTILE = """
    def nested(depth, inner, wrap):
        for _ in range(depth):
            inner = wrap(inner)
        return inner

    text, whole = {"type": "string"}, {"type": "integer"}
    many = {f"p{i}": text for i in range(3000)}
    levels = {str(i): {"KIND": [{"$ref": f"#/$defs/{i + 1}"}] * 4} for i in range(30)}

    def expanding(kind, last):
        defs = {str(i): {kind: [{"$ref": f"#/$defs/{i + 1}"}] * 4} for i in range(30)}
        return {"$ref": "#/$defs/0", "$defs": {**defs, "30": last}}

    SCHEMAS = [
        nested(100_000, text, lambda inner: {"type": "array", "items": inner}),
        nested(60, text, lambda inner: {"items": inner}),
        nested(25, text, lambda inner: {"type": "object", "properties": {"a": inner}, "required": ["a"]}),
        {"type": "string", "maxLength": 10**9},
        {"type": "string", "maxLength": 10**12},
        {"type": "string", "minLength": 10**9},
        {"type": "array", "items": whole, "minItems": 10**9},
        {"type": "array", "items": whole, "maxItems": 10**9},
        {"type": "array", "items": whole, "minItems": 10**6, "maxItems": 10**6},
        {"type": "string", "pattern": "^(a+)+$"},
        {"type": "string", "pattern": "(a|a?)+b{1000}"},
        {"type": "string", "pattern": "(.*a.{30}){3}"},
        {"type": "string", "pattern": "^((a{1,1000}){1,1000}){1,1000}$"},
        {"type": "string", "pattern": "^[ab]*a[ab]{20}$"},
        {"type": "string", "pattern": "|".join(f"w{i:06d}" for i in range(20_000))},
        {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        {"allOf": [{"$ref": "#"}, {"type": "object"}]},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        {"type": "array", "prefixItems": [{"$ref": "#"}] * 20, "minItems": 20},
        {"type": "object", "properties": many},
        {"type": "object", "properties": many, "required": [*many]},
        {"type": "object", "properties": {f"p{i}": {} for i in range(100_000)}},
        {"type": "object", "patternProperties": {f"^a{i}.*": text for i in range(200)}},
        {"enum": [f"value {i}" for i in range(10_000)]},
        {"enum": ["x" * 100_000] * 20},
        expanding("anyOf", {"type": "null"}),
        expanding("allOf", {"type": "object"}),
        {"allOf": [{"anyOf": [{"properties": {f"p{i}": {"const": j}}} for j in range(4)]} for i in range(12)]},
        {"type": "number", "minimum": -1e308, "maximum": 1e308},
        {"type": "integer", "multipleOf": 999_999_937},
        {"type": "integer", "minimum": -(10**300), "maximum": 10**300},
        {"const": 10**5000},
    ]
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits and reads memory as Linux does")
def test_hostile_schemas_end_within_bounds(tmp_path: Path) -> None:
    """In a process of its own, with a limit on its memory: each is compiled and answered, or refused."""
    script = textwrap.dedent(HOSTILE) + textwrap.dedent(
        """
        import resource
        from alora_cpp import AdapterError, AnswerError, Model
        from alora_cpp.constraint import SchemaConstraint
        from alora_cpp.constraint.schema_texts import closed_texts

        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        with Model.bundled() as model:
            for schema in SCHEMAS:
                closed_texts(schema)
                try:
                    matcher = SchemaConstraint(model, schema).start()
                    matcher.mask()
                    for token in matcher.landing():
                        matcher.accept(token)
                    assert matcher.complete
                except (AdapterError, AnswerError):
                    pass
        # This program's own: ru_maxrss begins with the memory of the process that started it.
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        print(len(SCHEMAS), int(status["VmHWM"].split()[0]) // 1024)
        """
    )
    file = tmp_path / "hostile.py"
    file.write_text(script)
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    count, mebibytes = map(int, done.stdout.split())
    assert count == 32
    assert mebibytes < 512


def test_one_constraint_serves_many_threads(bundled: Model) -> None:
    constraint = SchemaConstraint(
        bundled, {"type": "array", "items": {"type": "string", "maxLength": 8}, "minItems": 2, "maxItems": 3}
    )
    answers: list[Any] = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(5):
            matcher = constraint.start()
            tokens: list[int] = []
            for _ in range(4):
                tokens.append(int(random.choice(sorted(tokens_of(matcher.mask(), bundled.n_vocab)))))
                matcher.accept(tokens[-1])
                if matcher.ended:
                    break
            answers.append(json.loads(bundled.detokenize(tokens + land(matcher), special=False)))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 40
    assert all(2 <= len(answer) <= 3 for answer in answers)


def test_the_vocabulary_goes_with_its_model(bundled: Model) -> None:
    model = Model(bundled.path)
    vocabulary = weakref.ref(vocabulary_of(model))
    assert vocabulary_of(model) is vocabulary()
    constraint = SchemaConstraint(model, {"type": "boolean"})
    core = weakref.ref(model)
    model.close()
    # What is compiled needs the model no more, and does not hold it.
    assert constraint.start().forced() == []
    del model
    gc.collect()
    assert core() is None
    del constraint
    gc.collect()
    assert vocabulary() is None
