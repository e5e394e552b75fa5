"""The pipes to a worker process, and the thread that reads what it replies."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
import weakref
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import IO

from alora_cpp.errors import AloraError, ClosedError, WorkerCrashed
from alora_cpp.isolation.wire import GREETING, Frame, FrameReader, frame_bytes, pack

# Seconds: generous, for a machine that has a lot to do.
_END_LIMIT = 10
# Of what it said last.
_N_LAST = 2000


class Call:
    """A call under way.

    Attributes:
        doing: What it does, for messages.
        replies: Where its replies go; None tells that none will come.
        sent: Bytes of its request that were written, write by write.
        answered: Set with the first reply.
    """

    def __init__(self, doing: str) -> None:
        self.doing = doing
        self.replies: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self.sent: list[int] = []
        self.answered = threading.Event()

    def reply(self, frame: Frame | None) -> None:
        """Hands a reply over."""
        self.replies.put(frame)
        self.answered.set()


class Link:
    """What a worker and the thread that reads its replies share: so that who forgets the worker ends it.

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
        self._sending = threading.Lock()
        self._dropped: deque[int] = deque()
        self._reader = threading.Thread(
            target=self._read, args=(process.stdout,), name="alora_cpp worker's replies", daemon=True
        )
        self._reader.start()
        _links.add(self)

    def send(self, frame: Frame, sent: list[int]) -> None:
        """Sends a frame.

        Args:
            frame: The frame.
            sent: Empty; gets the bytes of each write, also where an exception ends it.

        Raises:
            AloraError: The worker has ended.
        """
        try:
            with self._sending:
                self._write(frame, sent)
        except OSError:
            self._reader.join(_END_LIMIT)
            raise self.error() from None
        self._flush()

    def drop(self, numbers: Iterable[int]) -> None:
        """Lets the worker forget objects. For finalizers: at any moment, on any thread, waiting for nobody."""
        self._dropped.extend(numbers)
        self._flush()

    def _flush(self) -> None:
        # Where another call is being sent, perhaps on this very thread, that one does it afterwards.
        while self._dropped and self.ending is None and self._sending.acquire(blocking=False):
            try:
                numbers = [self._dropped.popleft() for _ in range(len(self._dropped))]
                with suppress(OSError, ValueError):
                    self._write(pack(0, ["drop", numbers]), [])
            finally:
                self._sending.release()

    def _write(self, frame: Frame, sent: list[int]) -> None:
        if self._requests.closed:
            raise BrokenPipeError
        whole = memoryview(frame_bytes(frame))
        try:
            while sum(sent) < len(whole):
                # In one step: no signal comes between a write and its note, or into a write that the pipe has room for.
                sent.extend(map(os.write, [self._requests.fileno()], [whole[sum(sent) :]]))
        except BaseException:
            if 0 < sum(sent) < len(whole):
                # The worker could make no sense of what follows a part of a frame.
                self.process.kill()
            raise

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
        if self._sending.acquire(timeout=_END_LIMIT):
            try:
                self._requests.close()
            finally:
                self._sending.release()
        else:
            # It does not even read any more.
            self.process.kill()

    def forget(self) -> None:
        """For a copy of this process that `os.fork` made: it gets a worker of its own, and lets go of this one."""
        self.ending = ClosedError(
            "this process is a copy that os.fork() made, and what lives in a worker process serves the one that it is "
            "a copy of; begin branches anew"
        )
        self._sending = threading.Lock()
        for stream in (self._requests, self.process.stdout):
            if stream is not None:
                stream.close()
        self.process.returncode = 0

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
