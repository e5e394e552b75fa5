"""The whole run, from nothing to a report, with our own contenders on a tiny model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.peers.results import read_results

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.peers", "--cache", str(folder), "--out", str(folder / "results.json")]
    command += ["--shape", "tiny", "--quantization", "q8_0", "--contenders", "ours", "ours-one-by-one"]
    command += ["--prompts", "32", "--works", "return", "guarded", "--threads", "1", *more]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)


def test_from_nothing_to_a_report(tmp_path: Path) -> None:
    first = run(tmp_path, "--rounds", "1")
    assert first.returncode == 0, first.stderr
    results = read_results(tmp_path / "results.json")
    assert [one.key for one in results.rounds] == [(work, 32, n) for work in ("return", "guarded") for n in (0, 1)]
    steps = results.rounds[1].steps["ours"]
    assert [(name, step.evaluated, len(step.tokens)) for name, step in steps.items()] == [
        ("prompt", 32, 0),
        ("verdicts", 12, 3),
        ("turn", 0, 0),
        ("base", 31, 16),
    ]
    held = results.contenders["ours"]
    assert held["kv"] < held["weights"] < held["peak"]

    more = run(tmp_path, "--rounds", "2")
    assert more.returncode == 0, more.stderr
    again = read_results(tmp_path / "results.json")
    assert again.rounds[:4] == results.rounds
    assert [one.key for one in again.rounds[4:]] == [("return", 32, 2), ("guarded", 32, 2)]

    nothing = run(tmp_path, "--rounds", "2")
    assert nothing.returncode == 1
    assert "has all of these rounds already" in nothing.stderr
    assert "threads 1, not 2" in run(tmp_path, "--threads", "2").stderr

    command = [sys.executable, "-m", "benchmarks.peers.report", str(tmp_path / "results.json")]
    report = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=True)
    assert "| tokens read again when the base goes on after checks, ours | 32 | 0 |" in report.stdout
