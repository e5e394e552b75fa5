"""What a worker process does: it holds the objects of `alora_cpp._core`, by number, and runs what it is asked for.

Every thread does the same: it waits for its turn to read, reads a call, lets the next one read and runs the call. So
somebody always reads: a computation can be cancelled, others can go on beside it, and where the other side is gone,
which shows in the pipe, the process ends at once.
"""

from __future__ import annotations

import itertools
import os
import queue
import signal
import threading
import traceback
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from alora_cpp import _core
from alora_cpp.isolation.shared_memory import SharedMemory, open_shared_memory
from alora_cpp.isolation.wire import GREETING, Frame, FrameReader, Held, Parcel, pack, pairs, unpack, write_frame

_ERROR = 4


class Server:
    """The objects of this process, and who asks for them."""

    def __init__(self, requests: int, replies: int, memory: SharedMemory) -> None:
        """Begins with no objects.

        Args:
            requests: The descriptor that calls are read from.
            replies: The descriptor that what they give is written to.
            memory: For what is too large for these.
        """
        self._reader = FrameReader(requests)
        self._replies = replies
        self._memory = memory
        self._objects: dict[int, Any] = {}
        self._answers: dict[int, queue.SimpleQueue[bool]] = {}
        self._reading, self._writing, self._counting = threading.Lock(), threading.Lock(), threading.Lock()
        self._n_waiting = 0
        self._parcels = itertools.count(-1, -1)

    def greet(self) -> None:
        """Says that calls may come."""
        self._send(pack(GREETING, ["value", None]))

    def serve(self) -> None:
        """Reads calls and runs them, until the other side is gone; then the process ends."""
        try:
            while True:
                self._serve_one()
        except BaseException:
            # What is wrong here is a crash: the other side learns of it, and what was printed.
            traceback.print_exc()
            os._exit(1)

    def _serve_one(self) -> None:
        with self._counting:
            self._n_waiting += 1
        with self._reading:
            frame = self._read()
        with self._counting:
            self._n_waiting -= 1
            nobody_reads = self._n_waiting == 0
        if nobody_reads:
            threading.Thread(target=self.serve, daemon=True).start()
        reply = self._answer(frame)
        # By now nothing here holds the call's objects: what the other side drops next is free at once.
        if reply is not None:
            self._send(reply)

    def _read(self) -> Frame:
        try:
            frame = self._reader.read()
        except OSError:
            frame = None
        if frame is None:
            # Whatever others compute: nobody waits for it any more.
            os._exit(0)
        return frame

    def _answer(self, frame: Frame) -> Frame | None:
        """Does what a frame asks for; gives the reply, if there is one."""
        try:
            kind, *content = unpack(frame, self._resolve)
            if kind == "answer":
                self._answers[frame.call].put(content[0])
                return None
            if kind == "drop":
                self._drop(content[0])
                return None
            return pack(frame.call, ["value", getattr(self, f"_{kind}")(frame.call, *content)], self._park)
        except Exception as error:
            return pack(frame.call, ["error", type(error).__name__, str(error)])

    def _send(self, reply: Frame) -> None:
        try:
            with self._writing:
                write_frame(self._replies, reply)
        except OSError:
            os._exit(0)

    def _resolve(self, held: Held | Parcel) -> Any:
        return self._objects[held.number]

    def _run(
        self,
        call: int,
        target: Any,
        name: str,
        arguments: Sequence[Any],
        options: dict[str, Any],
        result: int | None,
        closed: Sequence[int],
        dropped: Sequence[int],
    ) -> Any:
        """Runs a method of an object, or what `_core` has under a dotted name; `result` is where to keep what it gives.

        Branches that were closed and objects that were dropped meanwhile come with the next call of their context, so
        that it finds their cells free.
        """
        for number in closed:
            self._objects[number].close()
        self._drop(dropped)
        if "progress" in options:
            options["progress"] = self._reporter(call)
        found: Any = _core if target is None else target
        for part in name.split("."):
            found = getattr(found, part)
        try:
            value = found(*arguments, **options) if callable(found) else found
        finally:
            self._answers.pop(call, None)
        if result is None:
            return _described(value)
        self._objects[result] = value
        return None

    def _reporter(self, call: int) -> Callable[[float], bool]:
        """Tells the other side how far loading is, and waits for whether it is to go on."""
        answers = self._answers[call] = queue.SimpleQueue()

        def report(fraction: float) -> bool:
            self._send(pack(call, ["progress", fraction]))
            return answers.get()

        return report

    def _facts(self, call: int, target: Any, names: Sequence[str]) -> Any:
        """Several properties at once."""
        return pairs({name: _described(getattr(target, name)) for name in names})

    def _vocabulary(self, call: int, model: _core.Model) -> list[Any]:
        """All tokens at once: the sizes of their texts, these texts, and which are control tokens and which end one."""
        every = range(model.n_vocab)
        texts = [model.piece(token) for token in every]
        kinds = [bytes(map(is_kind, every)) for is_kind in (model.is_control, model.is_end_of_generation)]
        return [np.array([len(text) for text in texts], dtype=np.uint32), b"".join(texts), *kinds]

    def _park(self, data: bytes) -> int:
        """Keeps what is too large for a pipe until it is fetched."""
        number = next(self._parcels)
        self._objects[number] = memoryview(data)
        return number

    def _fetch(self, call: int, number: int, begin: int, offset: int, size: int) -> None:
        """Puts a piece of a parcel into shared memory."""
        self._memory.view[offset : offset + size] = self._objects[number][begin : begin + size]

    def _store(self, call: int, number: int, total: int, begin: int, offset: int, size: int) -> None:
        """Takes a piece of a parcel from shared memory; the last one makes bytes of it."""
        parcel = self._objects.setdefault(number, bytearray(total))
        parcel[begin : begin + size] = self._memory.view[offset : offset + size]
        if begin + size == total:
            self._objects[number] = bytes(parcel)

    def _drop(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._objects.pop(number, None)


def _described(value: Any) -> Any:
    """What the core gives, as a message holds it: its records as lists of their fields."""
    match value:
        case _core.ContextCounters():
            return [value.rows_decoded, value.batches, value.graphs_reused, value.compute_bytes]
        case _core.GenerationStep():
            return [value.index, value.token, value.text, value.finish]
        case _core.LabelScores():
            return [value.log_probabilities, value.probabilities, value.off_label]
        case _core.Fingerprints():
            return [value.vocabulary, value.weights]
        case _core.BuiltInAdapter():
            return [value.control_token, value.substitute_token]
        case [int(), *_]:
            return array("i", value)
        case list():
            return [_described(one) for one in value]
        case dict():
            return pairs(value)
    return value


def main(memory: str) -> None:
    """Serves the process that started this one, on its standard input and output, until that is gone.

    Args:
        memory: What `make_shared_memory` said.
    """
    # Ctrl-C is for who started this; it tells us what to give up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # ggml would start a debugger before it aborts.
    os.environ["GGML_NO_BACKTRACE"] = "1"
    requests, replies = os.dup(0), os.dup(1)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - no path of ours
        os.dup2(nothing.fileno(), 0)
    # What is printed must not get between the replies.
    os.dup2(2, 1)
    _core.set_log_sink(lambda level, line: os.write(2, line) if level >= _ERROR else None)
    server = Server(requests, replies, open_shared_memory(memory))
    server.greet()
    server.serve()
