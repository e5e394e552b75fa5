"""What the tests of the installed library share."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUNDLED = ROOT / "python/alora_cpp/bundled"


def run(command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Runs a command that must succeed, with the environment's variables and `env`; what it wrote to stdout."""
    done = subprocess.run(command, cwd=cwd, env=os.environ | (env or {}), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def needs(tool: str) -> str:
    """A program's path; the test is skipped where there is none."""
    found = shutil.which(tool)
    if found is None:
        pytest.skip(f"needs {tool}")
    return found
