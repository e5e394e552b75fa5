"""A worker process, as those see it who let it work."""

from __future__ import annotations

import builtins
import itertools
import queue
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import numpy as np

from alora_cpp import errors
from alora_cpp.errors import AloraError, BackendError, WorkerCrashed
from alora_cpp.isolation.command import start_worker
from alora_cpp.isolation.link import Call, Link
from alora_cpp.isolation.shared_memory import SLOT_SIZE, make_shared_memory
from alora_cpp.isolation.wire import GREETING, MOST_INLINE, BrokenFrame, Frame, Held, Parcel, pack, pairs, unpack

# Seconds: generous, for a machine that has a lot to do.
_START_LIMIT = 120
# Where waiting cannot be interrupted (Windows), signals are seen in between.
_SIGNALS_SEEN = 0.5
_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


class Leavings:
    """Objects of one context that nobody needs any more; the worker hears of them with the context's next call."""

    def __init__(self) -> None:
        self._closed: deque[int] = deque()
        self._dropped: deque[int] = deque()

    def close(self, number: int) -> None:
        """A branch was closed."""
        self._closed.append(number)

    def drop(self, number: int) -> None:
        """A finalizer: nobody holds it any more."""
        self._dropped.append(number)

    def take(self) -> tuple[list[int], list[int]]:
        """What was closed and what was dropped since the last time."""
        # In this order: what is dropped was closed before, if at all.
        dropped, closed = _emptied(self._dropped), _emptied(self._closed)
        return closed, dropped


def _emptied(numbers: deque[int]) -> list[int]:
    taken = []
    with suppress(IndexError):
        while True:
            taken.append(numbers.popleft())
    return taken


class Worker:
    """A process that holds objects of `alora_cpp._core`. It ends when it is closed or nobody holds it any more."""

    def __init__(self, path: str) -> None:
        """Starts it.

        Args:
            path: The model it will compute with, for messages.

        Raises:
            WorkerCrashed: It cannot be started, or ends at once.
        """
        self._numbers = itertools.count(GREETING + 1)
        with make_shared_memory() as (self._memory, name, inherited):
            self._link = Link(*start_worker(name, inherited), path)
        weakref.finalize(self, self._link.close, wait=False)
        try:
            greeting = self._link.pending[GREETING].replies.get(timeout=_START_LIMIT)
        except BaseException as error:
            self.close()
            if isinstance(error, queue.Empty):
                raise WorkerCrashed(f"the worker process was not ready after {_START_LIMIT} s") from None
            raise
        del self._link.pending[GREETING]
        if greeting is None:
            raise self._link.error()

    @property
    def is_alive(self) -> bool:
        """Whether it has neither ended nor was closed."""
        return self._link.ending is None

    def check_alive(self) -> None:
        """Raises what there is to say where it has ended.

        Raises:
            WorkerCrashed: It crashed.
            ClosedError: It was closed.
        """
        if not self.is_alive:
            raise self._link.error()

    def drop_with(self, owner: object, number: int, leavings: Leavings | None = None) -> None:
        """Lets it forget an object when its owner here is gone.

        Args:
            owner: Who needs it.
            number: The object.
            leavings: What else nobody needs then.
        """
        weakref.finalize(owner, _drop_all, self._link, number, leavings).atexit = False

    def close(self) -> None:
        """Ends it, whatever it does."""
        self._link.close(wait=True)

    def run(
        self,
        name: str,
        *arguments: Any,
        target: int | None = None,
        keep: bool = False,
        options: Mapping[str, Any] = _NO_OPTIONS,
        leavings: Leavings | None = None,
        progress: Callable[[float], bool] | None = None,
        context: int | None = None,
    ) -> Any:
        """Runs a method.

        Args:
            name: Its name.
            *arguments: Its arguments; objects as `Held`.
            target: Whose method; if not given, `name` is a dotted one in `_core`.
            keep: Whether the worker keeps what it gives; then its number is returned.
            options: Its keyword arguments.
            leavings: Of the context that it is about.
            progress: Told how far it is; returning False stops it.
            context: What Ctrl-C has to stop.

        Raises:
            AloraError: What the method raised; WorkerCrashed where the worker crashed, now or before.
        """
        result = next(self._numbers) if keep else None
        closed, dropped = leavings.take() if leavings else ([], [])
        sent = {**options, "progress": True} if progress else options
        held = None if target is None else Held(target)
        what = [held, name, arguments, pairs(sent), result, closed, dropped]
        value = self._ask(f"{name}()", "run", what, progress=progress, context=context)
        return value if result is None else result

    def facts(self, target: int, names: Sequence[str]) -> dict[str, Any]:
        """Several properties of an object at once."""
        facts: dict[str, Any] = self._ask("reading properties", "facts", [Held(target), names])
        return facts

    def vocabulary(self, model: int) -> tuple[Any, bytes, bytes, bytes]:
        """All tokens of a model: the sizes of their texts, all these texts, which are control tokens, which end one."""
        sizes, texts, control, ends = self._ask("reading the vocabulary", "vocabulary", [Held(model)])
        return sizes, texts, control, ends

    def upload(self, data: bytes) -> Held | bytes:
        """Brings bytes over that are an argument; what is too large for the pipe is to be dropped afterwards."""
        if len(data) <= MOST_INLINE:
            return data
        held = Held(next(self._numbers))
        try:
            for begin in range(0, len(data), SLOT_SIZE):
                with self._memory.slot() as offset:
                    piece = data[begin : begin + SLOT_SIZE]
                    self._memory.view[offset : offset + len(piece)] = piece
                    self._ask("taking bytes", "store", [held.number, len(data), begin, offset, len(piece)])
        except BaseException:
            self.drop(held.number)
            raise
        return held

    def drop(self, number: int) -> None:
        """Lets it forget an object."""
        self._link.drop([number])

    def _ask(
        self,
        doing: str,
        kind: str,
        what: Sequence[Any],
        *,
        progress: Callable[[float], bool] | None = None,
        context: int | None = None,
    ) -> Any:
        number, call = next(self._numbers), Call(doing)
        self._link.pending[number] = call
        try:
            self.check_alive()
            self._link.send(pack(number, [kind, *what]), call.sent)
            return self._reply(number, call, progress)
        except KeyboardInterrupt:
            if context is not None:
                self._stop(context, call)
            raise
        finally:
            self._link.pending.pop(number, None)

    def _reply(self, number: int, call: Call, progress: Callable[[float], bool] | None) -> Any:
        failure: BaseException | None = None
        while True:
            message = self._read(_next(call))
            match message:
                case ["value", value]:
                    return value
                case ["progress", float(fraction)] if progress is not None:
                    try:
                        goes_on = failure is None and bool(progress(fraction))
                    except BaseException as error:
                        failure, goes_on = error, False
                    self._link.send(pack(number, ["answer", goes_on]), [])
                case ["error", str(name), str(text)]:
                    raise failure or _error(name, text)
                case _:
                    raise self._is_broken(f"a reply of no kind: {message!r:.100}")

    def _read(self, frame: Frame | None) -> Any:
        if frame is None:
            raise self._link.error()
        try:
            return unpack(frame, self._fetch)
        except BrokenFrame as error:
            raise self._is_broken(str(error)) from None

    def _is_broken(self, what: str) -> AloraError:
        """Ends a worker that makes no sense any more, as a crash."""
        self._link.ending = WorkerCrashed(
            f"the worker process sent what cannot be read ({what}): its memory may be damaged; it was ended. The next "
            "call starts another worker; branches that were in this one are lost, begin them anew"
        )
        self._link.process.kill()
        self.close()
        return self._link.error()

    def _fetch(self, parcel: Held | Parcel) -> Any:
        assert isinstance(parcel, Parcel)
        data = np.empty(parcel.size, dtype=np.uint8)
        view = data.data
        try:
            for begin in range(0, parcel.size, SLOT_SIZE):
                size = min(SLOT_SIZE, parcel.size - begin)
                with self._memory.slot() as offset:
                    self._ask("handing bytes over", "fetch", [parcel.number, begin, offset, size])
                    view[begin : begin + size] = self._memory.view[offset : offset + size]
        finally:
            self.drop(parcel.number)
        return data.tobytes() if parcel.dtype is None else data.view(parcel.dtype).reshape(parcel.shape)

    def _stop(self, context: int, call: Call) -> None:
        """Cancels what a context computes, and waits until it has ended."""
        with suppress(AloraError):
            self.run("cancel", target=context)
            # Nothing comes where the interrupt came before the request was made.
            while call.sent and not call.answered.wait(timeout=_SIGNALS_SEEN):
                pass
            # It may have ended before it noticed: the next one must not be cancelled in its place.
            self.run("resume", target=context)


def _drop_all(link: Link, number: int, leavings: Leavings | None) -> None:
    # Not the worker, but only its link: a finalizer keeps what it knows.
    _, dropped = leavings.take() if leavings else ([], [])
    link.drop([*dropped, number])


def _next(call: Call) -> Frame | None:
    while True:
        with suppress(queue.Empty):
            return call.replies.get(timeout=_SIGNALS_SEEN)


def _error(name: str, text: str) -> Exception:
    """The exception that was raised over there."""
    kind = getattr(errors, name, None) or getattr(builtins, name, None)
    try:
        if isinstance(kind, type) and issubclass(kind, Exception):
            return kind(text)
    except TypeError:
        pass
    return BackendError(f"{name} in the worker process: {text}")
