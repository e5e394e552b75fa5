"""What built-in adapters are called, how they are asked and what invokes them: from the files beside a model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alora_cpp import AdapterError, Model
from alora_cpp.built_in import BuiltInIntrinsic, built_in_intrinsics
from tiny import Key, Kind, rewrite_gguf
from tiny_chats import TEMPLATE, text_tokens
from tiny_switch import ASSISTANT_PROMPT, NAMES, compose, control_token

IO = "model: null\nresponse_format: null\ntransformations: []\n"


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compose(tmp_path_factory.mktemp("names")).path


@pytest.fixture
def model(composed: Path, tmp_path: Path) -> Iterator[Model]:
    with Model(shutil.copy(composed, tmp_path / "m-Q4_K_M.gguf")) as model:
        yield model


def write(path: Path, content: str | dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def index(**changed: dict[str, Any]) -> dict[str, Any]:
    """The composer's index of the three adapters."""
    entries: dict[str, dict[str, Any]] = {
        name: {
            "adapter_index": number,
            "adapter_name": f"my-{name}",
            "technology": "alora",
            "control_token": {"token": f"<|{name}|>", "id": control_token(name)},
            "io_config": f"io_configs/my-{name}/io.yaml",
        }
        for number, name in enumerate(NAMES, start=1)
    }
    return {"model_info": {"num_adapters": 3}, "adapters": [entries[name] | changed.get(name, {}) for name in NAMES]}


def names(model: Model, **options: Path) -> list[str]:
    return [one.name for one in built_in_intrinsics(model, **options)]


def first(model: Model) -> BuiltInIntrinsic:
    return built_in_intrinsics(model)[0]


def test_the_control_tokens_text_where_nothing_else_says(model: Model) -> None:
    found = built_in_intrinsics(model)
    assert [one.name for one in found] == list(NAMES)
    assert [one.control_token for one in found] == [control_token(name) for name in NAMES]
    assert {one.substitute_token for one in found} == {ASSISTANT_PROMPT[0]}
    assert {one.invocation for one in found} == {ASSISTANT_PROMPT}
    assert {one.io_yaml for one in found} == {None}
    assert not any(one.governs_all for one in found)


def test_the_composers_index_beside_the_model(model: Model, tmp_path: Path) -> None:
    write(tmp_path / "adapter_index.json", index())
    io = write(tmp_path / "io_configs" / "my-safety" / "io.yaml", IO)
    assert names(model) == [f"my-{name}" for name in NAMES]
    assert [one.io_yaml for one in built_in_intrinsics(model)] == [None, io, None]
    assert model.load_intrinsic("my-safety").adapter.io_yaml == IO


def test_a_composed_checkpoints_folder_elsewhere(model: Model, tmp_path: Path) -> None:
    elsewhere = tmp_path / "checkpoint"
    io = write(elsewhere / "io_configs" / "safety" / "io.yaml", IO)
    assert built_in_intrinsics(model, elsewhere)[1].io_yaml == io
    write(elsewhere / "adapter_index.json", index())
    assert names(model, folder=elsewhere)[1] == "my-safety"


def test_a_folder_that_describes_other_adapters_is_told(model: Model, tmp_path: Path) -> None:
    elsewhere = tmp_path / "checkpoint"
    elsewhere.mkdir()
    with pytest.raises(AdapterError, match=r"checkpoint describes no adapters of .*<\|certainty\|>, <\|safety\|>"):
        built_in_intrinsics(model, elsewhere)
    write(elsewhere / "io_configs" / "safety" / "io.yaml", IO)
    write(elsewhere / "adapter_index.json", index(safety={"control_token": {"token": "<|sure|>", "id": 105}}))
    with pytest.raises(AdapterError, match="checkpoint describes no adapters of"):
        built_in_intrinsics(model, elsewhere)


def test_another_models_index_says_nothing(model: Model, tmp_path: Path) -> None:
    """Tried with: the control tokens' texts not compared."""
    write(tmp_path / "adapter_index.json", index(safety={"control_token": {"token": "<|sure|>", "id": 105}}))
    assert names(model) == list(NAMES)


def test_an_adapters_own_folder_beside_the_model(model: Model, tmp_path: Path) -> None:
    """It is found without the type of the model's numbers, and comes first."""
    own = tmp_path / "m.intrinsics" / "certainty"
    write(tmp_path / "io_configs" / "certainty" / "io.yaml", "model: other\n")
    io = write(own / "io.yaml", IO)
    write(own / "adapter_config.json", {"alora_invocation_tokens": [3, 9, 4]})
    found = first(model)
    assert (found.io_yaml, found.invocation) == (io, (3, 9, 4))
    assert model.load_adapter("certainty").invocation_tokens == (control_token("certainty"), 9, 4)


def test_an_io_yaml_beside_the_model_is_no_built_in_adapters(model: Model, tmp_path: Path) -> None:
    """It belongs to an adapter of its own. Tried with: `find_io_config` looking there for them, too."""
    write(tmp_path / "io.yaml", "not: known\n")
    assert model.load_intrinsic("certainty").config.instruction is None


def with_template(composed: Path, path: Path, template: str) -> Path:
    return rewrite_gguf(composed, path, tokenizer__chat_template=Key(template, Kind.STRING))


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"type": "alora", "invocation_text": "<|start_of_role|>sure"}, ("sure", (3, *text_tokens("sure")), False)),
        ({"type": "alora"}, ("sure", ASSISTANT_PROMPT, False)),
        ({"type": "lora"}, ("sure", (3,), True)),
    ],
)
def test_the_templates_table(
    composed: Path, tmp_path: Path, entry: dict[str, str], expected: tuple[str, tuple[int, ...], bool]
) -> None:
    table = {"sure": {"token": "<|certainty|>", **entry}}
    path = with_template(composed, tmp_path / "m.gguf", f"{{% set adapter_map = {table!r} %}}{TEMPLATE}")
    with Model(path) as model:
        assert names(model) == ["sure", *NAMES[1:]]
        found = first(model)
        assert (found.name, found.invocation, found.governs_all) == expected


@pytest.mark.parametrize("table", ["{'a': 1}", "{'a': {'token': 1}}", "names", "['a']"])
def test_tables_of_another_kind_say_nothing(composed: Path, tmp_path: Path, table: str) -> None:
    path = with_template(composed, tmp_path / "m.gguf", f"{{% set adapter_map = {table} %}}{TEMPLATE}")
    with Model(path) as model:
        assert names(model) == list(NAMES)


def test_what_the_model_contradicts_is_told(model: Model, tmp_path: Path) -> None:
    own = tmp_path / "m-Q4_K_M.intrinsics" / "safety"
    config = write(own / "adapter_config.json", {"alora_invocation_tokens": [9, 3]})
    with pytest.raises(AdapterError, match=r"adapter_config\.json says that \[9, 3\] invokes .* 'safety' .* token 3;"):
        built_in_intrinsics(model)
    for tokens in (None, [], [True], "3"):
        write(config, {"alora_invocation_tokens": tokens})
        with pytest.raises(AdapterError, match="expected a list of tokens"):
            built_in_intrinsics(model)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", r"cannot be read as JSON"),
        ("[]", r"holds no JSON object"),
        ('{"adapters": [{"adapter_name": "a"}]}', r"is not what the composer writes"),
        ('{"adapters": 3}', r"is not what the composer writes"),
        (json.dumps(index(safety={"adapter_name": 7})), r"is not what the composer writes"),
        (
            json.dumps(index(safety={"adapter_name": "my-certainty"})),
            r"named 'my-certainty'; expected names that differ",
        ),
        (json.dumps(index(safety={"adapter_name": "../up"})), r"named '\.\./up'; expected names .* of letters"),
        (json.dumps(index(safety={"adapter_name": "a,b"})), r"named 'a,b'; expected"),
    ],
)
def test_damaged_indices(model: Model, tmp_path: Path, content: str, match: str) -> None:
    write(tmp_path / "adapter_index.json", content)
    with pytest.raises(AdapterError, match=match):
        built_in_intrinsics(model)


def test_an_index_reaches_no_file_outside_its_folder(model: Model, tmp_path: Path) -> None:
    """Tried with: the path taken as it is."""
    write(tmp_path.parent / "secret.yaml", IO)
    write(tmp_path / "adapter_index.json", index(safety={"io_config": "../secret.yaml"}))
    assert [one.io_yaml for one in built_in_intrinsics(model)] == [None] * 3


def test_an_io_yaml_that_is_no_text(model: Model, tmp_path: Path) -> None:
    write(tmp_path / "io_configs" / "safety" / "io.yaml", IO).write_bytes(b"\xff\xfe")
    with pytest.raises(AdapterError, match=r"io\.yaml cannot be read .*expected an adapter's io\.yaml"):
        model.load_adapter("safety")
