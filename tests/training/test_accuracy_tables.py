"""The command that makes a results file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
from benchmarks.accuracy import tables
from benchmarks.accuracy.comparison import TASKS, configurations

pytestmark = pytest.mark.oracle


def call(monkeypatch: pytest.MonkeyPatch, out: Path, *more: str) -> None:
    arguments = ["tables", "--base", "no-base", "--measured", "nothing", "--out", str(out), "--tasks", "safety", *more]
    monkeypatch.setattr("sys.argv", arguments)
    tables.main()


@pytest.fixture
def results(tmp_path: Path) -> Path:
    settings = {"rates": [1e-3, 3e-3], "examples": 50_000, "real data": False}
    runs = [{"task": "safety", "seed": seed} for seed in (1, 2)]
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"environment": {}, "settings": settings, "runs": runs}))
    return file


def test_finished_runs_are_not_made_again(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = results.read_text()
    call(monkeypatch, results, "--seeds", "1", "2")
    assert results.read_text() == before


def test_runs_of_other_settings_are_not_mixed(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="name another file"):
        call(monkeypatch, results, "--examples", "7")


def test_a_run_that_fails_is_told(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="a run failed"):
        call(monkeypatch, results, "--seeds", "3")
    assert len(json.loads(results.read_text())["runs"]) == 2


@pytest.mark.parametrize("task", TASKS)
def test_members_have_names_of_their_own(task: str) -> None:
    names = [configuration.name for configuration in configurations(task)]
    assert len(set(names)) == len(names) == (16 if task == "hallucination" else 18)
