"""Contenders in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.peers.contender import CannotDoError, Files, Loaded, Setting, Step

_ROOT = Path(__file__).parents[2]
_LOG_TAIL = 2000


class WorkerFailedError(Exception):
    """A contender's process ended; its text has the end of its log."""


class Remote:
    """A contender in another process, to be used as if it were here.

    Args:
        name: The contender's.
        log: Where what it prints goes.
        command: What starts the process, without the name.
    """

    def __init__(self, name: str, log: Path, command: Sequence[str]) -> None:
        self.name = name
        self.waiting_seconds = 0.0
        self._log = log
        with log.open("w", encoding="utf-8") as printed:
            self._process = subprocess.Popen(
                [*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=printed, text=True, cwd=_ROOT
            )

    def load(self, files: Files, setting: Setting) -> Loaded:
        """See `Contender`."""
        paths = json.loads(json.dumps(asdict(files), default=str))
        return Loaded(**self._call("load", files=paths, setting=asdict(setting)))

    def begin(self, tokens: Sequence[int]) -> Step:
        """See `Contender`."""
        return self._step("begin", tokens=list(tokens))

    def extend(self, tokens: Sequence[int]) -> Step:
        """See `Contender`."""
        return self._step("extend", tokens=list(tokens))

    def write(self, count: int) -> Step:
        """See `Contender`."""
        return self._step("write", count=count)

    def ask(self, adapters: Sequence[int], count: int) -> Step:
        """See `Contender`."""
        return self._step("ask", adapters=list(adapters), count=count)

    def guard(self, adapters: Sequence[int], count: int, every: int) -> Step:
        """See `Guarding`; one that cannot ask while it writes does both in turns."""
        return self._step("guard", adapters=list(adapters), count=count, every=every)

    def compute(self, rows: int, adapters: Sequence[int]) -> Step:
        """See `Batching`."""
        return self._step("compute", rows=rows, adapters=list(adapters))

    def memory(self) -> dict[str, int]:
        """See `worker.memory`."""
        found: dict[str, int] = self._call("memory")
        return found

    def close(self) -> None:
        """Ends the process: it stops when nothing more can come."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
        self._process.wait()

    def __enter__(self) -> Remote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._process.kill()
        self.close()

    def _step(self, call: str, **arguments: Any) -> Step:
        return Step(**self._call(call, **arguments))

    def _call(self, call: str, **arguments: Any) -> Any:
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        try:
            requests.write(json.dumps({"call": call, "arguments": arguments}) + "\n")
            requests.flush()
            line = answers.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerFailedError(
                f"{self.name} ended with exit status {self._process.wait()} at `{call}`. Mend what it says, or leave "
                f"it out of --contenders. The end of {self._log}:\n{_tail(self._log)}"
            )
        answer = json.loads(line)
        self.waiting_seconds += answer["waiting"]
        if "cannot" in answer:
            raise CannotDoError(answer["cannot"])
        return answer["result"]


def _tail(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL:].strip()


@contextmanager
def started(names: Sequence[str], log_folder: Path, command: Sequence[str] = ()) -> Iterator[dict[str, Remote]]:
    """Processes of contenders, by name; they are ended together.

    Args:
        names: The contenders.
        log_folder: Where what they print goes, a file each.
        command: What starts a process, without the name; the worker of this package if empty.
    """
    command = command or (sys.executable, "-m", "benchmarks.peers.worker")
    log_folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        yield {name: stack.enter_context(Remote(name, log_folder / f"{name}.log", command)) for name in names}
