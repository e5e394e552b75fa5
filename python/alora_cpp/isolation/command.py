"""How a worker process is started."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from typing import IO

from alora_cpp.errors import WorkerCrashed

_FROZEN_MARK = "--alora-cpp-worker"
# The folder that a program was started in is not searched, whatever lies there.
_SCRIPT = "import sys; sys.path[:] = sys.argv[2:]; from alora_cpp.isolation.worker import main; main(sys.argv[1])"

_is_frozen_program_ready = False


def freeze_support() -> None:
    """For programs frozen to one executable: call this before anything else in the program's main module.

    Such a program is its own Python interpreter: the worker is the program again, which here becomes the worker, and
    returns never. Anywhere else, this does nothing.
    """
    global _is_frozen_program_ready
    _is_frozen_program_ready = True
    if getattr(sys, "frozen", False) and sys.argv[1:2] == [_FROZEN_MARK]:
        from alora_cpp.isolation.worker import main

        main(sys.argv[2])


def start_worker(memory: str, inherited: tuple[int, ...]) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """Starts a worker process.

    Never a copy of this one: its threads, and what they hold, would be missing there.

    Args:
        memory: How it opens the shared memory.
        inherited: File descriptors that it needs for that.

    Returns:
        The process, and a file that what it prints goes to.

    Raises:
        WorkerCrashed: It cannot be started.
    """
    said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
    try:
        process = subprocess.Popen(
            _command(memory),
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            pass_fds=inherited,
            # What a terminal sends to the host is not meant for its worker.
            start_new_session=True,
            creationflags=_without_window(),
        )
    except (OSError, ValueError) as error:
        said.close()
        raise WorkerCrashed(
            f"no worker process can be started with {sys.executable!r}: {error}; sys.executable has to be a Python "
            "interpreter that can import alora_cpp"
        ) from None
    return process, said


def _without_window() -> int:
    # On Windows a program without a console would get a window for one.
    if sys.platform == "win32":
        return subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
    return 0


def _command(memory: str) -> list[str]:
    if not getattr(sys, "frozen", False):
        return [sys.executable, "-c", _SCRIPT, memory, *(one for one in sys.path if isinstance(one, str))]
    if not _is_frozen_program_ready:
        raise WorkerCrashed(
            "this program is frozen, and would be started again as its own worker; call "
            "alora_cpp.isolation.freeze_support() at the beginning of its main module"
        )
    return [sys.executable, _FROZEN_MARK, memory]
