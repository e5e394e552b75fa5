"""`alora-cli list`: what is found for a model, as a table and as JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from alora_cpp.bundled_model import BUNDLED, bundled_adapters
from alora_cpp.cli.main import main
from oracle.tiny_models import AdapterSpec, write_adapter
from tiny import INVOCATION, adapter_file, base_named

if TYPE_CHECKING:
    from oracle.tiny_models import TinyModel

pytestmark = pytest.mark.usefixtures("cache_home")


@pytest.fixture
def model_file(tmp_path: Path, model_path: Path, tiny_model: TinyModel) -> Path:
    """The tiny model, with one adapter of every kind beside it."""
    folder = tmp_path / "models"
    folder.mkdir()
    write_adapter(tiny_model, AdapterSpec(), folder / "model.intrinsics" / "safety")
    adapter_file(tiny_model).write(folder / "model.safety.gguf", **base_named("elsewhere-8b"))
    adapter_file(tiny_model).write(folder / "model.intrinsics" / "Safety.gguf")
    adapter_file(tiny_model, invocation=None).write(folder / "model.plain.gguf")
    return Path(shutil.copy(model_path, folder / "model.gguf"))


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["list", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_json_has_all_that_was_looked_at(model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = json.loads(listed(capsys, str(model_file), "--json"))
    assert printed["model"] == str(model_file)
    beside = [one for one in printed["adapters"] if one["from"] == "beside the model"]
    folder = model_file.with_name("model.intrinsics")
    # The first tokens behind the control tokens.
    called = {"text": " \n!", "tokens": list(INVOCATION)}

    def fits(name: str, path: Path, taken: bool, invocation: dict[str, Any]) -> dict[str, Any]:
        facts = {"name": name, "from": "beside the model", "path": str(path), "fits": True, "why_not": None}
        return facts | {"taken": taken, "invocation": invocation}

    plain, refused, first, second = beside
    assert plain == fits("plain", model_file.with_name("model.plain.gguf"), True, {"text": "", "tokens": []})
    assert (refused["fits"], refused["taken"], refused["invocation"]) == (False, False, None)
    assert "elsewhere-8b" in refused["why_not"]
    # For its own spelling each is taken.
    assert first == fits("Safety", folder / "Safety.gguf", True, called)
    assert second == fits("safety", folder / "safety", True, called)
    others = [one for one in printed["adapters"] if one not in beside]
    assert [(one["name"], one["from"], one["fits"]) for one in others] == [
        (name, "bundled", False) for name in sorted(bundled_adapters())
    ]


def test_the_table_says_which_is_taken_and_why_others_are_not(
    model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (model_file.with_name("model.intrinsics") / "Safety.gguf").rename(model_file.with_name("model.harm.gguf"))
    shutil.copy(model_file.with_name("model.harm.gguf"), model_file.parent / "model.intrinsics" / "harm.gguf")
    lines = listed(capsys, str(model_file)).splitlines()
    assert lines[0].split() == ["intrinsic", "from", "state", "called", "by", "path"]
    rows = [line.split() for line in lines[1:]]
    assert [(row[0], row[4]) for row in rows if row[1:4] == ["beside", "the", "model"]] == [
        ("harm", "taken"),
        ("plain", "taken"),
        ("safety", "does"),
        ("harm", "fits"),
        ("safety", "taken"),
    ]
    plain = next(line for line in lines if line.startswith("plain"))
    assert "nothing" in plain
    reason = next(line for line in lines if line.startswith(f"{model_file.with_name('model.safety.gguf')}: "))
    assert "elsewhere-8b" in reason


def test_the_bundled_model(capsys: pytest.CaptureFixture[str]) -> None:
    lines = listed(capsys, "bundled").splitlines()
    assert [line.split()[0] for line in lines[1:]] == sorted(bundled_adapters())
    for line in lines[1:]:
        assert line.split()[4] == "taken"
        assert f"<|start_of_role|>{line.split()[0]}<|end_of_role|>" in line
        assert line.endswith(f"{BUNDLED.stem}.{line.split()[0]}.gguf")


def test_a_model_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "none.gguf"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "none.gguf" in captured.err
