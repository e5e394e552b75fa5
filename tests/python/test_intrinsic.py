"""Loading intrinsics: where their `io.yaml` comes from, their names, invocations, labels, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alora_cpp import AdapterError, AdapterNotFoundError, ArgumentError, ConversionError, Model, TokenError
from tiny import INVOCATION, N_VOCAB, Key, Kind, adapter_file, make_model, rewrite_gguf
from tiny_chats import ASSISTANT, KINDS, load, open_chat, template_tokens, text_tokens, write_chat_model

YES_OR_NO = KINDS["labels"][0]


@pytest.fixture(scope="module")
def model(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    with Model(write_chat_model(model_path, tmp_path_factory.mktemp("intrinsic") / "model.gguf")) as model:
        yield model


def io_yaml(*choices: str) -> str:
    return json.dumps(
        {
            "model": None,
            "response_format": None,
            "transformations": [],
            "parameters": {"extra_body": {"structured_outputs": {"choice": list(choices)}}},
        }
    )


@pytest.fixture
def adapter(adapter_paths: list[Path], tmp_path: Path) -> Path:
    """An adapter whose file says what to answer."""
    key = Key(io_yaml("inside"), Kind.STRING)
    return rewrite_gguf(adapter_paths[0], tmp_path / "judge.gguf", alora__io_yaml=key)


def test_an_io_yaml_given_beside_or_inside(model: Model, adapter: Path, adapter_paths: list[Path]) -> None:
    """A file named comes before one beside the adapter, and that before the text in the adapter's file."""
    folder = adapter.parent
    assert model.load_intrinsic(adapter).labels == ("inside",)
    (folder / "io.yaml").write_text(io_yaml("beside"))
    assert model.load_intrinsic(adapter).labels == ("beside",)
    (folder / "judge.io.yaml").write_text(io_yaml("its own"))
    assert model.load_intrinsic(adapter).labels == ("its own",)
    (folder / "given").write_text(io_yaml("given"))
    assert model.load_intrinsic(adapter, io_yaml=folder / "given").labels == ("given",)
    assert model.load_intrinsic(str(adapter), io_yaml=str(folder / "given")).labels == ("given",)
    for one in ("io.yaml", "judge.io.yaml"):
        (folder / one).unlink()
    assert model.load_intrinsic(adapter).labels == ("inside",)
    plain = folder / "plain.gguf"
    shutil.copy(adapter_paths[0], plain)
    assert model.load_intrinsic(plain).labels == ()


def test_without_an_io_yaml_the_answer_is_free_text(model: Model, adapter_paths: list[Path]) -> None:
    intrinsic = model.load_intrinsic(adapter_paths[0], name="free")
    assert not intrinsic.is_scored
    assert intrinsic.constraint is None
    with open_chat(model, [{"role": "user", "content": "Hi"}]) as chat:
        verdict = chat.check("free")
    assert verdict.text == verdict.result
    assert (verdict.label, verdict.value, dict(verdict.probabilities)) == (None, None, {})


def test_free_text_has_a_limit(model: Model, adapter_paths: list[Path], tmp_path: Path) -> None:
    load(model, adapter_paths[0], tmp_path, "short", {"parameters": {"max_completion_tokens": 2}})
    with open_chat(model, [{"role": "user", "content": "Hi"}]) as chat:
        verdict = chat.check("short")
        assert verdict.truncated
        chat.check("short", keep=True)
        assert len(chat.transcript.generated[1][1]) == 2


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("model: null\nresponse_format: null\nanswers: 3\ntransformations: null\n", r"line 3.*answers"),
        ("model: null\nresponse_format: '{'\ntransformations: null\n", r"line 2.*response_format"),
        ("model: [\n", r"line \d"),
        ("model: null\n", "response_format"),
        ("model: null\nresponse_format: {type: 7}\ntransformations: null\n", "schema"),
        ("model: null\nresponse_format: {enum: []}\ntransformations: null\n", "schema"),
        ("", "io.yaml"),
    ],
)
def test_an_io_yaml_that_makes_no_sense_names_itself(model: Model, adapter: Path, text: str, match: str) -> None:
    path = adapter.with_name("bad.io.yaml")
    path.write_text(text)
    before = dict(model.intrinsics)
    with pytest.raises(AdapterError, match=f"(?s){match}"):
        model.load_intrinsic(adapter, name="bad", io_yaml=path)
    with pytest.raises(AdapterError, match=rf"(?s)alora\.io_yaml.*|{match}"):
        model.load_intrinsic(
            rewrite_gguf(adapter, adapter.with_name("bad.gguf"), alora__io_yaml=Key(text, Kind.STRING)), name="bad"
        )
    assert dict(model.intrinsics) == before


def test_an_io_yaml_that_cannot_be_read(model: Model, adapter: Path) -> None:
    with pytest.raises(FileNotFoundError):
        model.load_intrinsic(adapter, io_yaml=adapter.with_name("missing"))
    binary = adapter.with_name("binary")
    binary.write_bytes(b"model: \xff\xfe")
    with pytest.raises(AdapterError, match=r"binary is no UTF-8 text: .* at byte 7"):
        model.load_intrinsic(adapter, io_yaml=binary)


def test_names(model: Model, adapter: Path) -> None:
    assert model.load_intrinsic(adapter).name == "random-0"
    one = model.load_intrinsic(adapter, name="one")
    assert (one.name, repr(one)) == ("one", "Intrinsic('one')")
    assert model.intrinsic("ONE") is model.intrinsic("one") is one
    other = model.load_intrinsic(adapter, name="One")
    assert model.intrinsic("One") is other
    assert model.intrinsic("one") is one
    # Two are meant alike: neither is guessed.
    with pytest.raises(AdapterNotFoundError, match="'ONE'"):
        model.intrinsic("ONE")
    again = model.load_intrinsic(adapter, name="one")
    assert model.intrinsic("one") is again


@pytest.mark.parametrize(("length", "is_scored"), [(50, True), (52, False)])
def test_answers_that_take_many_rows_are_written(
    model: Model, adapter: Path, tmp_path: Path, length: int, is_scored: bool
) -> None:
    """A token a character: an answer of n characters has n - 1 beginnings, and 256 rows are the most."""
    choices = [letter * (length + 1) for letter in "abcde"]
    (tmp_path / "long.yaml").write_text(io_yaml(*choices))
    intrinsic = model.load_intrinsic(adapter, name="long", io_yaml=tmp_path / "long.yaml")
    assert len(text_tokens(choices[0])) == length + 1
    assert intrinsic.is_scored == is_scored
    with open_chat(model, [{"role": "user", "content": "Hi"}]) as chat:
        verdict = chat.check("long")
    assert verdict.text in choices
    assert verdict.label == verdict.text


@pytest.mark.parametrize(
    ("invocation", "tokens"),
    [
        (None, list(INVOCATION)),
        ("<certainty>", text_tokens("<certainty>")),
        (ASSISTANT, template_tokens(ASSISTANT)),
        ((9, 10), [9, 10]),
        ([9], [9]),
        ((), []),
        ("", []),
    ],
)
@pytest.mark.parametrize("activation", ["start", "end"])
def test_invocations(model: Model, adapter: Path, invocation: Any, tokens: list[int], activation: Any) -> None:
    intrinsic = model.load_intrinsic(adapter, invocation=invocation, activation=activation)
    assert list(intrinsic.invocation) == tokens
    assert intrinsic.activation_offset == (max(0, len(tokens) - 1) if activation == "end" else 0)


def test_a_legacy_offset_stays_within_the_invocation(model: Model, adapter: Path) -> None:
    legacy = rewrite_gguf(adapter, adapter.with_name("legacy.gguf"), alora__activation_offset=Key(1, Kind.UINT32))
    assert model.load_intrinsic(legacy).activation_offset == 1
    assert model.load_intrinsic(legacy, activation="end").activation_offset == 2
    assert model.load_intrinsic(legacy, invocation=(9,)).activation_offset == 0
    assert model.load_intrinsic(legacy, invocation=()).activation_offset == 0


def test_an_ordinary_lora_needs_to_be_told_where_it_begins(model: Model, tmp_path: Path) -> None:
    lora = adapter_file(make_model("llama"), invocation=None).write(tmp_path / "lora.gguf")
    with pytest.raises(AdapterError, match=r"no invocation tokens: .* invocation=\(\)"):
        model.load_intrinsic(lora)
    assert model.load_intrinsic(lora, invocation=()).invocation == ()
    assert list(model.load_intrinsic(lora, invocation="<x>").invocation) == text_tokens("<x>")


def test_options_outside_what_they_may_be(model: Model, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="activation is 'middle', expected 'start' or 'end'"):
        model.load_intrinsic(adapter, activation="middle")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="compat is 'vllm', expected None or 'granite-common'"):
        model.load_intrinsic(adapter, compat="vllm")  # type: ignore[arg-type]
    for token in (99999, N_VOCAB, -1):
        with pytest.raises(TokenError, match=f"token {token}, expected 0 to {N_VOCAB - 1}"):
            model.load_intrinsic(adapter, invocation=(9, token))
    with pytest.raises(AdapterError):
        model.load_intrinsic(tmp_path / "missing.gguf")
    with pytest.raises(ConversionError, match=r"adapter_config\.json"):
        model.load_intrinsic(tmp_path)


@pytest.mark.parametrize(
    ("schema", "labels"),
    [
        ({"enum": ["yes", "no"]}, ("yes", "no")),
        ({"enum": [0, 1, 2]}, ("0", "1", "2")),
        ({"type": "boolean"}, ("true", "false")),
        ({"type": "integer", "minimum": 1, "maximum": 3}, ("1", "2", "3")),
        ({"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}, ("x", "y")),
        (
            {
                "type": "object",
                "properties": {"k": {"const": "same"}, "a": {"enum": ["x", "y"]}},
                "required": ["k", "a"],
            },
            ("x", "y"),
        ),
        (
            {
                "type": "object",
                "properties": {"a": {"enum": ["x", "y"]}, "b": {"enum": ["x", "y"]}},
                "required": ["a", "b"],
            },
            tuple(f'{{"a": "{a}", "b": "{b}"}}' for a in "xy" for b in "xy"),
        ),
        ({"enum": ["1", 1]}, ('"1"', "1")),
    ],
)
def test_labels_are_what_tells_answers_apart(
    model: Model, adapter: Path, tmp_path: Path, schema: dict[str, Any], labels: tuple[str, ...]
) -> None:
    intrinsic = load(model, adapter, tmp_path, "closed", {"response_format": json.dumps(schema)})
    assert intrinsic.is_scored
    assert set(intrinsic.labels) == set(labels)
    with open_chat(model, [{"role": "user", "content": "Hi"}]) as chat:
        verdict = chat.check("closed")
    assert set(verdict.probabilities) == set(labels)
    assert verdict.label in labels
    assert sum(verdict.probabilities.values()) == pytest.approx(1.0)
    assert verdict.result == json.loads(verdict.text)


def test_closing_the_model_forgets_its_intrinsics(model_path: Path, adapter: Path) -> None:
    model = Model(model_path)
    model.load_intrinsic(adapter, name="one")
    model.close()
    assert not model.intrinsics
    with pytest.raises(AdapterNotFoundError, match="there are: none"):
        model.intrinsic("one")
