"""`alora-cli doctor`: what it finds, and what it says where something is wrong."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from alora_cpp import processor
from alora_cpp.cli import doctor_facts
from alora_cpp.cli.main import main
from alora_cpp.errors import BackendError

pytestmark = pytest.mark.usefixtures("cache_home")


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out what takes a process of its own."""
    monkeypatch.setattr(doctor_facts, "_try", lambda found: None)


def found(capsys: pytest.CaptureFixture[str], code: int) -> dict[str, Any]:
    assert main(["doctor", "--json"]) == code
    captured = capsys.readouterr()
    assert captured.err == ""
    facts: dict[str, Any] = json.loads(captured.out)
    return facts


def test_on_a_machine_in_order_all_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    facts = found(capsys, 0)
    assert facts["problems"] == []
    assert facts["processor"]["variant"] in [one["name"] for one in facts["processor"]["variants"]]
    assert facts["processor"]["features"] == list(processor.features())
    assert facts["processor"]["threads"] == processor.physical_cores()
    assert facts["versions"]["alora_cpp"]
    assert facts["memory"]["total"] > 0
    assert [one["backend"] for one in facts["devices"]].count("CPU") == 1
    assert facts["trial"]["label"]


@pytest.mark.usefixtures("untried")
def test_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert processor.chosen_variant()[0].name in text
    assert text.endswith("nothing is wrong\n")


@pytest.mark.skipif(sys.platform != "linux", reason="limits address space")
@pytest.mark.usefixtures("untried")
def test_memory_is_what_this_process_can_still_get(capsys: pytest.CaptureFixture[str]) -> None:
    """Tried with: what the machine has free, whatever the process may have."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_AS)
    room = 1 << 30
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + room, limits[1]))
    try:
        memory = found(capsys, 0)["memory"]
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert 0 < memory["available"] < 2 * room
    assert memory["total"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.usefixtures("untried")
def test_a_variant_that_cannot_be_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise BackendError("no kernels; install alora_cpp again")

    monkeypatch.setattr(processor, "chosen_variant", refuse)
    facts = found(capsys, 1)
    assert facts["problems"] == ["no kernels; install alora_cpp again"]
    assert facts["processor"]["variant"] is None
    assert main(["doctor"]) == 1
    assert "wrong: no kernels" in capsys.readouterr().out


@pytest.mark.usefixtures("untried")
def test_a_variant_that_was_passed_over_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    variant, _ = processor.chosen_variant()
    monkeypatch.setattr(processor, "chosen_variant", lambda: (variant, ["avx9: not there"]))
    assert found(capsys, 1)["problems"] == ["avx9: not there: install alora_cpp again"]


@pytest.mark.usefixtures("untried")
def test_a_module_that_cannot_be_loaded_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "alora_cpp.processor", None)
    (problem,) = found(capsys, 1)["problems"]
    assert "compiled module cannot be loaded" in problem
    assert main(["doctor"]) == 1


@pytest.mark.usefixtures("untried")
def test_a_cache_that_is_a_file_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    (problem,) = found(capsys, 1)["problems"]
    assert str(tmp_path / "file" / "hub") in problem
    assert "HF_HOME" in problem


@pytest.mark.usefixtures("untried")
def test_converted_adapters_are_counted(cache_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    converted = cache_home / "alora_cpp" / "converted"
    assert found(capsys, 0)["hub"]["converted"] == {"path": str(converted), "entries": 0, "bytes": 0}
    assert not converted.exists()
    assert main(["doctor"]) == 0
    assert "no adapters\n" in capsys.readouterr().out
    leftover = converted / ".converting-x" / "adapter.gguf"
    for file in (converted / "a.gguf", converted / "b.gguf", converted / "b.json", leftover):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * 500_000)
    assert found(capsys, 0)["hub"]["converted"] == {"path": str(converted), "entries": 2, "bytes": 2_000_000}
    assert main(["doctor"]) == 0
    assert f"2 adapters, 2.0 MB; to be rid of them, delete {converted}\n" in capsys.readouterr().out


@pytest.mark.usefixtures("untried")
def test_a_token_is_never_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert main(["doctor", "--json"]) == 0
    text = capsys.readouterr().out
    assert json.loads(text)["hub"]["token"] is True
    assert "secret" not in text


@pytest.mark.skipif(os.name != "posix", reason="a signal ends the process")
def test_a_crash_is_a_problem_and_not_our_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor_facts, "_TRIAL", "import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    (problem,) = found(capsys, 1)["problems"]
    assert "ended with -4" in problem
    assert ("ALORA_CPU_VARIANT" in problem) == (len(processor.variants()) > 1)
