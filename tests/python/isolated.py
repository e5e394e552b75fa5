"""What the tests of isolation share: worker processes, watched from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# Generous: for what takes milliseconds.
LIMIT = 60


class Workers(list["subprocess.Popen[bytes]"]):
    """The worker processes started so far, in order."""

    @classmethod
    def noted(cls, monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> Workers:
        """Those that are started from now on with `module.Popen`."""
        started = cls()

        class Noted(subprocess.Popen):  # type: ignore[type-arg]
            def __init__(self, *arguments: Any, **options: Any) -> None:
                super().__init__(*arguments, **options)
                started.append(self)

        monkeypatch.setattr(module, "Popen", Noted)
        return started

    @property
    def latest(self) -> subprocess.Popen[bytes]:
        return self[-1]

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends the latest one a signal."""
        os.kill(self.latest.pid, number)


def wait_until(holds: Callable[[], bool]) -> None:
    """Waits for what has to come soon."""
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.005)


def is_running(pid: int) -> bool:
    """Whether a process exists that computes, or could; one that nobody has waited for yet does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    try:
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def run_script(script: str, *, code: int = 0) -> str:
    """What a process of its own prints; it has to end by itself, with this code, and complain of nothing."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", script], capture_output=True, text=True, check=False, timeout=LIMIT
    )
    assert done.returncode == code, done.stderr
    assert done.stderr == ""
    return done.stdout
