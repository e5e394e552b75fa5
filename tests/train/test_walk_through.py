"""The commands of docs/train.md, as they stand there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]


def test_walk_through(tmp_path: Path) -> None:
    """From 300 lines to an adapter that knows about things it has never heard of."""
    for name in ("torch", "transformers", "peft", "accelerate"):
        pytest.importorskip(name)
    text = (ROOT / "docs/train.md").read_text(encoding="utf-8")
    (commands,) = re.findall(r"^```sh walk-through\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    shutil.copytree(ROOT / "examples/train", tmp_path / "examples/train")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["sh", "-e", "-c", commands],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "train.jsonl").read_text().splitlines()) == 300
    assert re.search(r"^question +Y +", done.stdout, re.MULTILINE), done.stdout

    command = ["alora-cli", "eval", "bundled", "--adapter", "question=question/question.gguf", "--data", "test.jsonl"]
    measured = subprocess.run(
        [*command, "--intrinsic", "question", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    overall = json.loads(measured.stdout)["intrinsics"]["question"]["overall"]
    assert overall["n"] == 200
    assert overall["figures"]["error"]["value"] < 0.15
