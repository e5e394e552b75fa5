"""Reading `io.yaml`: what is in it is read, what is wrong with it is said with its line, and nothing else happens."""

from __future__ import annotations

import contextlib
import json
import textwrap

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alora_cpp.errors import AdapterError
from alora_cpp.io import IoConfig, Parameters, parse_io_yaml

CERTAINTY = """\
# How published files look.
name: uncertainty
model: ~
response_format: |
  {
    "type": "object",
    "properties": {"z": {"type": "integer"}, "score": {"type": "string", "enum": ["0", "1"]}, "a": {}},
    "required": ["score"]
  }
transformations:
  - type: likelihood
    categories_to_values:
      "0": 0.05
      "1": 0.15
    input_path: ["score"]
  - type: project
    input_path: []
    retained_fields:
      score: "certainty"
instruction: ~
parameters:
  max_completion_tokens: 15
  temperature: 0.0
sentence_boundaries: ~
"""
BASE = "model: ~\nresponse_format: ~\ntransformations: ~\n"


def parse(text: str) -> IoConfig:
    return parse_io_yaml(textwrap.dedent(text), source="some.yaml")


def test_published_file() -> None:
    config = parse(CERTAINTY)
    assert (config.name, config.model) == ("uncertainty", None)
    assert config.response_format is not None
    assert list(config.response_format) == ["type", "properties", "required"]
    assert list(config.response_format["properties"]) == ["z", "score", "a"]
    likelihood, project = config.transformations
    assert (likelihood.name, likelihood.input_path) == ("likelihood", ("score",))
    assert likelihood.categories_to_values == {"0": 0.05, "1": 0.15}  # type: ignore[attr-defined]
    assert (project.name, project.input_path) == ("project", ())
    assert project.retained_fields == {"score": "certainty"}  # type: ignore[attr-defined]
    assert config.parameters == Parameters(max_tokens=15)


def test_nothing_said_is_the_default() -> None:
    assert parse(BASE) == IoConfig()
    nulls = ["name", "instruction", "parameters", "sentence_boundaries", "docs_as_message", "logprobs_workaround"]
    assert parse(BASE + "".join(f"{name}: ~\n" for name in nulls)) == IoConfig()


def test_schema_as_yaml() -> None:
    schema = parse("model: m\ntransformations: []\nresponse_format: {type: object, enum: [1, true, ~, 2.5, x]}\n")
    assert schema.response_format == {"type": "object", "enum": [1, True, None, 2.5, "x"]}


def test_everything_else() -> None:
    config = parse(
        BASE
        + """\
sentence_boundaries: {documents: c, last_message: ''}
docs_as_message: roles
logprobs_workaround: true
instruction: "{last_message}? {{}} {rule}!{rule}"
"""
    )
    assert config.sentence_boundaries == {"documents": "c"}
    assert (config.docs_as_message, config.logprobs_workaround) == ("roles", True)
    assert config.instruction is not None
    assert config.instruction.names == ("last_message", "rule")


def test_parameters() -> None:
    config = parse(
        BASE
        + """\
parameters:
  max_tokens: 7
  temperature: 1
  top_p: 0.5
  seed: 3
  stop: [a, b]
  n: 1
  logprobs: true
  top_logprobs: 10
  stream: false
  user: ~
  extra_body:
    top_k: -1
    min_p: 0.1
    chat_template_kwargs: {thinking: true, controls: {length: short}}
    structured_outputs: {choice: ["Y", "N"]}
"""
    )
    assert config.parameters == Parameters(
        7, 1.0, 0.5, 0, 0.1, 3, ("a", "b"), {"thinking": True, "controls": {"length": "short"}}
    )
    assert config.choices == ("Y", "N")
    assert parse(BASE + "parameters: {stop: x, extra_body: {guided_choice: [a]}}").choices == ("a",)
    assert parse(BASE + "parameters: {stop: x}").parameters.stop == ("x",)


def test_aliases_are_read() -> None:
    text = step("{type: nest, input_path: &p [a], field_name: x}\n- {type: nest, input_path: *p, field_name: y}")
    assert [nest.input_path for nest in parse(text).transformations] == [("a",), ("a",)]


def step(text: str) -> str:
    return "model: ~\nresponse_format: ~\ntransformations:\n- " + text


LIKELIHOOD = "{type: likelihood, input_path: [], categories_to_values: "
DECODE = "sentence_boundaries: {documents: c, last_message: r}\n" + step("{type: decode_sentences, input_path: [a], ")
PATH = "nest, field_name: x, input_path: "

# What is wrong, the line it is on, and what the message has to say.
WRONG = [
    ("", None, "empty"),
    ("a: [1\nb: 2", 2, "no valid YAML"),
    ("a: \x07", 1, "no valid YAML"),
    ("a: 1\n---\nb: 2", 2, "another document"),
    ("- model", 1, "a list, expected a mapping"),
    ("model: ~\ntransformations: ~\n", 1, "lacks response_format"),
    (BASE + "model: ~", 4, "there twice: 'model'"),
    (BASE + "modle: x\n", 4, "unknown key 'modle'; known are model, response_format"),
    (BASE + "? [a]\n: b\n", 4, "a key of io.yaml is no scalar"),
    (BASE + "<<: {name: x}\n", 4, "'<<'"),
    (BASE + "name: 2024-02-30\n", 4, "timestamp; put it in quotes"),
    (BASE + "name: !!python/name:os.system ''\n", 4, "python/name:os.system"),
    (BASE + "name: !thing {a: 1}\n", 4, "tag '!thing'"),
    (BASE + "name: !!int x\n", 4, "no YAML int"),
    (BASE + f"name: 0x{'f' * 9000}\n", 4, "64 bits"),
    (BASE + 'name: "\\ud800"\n', 4, "no valid Unicode"),
    (BASE + '"\\ud800": x\n', 4, "no valid Unicode"),
    ("a: 1\nb: \"\\UFFFFFFFF\"", 2, "a number is too large"),
    (f"%YAML 1.{'9' * 5000}\n--- a", 1, "a number is too large"),
    ("%YAML 2.0\n--- a", 1, "incompatible YAML document"),
    (BASE + "name: !!binary YQ==\n", 4, "binary"),
    (BASE + "name: !!set {a}\n", 4, "tag:yaml.org,2002:set"),
    (BASE + "name: [a]\n", 4, "name is a list, expected a name or null"),
    ("model: 3\nresponse_format: ~\ntransformations: ~\n", 1, "model is 3, expected a name or null; put it in quotes"),
    ("model: ~\nresponse_format: '{\"a\": '\ntransformations: ~\n", 2, "no JSON: at character 6 found the end"),
    ("model: ~\nresponse_format: '{\"a\": NaN}'\ntransformations: ~\n", 2, "found 'NaN}'"),
    ("model: ~\nresponse_format: '[]'\ntransformations: ~\n", 2, "expected a JSON schema"),
    ("model: ~\nresponse_format: 3\ntransformations: ~\n", 2, "expected a JSON schema"),
    ("model: ~\nresponse_format:\n  a: 1\n  1: x\ntransformations: ~\n", 4, "the key 1, expected a string"),
    ("model: ~\nresponse_format: {a: .nan}\ntransformations: ~\n", 2, "expected a number that JSON has"),
    ("model: ~\nresponse_format: ~\ntransformations: {}\n", 3, "a mapping, expected a list or null"),
    (BASE + "instruction: '{'\n", 4, "no format template"),
    (BASE + "instruction: 'a } b'\n", 4, "no format template"),
    (BASE + "instruction: '{}'\n", 4, "inserts ''"),
    (BASE + "instruction: '{0}'\n", 4, "inserts '0'"),
    (BASE + "instruction: '{a.__class__}'\n", 4, "inserts 'a.__class__'"),
    (BASE + "instruction: '{a[0]}'\n", 4, "inserts 'a[0]'"),
    (BASE + "instruction: '{a:>9}'\n", 4, "'a' with a format"),
    (BASE + "instruction: '{a!r}'\n", 4, "'a' with a format"),
    (BASE + "sentence_boundaries: {first_message: c}\n", 4, "unknown key 'first_message'"),
    (BASE + "sentence_boundaries: {documents: 1}\n", 4, "expected a tag"),
    (BASE + "docs_as_message: xml\n", 4, "'xml', expected string, json, roles or null"),
    (BASE + "logprobs_workaround: 1\n", 4, "expected true or false"),
    (BASE + "parameters:\n  temperature: 0\n  frequency_penalty: 1\n", 6, "unknown key 'frequency_penalty'"),
    (BASE + "parameters:\n  extra_body:\n    beams: 1\n", 6, "parameters.extra_body has the unknown key 'beams'"),
    (BASE + "parameters: {max_tokens: 0}\n", 4, "max_tokens is 0, expected a number of tokens"),
    (BASE + "parameters: {max_tokens: true}\n", 4, "max_tokens is True"),
    (BASE + "parameters: {max_tokens: 1, max_completion_tokens: 1}\n", 4, "newer name"),
    (BASE + "parameters: {temperature: -1}\n", 4, "at least 0"),
    (BASE + "parameters: {temperature: .inf}\n", 4, "at least 0"),
    (BASE + "parameters: {top_p: 1.5}\n", 4, "from 0 to 1"),
    (BASE + "parameters: {top_k: -2}\n", 4, "0 or -1 for all"),
    (BASE + "parameters: {seed: 4294967296}\n", 4, "seed"),
    (BASE + "parameters: {n: 2}\n", 4, "one answer"),
    (BASE + "parameters: {stop: [1]}\n", 4, "expected a string"),
    (BASE + "parameters: {stop: ''}\n", 4, "empty text"),
    (BASE + "parameters: {seed: 1, extra_body: {seed: 1}}\n", 4, "there twice"),
    (BASE + "parameters: {extra_body: {structured_outputs: {json: {}}}}\n", 4, "unknown key 'json'"),
    (BASE + "parameters: {extra_body: {structured_outputs: {choice: []}}}\n", 4, "texts that differ"),
    (BASE + "parameters: {extra_body: {structured_outputs: {choice: [a, a]}}}\n", 4, "texts that differ"),
    (BASE + "parameters: {extra_body: {structured_outputs: {choice: [yes, no]}}}\n", 4, "put it in quotes"),
    (BASE + "parameters: {extra_body: {structured_outputs: {choice: [a]}, guided_choice: [a]}}\n", 4, "newer name"),
    (BASE + "parameters: {extra_body: {chat_template_kwargs: [a]}}\n", 4, "expected a mapping"),
    (
        "model: ~\nresponse_format: {}\ntransformations: ~\nparameters: {extra_body: {guided_choice: [a]}}\n",
        2,
        "beside choices",
    ),
    (step("nest"), 4, "'nest', expected a mapping with a type"),
    (step("{input_path: []}"), 4, "lacks type"),
    (step("{type: nets, input_path: []}"), 4, "'nets', expected one of likelihood"),
    (step("{type: [], input_path: []}"), 4, "a list, expected the name"),
    (step("{type: nest, field_name: x}"), 4, "lacks input_path"),
    (step("{type: nest, input_path: []}"), 4, "lacks field_name"),
    (step("{type: nest, input_path: [], field_name: 1}"), 4, "put it in quotes"),
    (step("{type: nest, input_path: [], field_name: x, y: 1}"), 4, "unknown key 'y'"),
    (step(f"{{type: {PATH}~}}"), 4, "input_path is null, expected a list"),
    (step(f"{{type: {PATH}a}}"), 4, "input_path is 'a', expected a list"),
    (step(f"{{type: {PATH}[a, true]}}"), 4, "input_path[1] is True"),
    (step(f"{{type: {PATH}[-1]}}"), 4, "an index from 0"),
    (step(f"{{type: {PATH}[1.5]}}"), 4, "a field name, an index or null"),
    (step(LIKELIHOOD + "~}"), 4, "null, expected a mapping"),
    (step(LIKELIHOOD + "{}}"), 4, "is empty"),
    (step(LIKELIHOOD + "{a: x}}"), 4, "categories_to_values.a is 'x', expected a number"),
    (step(LIKELIHOOD + "{a: true}}"), 4, "expected a number"),
    (step(LIKELIHOOD + "{a: .inf}}"), 4, "expected a number"),
    (step(LIKELIHOOD + "{~: 1}}"), 4, "the label None"),
    (step(LIKELIHOOD + "{1: 1, true: 0}}"), 4, "there twice: True"),
    (
        step(LIKELIHOOD + "{y: 1, yes: 0}}\nparameters: {extra_body: {guided_choice: ['y', 'n']}}\n"),
        4,
        "has True, expected one of the choices y, n; put it in quotes",
    ),
    (step("{type: project, input_path: [], retained_fields: a}"), 4, "a list of field names, or a mapping"),
    (step("{type: project, input_path: [], retained_fields: {1: a}}"), 4, "the key 1"),
    (step("{type: project, input_path: [], retained_fields: [1]}"), 4, "retained_fields[0] is 1"),
    (step("{type: explode, input_path: [], target_field: ~}"), 4, "target_field is null"),
    (step("{type: drop_duplicates, input_path: [], target_fields: a}"), 4, "expected a list of field names"),
    (step("{type: merge_spans, input_path: [], group_fields: [], begin_field: b}"), 4, "lacks end_field"),
    (DECODE + "source: here, output_names: {}}", 5, "source is 'here'"),
    (DECODE + "source: [], output_names: {}}", 5, "expected last_message alone"),
    (DECODE + "source: [last_message, documents], output_names: {}}", 5, "expected last_message alone"),
    (DECODE + "source: all_but_last_message, output_names: {}}", 5, "sentence_boundaries gives no tag"),
    (DECODE + "source: documents, output_names: []}", 5, "expected a mapping to field names"),
    (DECODE + "source: documents, output_names: {message_index: m}}", 5, "known for this source are begin, end, text"),
    (DECODE.replace("[a]", "[]") + "source: documents, output_names: {}}", 5, "names no field"),
    (DECODE.replace("[a]", "[0]") + "source: documents, output_names: {}}", 5, "names no field"),
    ("[" * 100, 1, "nested deeper than 64 levels"),
    ("&a [*a]", 1, "too large"),
    ("a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{key}: &{key} [{', '.join([f'*{before}'] * 10)}]\n" for before, key in zip("abcd", "bcde", strict=True)
    ), 1, "too large"),
    ("x" * 300_000, None, "262144 at most"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong(text: str, line: int | None, message: str) -> None:
    with pytest.raises(AdapterError) as raised:
        parse(text)
    assert str(raised.value).startswith(f"some.yaml, line {line}: " if line else "some.yaml")
    assert message in str(raised.value)
    assert len(str(raised.value)) < 500


yaml_texts = st.one_of(
    st.text(),
    st.text(alphabet="ab:-[]{},&*!|>'\"#%@`~? \n\t0.1<=y"),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.dates()),
        lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(max_size=5), inner)),
    ).map(yaml.safe_dump),
)
junk = st.one_of(
    st.sampled_from(["~", "[]", "{}", "''", "1", "true", "[~]", "[a, 1]", "{a: b}", "documents", "'{x}'", "'{}'"]),
    yaml_texts.map(json.dumps),
)
KEYS = "model response_format transformations name instruction parameters sentence_boundaries docs_as_message"
STEP_KEYS = (
    "type input_path field_name retained_fields target_field target_fields source output_names "
    "categories_to_values group_fields begin_field end_field text_field"
)
names = st.sampled_from(KEYS.split())
kinds = st.sampled_from(["nest", "project", "explode", "likelihood", "merge_spans"])
transformations = st.lists(
    st.dictionaries(st.sampled_from(STEP_KEYS.split()), junk | kinds).map(
        lambda step: "{" + ", ".join(f"{key}: {value}" for key, value in step.items()) + "}"
    ),
    max_size=3,
).map(lambda steps: f"[{', '.join(steps)}]")
nearly = st.dictionaries(names, junk).flatmap(
    lambda fields: transformations.map(
        lambda steps: "".join(f"{key}: {value}\n" for key, value in (fields | {"transformations": steps}).items())
    )
)


@settings(max_examples=500, deadline=None)
@example("!!float ''")
@example("!!bool x")
@example("!!int ''")
@example("? |\n  a\n: b")
@example("\ud800")
@example('"\\UFFFFFFFF"')
@given(st.one_of(yaml_texts, nearly))
def test_any_text(text: str) -> None:
    with contextlib.suppress(AdapterError):
        assert isinstance(parse_io_yaml(text, source="any"), IoConfig)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(CERTAINTY)), st.integers(0, 3), st.text(alphabet="ab:-[]{}&*!|>'\"\n ~1", max_size=3))
def test_any_damage(at: int, cut: int, insert: str) -> None:
    with contextlib.suppress(AdapterError):
        assert isinstance(parse(CERTAINTY[:at] + insert + CERTAINTY[at + cut :]), IoConfig)
