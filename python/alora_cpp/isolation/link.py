"""The pipes to a worker process, and the threads that write what it is asked and read what it replies."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
import weakref
from collections.abc import Iterable
from contextlib import suppress
from typing import IO

from alora_cpp.errors import AloraError, ClosedError, WorkerCrashed
from alora_cpp.isolation.wire import GREETING, Frame, FrameReader, pack, write_frame

# Seconds: generous, for a machine that has a lot to do.
_END_LIMIT = 10
# Of what it said last.
_N_LAST = 2000


class Call:
    """A call under way.

    Attributes:
        doing: What it does, for messages.
        replies: Where its replies go; None tells that none will come.
        is_sent: Whether the worker has got it, or is about to.
        answered: Set with the first reply.
    """

    def __init__(self, doing: str) -> None:
        self.doing = doing
        self.replies: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self.is_sent = False
        self.answered = threading.Event()

    def reply(self, frame: Frame | None) -> None:
        """Hands a reply over."""
        self.replies.put(frame)
        self.answered.set()


class Link:
    """What a worker and the threads of its pipes share: so that who forgets the worker ends it.

    Frames are written on a thread of their own: a signal may interrupt the main thread at any moment, and the worker
    could make no sense of what follows half a frame.

    Attributes:
        process: The process.
        pending: The calls under way.
        ending: How it ended; None while it works.
    """

    def __init__(self, process: subprocess.Popen[bytes], said: IO[bytes], path: str) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self.pending = {GREETING: Call("its start")}
        self.ending: AloraError | None = None
        self._path = path
        self._said = said
        self._requests = process.stdin
        self._frames: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="alora_cpp worker's requests", daemon=True)
        self._reader = threading.Thread(
            target=self._read, args=(process.stdout,), name="alora_cpp worker's replies", daemon=True
        )
        self._writer.start()
        self._reader.start()
        _links.add(self)

    def send(self, frame: Frame) -> None:
        """Sends a frame, soon, and in the order in which this is called. A worker that has ended gets none."""
        self._frames.put(frame)

    def drop(self, numbers: Iterable[int]) -> None:
        """Lets the worker forget objects. For finalizers: at any moment, on any thread, waiting for nobody."""
        self.send(pack(0, ["drop", list(numbers)]))

    def error(self) -> AloraError:
        """What to raise where the worker has ended."""
        ending = self.ending or WorkerCrashed(f"the worker process for {self._path} does not answer any more")
        return type(ending)(str(ending))

    def close(self, *, wait: bool) -> None:
        """Ends the worker, whatever it does."""
        if self.ending is None:
            self.ending = ClosedError("the model is closed; load it again")
        self._close_requests()
        if wait:
            self._reader.join(_END_LIMIT)
            if self._reader.is_alive():
                self.process.kill()
                self._reader.join(_END_LIMIT)

    def _close_requests(self) -> None:
        self._frames.put(None)
        # A finalizer may run on any thread, be it this one.
        if threading.current_thread() is not self._writer:
            self._writer.join(_END_LIMIT)
            if self._writer.is_alive():
                # It does not even read any more.
                self.process.kill()

    def forget(self) -> None:
        """For a copy of this process that `os.fork` made: it gets a worker of its own, and lets go of this one."""
        self.ending = ClosedError(
            "this process is a copy that os.fork() made, and what lives in a worker process serves the one that it is "
            "a copy of; begin branches anew"
        )
        for stream in (self._requests, self.process.stdout):
            if stream is not None:
                stream.close()
        self.process.returncode = 0

    def _write(self) -> None:
        with self._requests, suppress(OSError):
            while (frame := self._frames.get()) is not None:
                if call := self.pending.get(frame.call):
                    call.is_sent = True
                write_frame(self._requests.fileno(), frame)

    def _read(self, replies: IO[bytes]) -> None:
        reader = FrameReader(replies.fileno())
        with suppress(OSError):
            while (frame := reader.read()) is not None:
                if call := self.pending.get(frame.call):
                    call.reply(frame)
        replies.close()
        try:
            code = self.process.wait(_END_LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        if self.ending is None:
            self.ending = WorkerCrashed(self._story(code))
        self._close_requests()
        self._said.close()
        for call in list(self.pending.values()):
            call.reply(None)

    def _story(self, code: int) -> str:
        """How the worker ended, for people."""
        how = f"ended with code {code}" if code >= 0 else f"was ended by {_signal_name(-code)}"
        doing = " and ".join(sorted({call.doing for call in list(self.pending.values())}))
        why = " (as the system does where memory runs out)" if how.endswith("SIGKILL") else ""
        self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, self._said.tell() - _N_LAST))
        said = self._said.read().decode("utf-8", errors="replace").strip()
        return (
            f"the worker process that computed with {self._path} {how}{f' during {doing}' if doing else ''}{why}; "
            f"{f'it said last: {said}' if said else 'it said nothing'}\n"
            "The next call starts another worker; branches that were in this one are lost, begin them anew"
        )


def _signal_name(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    return name


_links: weakref.WeakSet[Link] = weakref.WeakSet()


def _forget_all() -> None:
    for link in list(_links):
        link.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
