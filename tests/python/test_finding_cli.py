"""Intrinsics found by name on the command line: run and chat, --adapter, --force, and what they say."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from alora_cpp.bundled_model import BUNDLED
from alora_cpp.cli.main import main
from tiny import base_named, rewrite_gguf

pytestmark = pytest.mark.usefixtures("cache_home")

OTHER_BASE = base_named("elsewhere-8b")
NO_PRINTS = {"alora__base__weights": None, "alora__base__vocabulary": None}


def bundled_adapter(name: str) -> Path:
    return BUNDLED.with_name(f"{BUNDLED.stem}.{name}.gguf")


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """The bundled model elsewhere, with an adapter beside it that says it is for another base."""
    path = Path(shutil.copy(BUNDLED, tmp_path / "granite-Q8_0.gguf"))
    rewrite_gguf(bundled_adapter("safety"), tmp_path / "granite.harm.gguf", **OTHER_BASE, **NO_PRINTS)
    shutil.copy(bundled_adapter("certainty"), tmp_path / "granite.uncertainty.gguf")
    return path


def verdicts(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, object]]:
    assert main(["run", *arguments, "--prompt", "Hello", "--json", "-t", "1"]) == 0
    found: dict[str, dict[str, object]] = json.loads(capsys.readouterr().out)["verdicts"]
    return found


def test_run_finds_what_is_asked_for(model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = verdicts(capsys, str(model_file), "--intrinsic", "certainty,safety")
    assert list(found) == ["certainty", "safety"]
    given = [f"--adapter={name}={bundled_adapter(name)}" for name in ("certainty", "safety")]
    expected = verdicts(capsys, str(model_file), "--intrinsic", "certainty,safety", *given)
    for name in found:
        assert found[name]["probabilities"] == expected[name]["probabilities"]


def test_what_is_given_comes_before_what_is_found(model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The adapter given answers with other labels than the one found."""
    given = f"uncertainty={bundled_adapter('safety')}"
    found = verdicts(capsys, str(model_file), "--intrinsic", "certainty", "--adapter", given)
    probabilities = found["certainty"]["probabilities"]
    assert isinstance(probabilities, dict)
    assert set(probabilities) == {"Y", "N"}


def test_force(model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", str(model_file), "--prompt", "Hello", "-t", "1", "--intrinsic"]
    given = ["--adapter", f"mine={model_file.with_name('granite.harm.gguf')}"]
    for asked in (["harm"], ["mine", *given], ["safety", *given]):
        assert main([*arguments, *asked]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert "elsewhere-8b" in captured.err
        assert main([*arguments, *asked, "--force"]) == 0
        assert capsys.readouterr().out.splitlines()[1].startswith(asked[0])


def test_nothing_found_is_one_line_that_says_what_to_do(model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(model_file), "--prompt", "x", "--intrinsic", "citations"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("alora-cli: error: no intrinsic 'citations' was found for granite-Q8_0.gguf")
    assert captured.err.count("\n") == 1
    for part in ("alora-cli pull", "--adapter citations=PATH", "granite.citations.gguf", "uncertainty"):
        assert part in captured.err


def test_a_folder_for_a_switch_model_must_exist(model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["list", str(model_file), "--switch-folder", "nowhere"])
    assert caught.value.code == 2
    assert "'nowhere' is no folder" in capsys.readouterr().err
    assert main(["list", str(model_file), "--switch-folder", str(model_file.parent)]) == 1
    assert "expected a Granite Switch model, found granite" in capsys.readouterr().err


class TestChat:
    def chat(self, *arguments: str, lines: str = "Hello\n") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "alora_cpp.cli.main", "chat", *arguments, "-t", "1", "-n", "4"]
        return subprocess.run(command, input=lines, capture_output=True, text=True, env=dict(os.environ))

    def asked(self, result: subprocess.CompletedProcess[str]) -> list[list[str]]:
        """Which intrinsics the lines of verdicts are from."""
        assert (result.returncode, result.stderr) == (0, "")
        lines = [line for line in result.stdout.splitlines() if line.startswith("  ")]
        return [[verdict.split()[0] for verdict in re.split(" {3}", line.strip())] for line in lines]

    def test_without_names_it_asks_all_that_judge(self, model_file: Path, tmp_path: Path) -> None:
        """Neither what does not fit, nor what rewrites, nor a second time what another name or variant asks."""
        assert self.asked(self.chat(str(model_file))) == [["jailbreak", "safety"], ["uncertainty"]]
        document = tmp_path / "document.txt"
        document.write_text("The Lantern Museum opened in 1894.")
        by_documents = [["answerability", "jailbreak", "safety"], ["hallucination", "uncertainty"]]
        assert self.asked(self.chat(str(model_file), "--documents", str(document))) == by_documents

    def test_what_is_named_or_given_is_asked_whatever_it_is(self, model_file: Path) -> None:
        names = "hallucination,query_rewrite,safety_sentence"
        asked = self.asked(self.chat(str(model_file), "--intrinsic", names))
        assert asked == [["query_rewrite", "safety_sentence"], ["hallucination"]]
        given = f"safety_sentence={bundled_adapter('safety_sentence')}"
        assert "safety_sentence" in self.asked(self.chat(str(model_file), "--adapter", given))[0]

    def test_a_name_that_only_looks_like_a_variant_is_asked(self, model_file: Path) -> None:
        shutil.copy(bundled_adapter("certainty"), model_file.with_name("granite.poetry_long.gguf"))
        assert self.asked(self.chat(str(model_file)))[1] == ["poetry_long", "uncertainty"]
        shutil.copy(bundled_adapter("certainty"), model_file.with_name("granite.poetry.gguf"))
        assert self.asked(self.chat(str(model_file)))[1] == ["poetry", "uncertainty"]

    def test_what_was_given_is_not_found_again_under_another_name(self, model_file: Path) -> None:
        result = self.chat(str(model_file), "--adapter", f"certainty={bundled_adapter('certainty')}")
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.count("certainty") == 1
        assert "uncertainty" not in result.stdout

    def test_an_adapter_that_cannot_be_asked_is_left_out(self, model_file: Path) -> None:
        lora = {"adapter__alora__invocation_tokens": None, "alora__invocation_pieces": None}
        rewrite_gguf(bundled_adapter("safety"), model_file.with_name("granite.plain.gguf"), **lora)
        result = self.chat(str(model_file))
        assert result.returncode == 0
        assert result.stderr.startswith("alora-cli: plain is left out: ")
        assert "ordinary LoRA" in result.stderr
        assert len(result.stdout.splitlines()) == 3

    def test_what_is_asked_for_later_is_found_then(self, model_file: Path) -> None:
        result = self.chat(str(model_file), "--intrinsic", "uncertainty", lines="Hello\n/check safety\n/check poetry\n")
        assert result.returncode == 1
        assert result.stdout.splitlines()[2].startswith("  safety ")
        assert "no intrinsic 'poetry' was found" in result.stderr

    def test_guards_are_found_too(self, model_file: Path) -> None:
        result = self.chat(str(model_file), "--intrinsic", "uncertainty", "--guard", "hallucination")
        assert result.returncode == 0, result.stderr
