"""The command line: what goes where, exit codes, and one line for every error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from alora_cpp.bundled_model import BUNDLED, bundled_adapters
from alora_cpp.cli.conversations import read_conversations
from alora_cpp.cli.main import main

if TYPE_CHECKING:
    from oracle.tiny_models import TinyModel

MESSAGES = [{"role": "user", "content": "When did it open?"}, {"role": "assistant", "content": "It opened in 1894."}]
DOCUMENT = "The Lantern Museum opened in 1894."


def alora_cli(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "alora_cpp.cli.main", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, env={**os.environ, **environment})


def fails(result: subprocess.CompletedProcess[str], found: str) -> None:
    assert result.returncode == 1, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("alora-cli: error: ")
    assert result.stderr.count("\n") == 1
    assert found in result.stderr


@pytest.fixture
def conversation(tmp_path: Path) -> Path:
    file = tmp_path / "conversation.json"
    file.write_text(json.dumps({"messages": MESSAGES, "documents": [{"text": DOCUMENT}]}))
    return file


def test_run_prints_a_table_and_what_it_took(conversation: Path) -> None:
    result = alora_cli("run", "bundled", str(conversation), "--intrinsic", "hallucination,certainty")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["intrinsic", "answer", "probability", "value"]
    assert [line.split()[0] for line in lines[1:3]] == ["hallucination", "certainty"]
    assert "tokens reused" in lines[3]
    assert "\x1b" not in result.stdout
    assert result.stderr == ""


def test_run_as_json_from_stdin_with_documents_from_a_file(tmp_path: Path) -> None:
    document = tmp_path / "document.txt"
    document.write_text(DOCUMENT)
    lines = "\n".join(json.dumps(message) for message in MESSAGES)
    result = alora_cli(
        "run", "bundled", "-", "--intrinsic", "hallucination", "--documents", str(document), "--json", stdin=lines
    )
    assert result.returncode == 0, result.stderr
    printed = json.loads(result.stdout)
    verdict = printed["verdicts"]["hallucination"]
    assert set(verdict["probabilities"]) == {"Y", "N"}
    assert verdict["tokens_reused"] == printed["tokens"]
    assert set(printed["seconds"]) == {"load", "read", "check"}


def test_a_line_for_each_conversation_of_a_jsonl_file(tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    file.write_text("".join(json.dumps({"messages": MESSAGES[:1]}) + "\n" for _ in range(3)))
    result = alora_cli("run", "bundled", str(file), "--intrinsic", "safety", "--json")
    assert len([json.loads(line) for line in result.stdout.splitlines()]) == 3


def test_only_newlines_end_a_line_of_a_jsonl_file(tmp_path: Path) -> None:
    """Tried with: str.splitlines, which ends lines within texts, too."""
    texts = ["one\u2028two", "three\u0085four", "five\u2029six"]
    lines = [json.dumps({"messages": [{"role": "user", "content": text}]}, ensure_ascii=False) for text in texts]
    file = tmp_path / "many.jsonl"
    for end in ("\n", "\r\n"):
        file.write_bytes(end.join(["", *lines, ""]).encode())
        assert [one.messages[0]["content"] for one in read_conversations(str(file))] == texts


def test_an_adapter_by_name_and_path() -> None:
    path = BUNDLED.with_name("alora-tiny.safety.gguf")
    result = alora_cli("run", str(BUNDLED), "--prompt", "Hello", "--intrinsic", "mine", "--adapter", f"mine={path}")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[1].startswith("mine")


def test_verbose_shows_llama_cpp_on_stderr_only() -> None:
    quiet = alora_cli("run", "bundled", "--prompt", "Hello", "--intrinsic", "safety", "--json")
    loud = alora_cli("run", "bundled", "--prompt", "Hello", "--intrinsic", "safety", "--json", "-v")
    assert quiet.stderr == ""
    assert "llama_model_loader" in loud.stderr
    assert json.loads(loud.stdout)["verdicts"].keys() == json.loads(quiet.stdout)["verdicts"].keys()


@pytest.mark.parametrize("arguments", [["show", "bundled"], ["show", str(BUNDLED.with_name("alora-tiny.safety.gguf"))]])
def test_show_as_text_and_json(arguments: list[str]) -> None:
    text, as_json = alora_cli(*arguments), alora_cli(*arguments, "--json")
    facts = json.loads(as_json.stdout)
    assert facts["architecture"] == "granite"
    assert facts["name"] in text.stdout
    if facts["kind"] == "adapter":
        assert facts["rank"] == [32]
        assert facts["targets"] == ["attn_k", "attn_q", "attn_v"]
        assert facts["invocation"]


def test_convert_writes_an_adapter_that_runs(tmp_path: Path, tiny_model: TinyModel, model_path: Path) -> None:
    from oracle.tiny_models import ATTENTION, AdapterSpec, write_adapter

    folder = write_adapter(tiny_model, AdapterSpec(targets=ATTENTION, rank=4), tmp_path / "peft")
    out = tmp_path / "adapter.gguf"
    result = alora_cli("convert", str(folder), "--outfile", str(out), "--base", str(model_path), "--outtype", "f32")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str(out)
    assert json.loads(alora_cli("show", str(out), "--json").stdout)["rank"] == [4]


class TestFailures:
    """Bad input: exit code 1, one line on stderr that names what was found."""

    def test_missing_files(self, tmp_path: Path) -> None:
        fails(alora_cli("run", "none.gguf", "--prompt", "x", "--intrinsic", "safety"), "none.gguf")
        fails(alora_cli("run", "bundled", str(tmp_path / "none.json"), "--intrinsic", "safety"), "none.json")
        fails(alora_cli("show", "none.gguf"), "none.gguf")

    def test_unknown_intrinsic(self) -> None:
        others = f"other names there: {', '.join(sorted(bundled_adapters()))}"
        fails(alora_cli("run", "bundled", "--prompt", "x", "--intrinsic", "nothing"), others)

    @pytest.mark.parametrize("size", [0, 3, 100, 5000, 200_000])
    def test_truncated_model(self, tmp_path: Path, size: int) -> None:
        file = tmp_path / "short.gguf"
        file.write_bytes(BUNDLED.read_bytes()[:size])
        fails(alora_cli("run", str(file), "--prompt", "x", "--intrinsic", "safety"), "short.gguf")
        if size < 5000:
            fails(alora_cli("show", str(file)), "short.gguf")

    @pytest.mark.parametrize("size", [0, 100, 3000, 100_000])
    def test_truncated_adapter(self, tmp_path: Path, size: int) -> None:
        file = tmp_path / "short.gguf"
        file.write_bytes(BUNDLED.with_name("alora-tiny.safety.gguf").read_bytes()[:size])
        arguments = ["run", "bundled", "--prompt", "x", "--intrinsic", "a", "--adapter", f"a={file}"]
        fails(alora_cli(*arguments), "short.gguf")

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("", "is empty"),
            ("[]", "the list of messages is empty"),
            ('{"messages": []}', "the list of messages is empty"),
            ("nonsense", "neither JSON nor JSON lines"),
            ('{"role": "user"}', "expected a mapping with 'role' and 'content'"),
            ("[3]", "expected a mapping with 'role' and 'content'"),
            ('"text"', "expected a list of messages"),
            ('{"role": "user", "content": "x"}\n{broken', "line 2"),
        ],
    )
    def test_bad_messages(self, text: str, found: str) -> None:
        fails(alora_cli("run", "bundled", "-", "--intrinsic", "safety", stdin=text), found)

    def test_invalid_utf8(self, tmp_path: Path) -> None:
        file = tmp_path / "latin1.json"
        file.write_bytes(b'[{"role": "user", "content": "caf\xe9"}]')
        fails(alora_cli("run", "bundled", str(file), "--intrinsic", "safety"), "not UTF-8")

    def test_too_small_a_context(self) -> None:
        fails(alora_cli("run", "bundled", "--prompt", "x", "--intrinsic", "safety", "-c", "1"), "1 cells")
        fails(alora_cli("run", "bundled", "--prompt", "x " * 500, "--intrinsic", "safety", "-c", "64"), "64 cells")
        fails(alora_cli("run", "bundled", "--prompt", "x", "--intrinsic", "safety", "-c", "-5"), "n_ctx is -5")

    def test_a_folder_that_is_no_adapter(self, tmp_path: Path) -> None:
        out = tmp_path / "out.gguf"
        fails(alora_cli("convert", str(tmp_path), "--outfile", str(out)), "adapter_config.json")
        assert not out.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["run"],
        ["run", "bundled", "--intrinsic", "safety"],
        ["run", "bundled", "x.json", "--prompt", "x", "--intrinsic", "safety"],
        ["run", "bundled", "--prompt", "x", "--intrinsic", ","],
        ["run", "bundled", "--prompt", "x", "--intrinsic", "a", "--adapter", "a"],
        ["convert", "x", "--outfile", "y", "--outtype", "q3"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    result = alora_cli(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "usage" in result.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("alora-cli ")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_exits_with_130() -> None:
    command = [sys.executable, "-m", "alora_cpp.cli.main", "run", "bundled", "-", "--intrinsic", "safety"]
    # A shell starts background jobs with the signal ignored, which children inherit.
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, ignored)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stderr == b""
