"""Messages between a process and its worker.

A frame is a call's number, a text and a tail: the text is JSON, the tail the bytes of what is no text. JSON and not
pickle: what a broken worker sends is refused, and never run. An object in the JSON stands for what JSON lacks:

- `{"object": 7}`: what the worker holds under that number;
- `{"tokens": [0, 8]}`: int32 values, in these bytes of the tail; `{"bytes": [0, 8]}`: the bytes themselves;
- `{"array": ["<f4", [1, 2], [0, 8]]}`: numbers of this type and shape;
- `{"pairs": [["key", "value"]]}`: a mapping, whose keys may be anything;
- `{"parcel": [9, "<f4", [1, 2], 8]}`: bytes too many for a pipe (type null) or numbers, to be fetched through shared
  memory: where they are kept, type and shape, and how many bytes they are.
"""

from __future__ import annotations

import json
import operator
import os
import struct
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

# The call whose reply says that a worker is ready.
GREETING = 0
# More than this goes through shared memory.
MOST_INLINE = 32 * 1024

_HEADER = struct.Struct("<QII")
_CHUNK = 64 * 1024


class BrokenFrame(Exception):  # noqa: N818 - seen by nobody outside
    """What was read is no frame."""


class Frame(NamedTuple):
    """One message.

    Attributes:
        call: The number of the call that it belongs to.
        text: JSON.
        tail: The bytes that it refers to.
    """

    call: int
    text: bytes
    tail: bytes


@dataclass(frozen=True)
class Held:
    """Something in the worker, by its number."""

    number: int


@dataclass(frozen=True)
class Parcel:
    """Bytes that are fetched through shared memory.

    Attributes:
        number: Where the worker keeps them.
        dtype: The type of the numbers that they are; None for plain bytes.
        shape: Their shape.
        size: How many bytes.
    """

    number: int
    dtype: str | None
    shape: tuple[int, ...]
    size: int


def pack(call: int, message: Any, park: Callable[[bytes], int] | None = None) -> Frame:
    """Makes a frame.

    Args:
        call: The number of its call.
        message: Lists of None, numbers, text, bytes, arrays, mappings and `Held`.
        park: Keeps what is too large for the frame, and says under which number.
    """
    tail = bytearray()

    def put(data: bytes) -> list[int]:
        tail.extend(data)
        return [len(tail) - len(data), len(tail)]

    def stand_in(value: Any) -> Any:
        if isinstance(value, Held):
            return {"object": value.number}
        if isinstance(value, array):
            return {"tokens": put(value.tobytes())}
        if isinstance(value, bytes | np.ndarray):
            data = value if isinstance(value, bytes) else value.tobytes()
            dtype, shape = (None, ()) if isinstance(value, bytes) else (value.dtype.str, value.shape)
            if park is not None and len(data) > MOST_INLINE:
                return {"parcel": [park(data), dtype, shape, len(data)]}
            return {"bytes": put(data)} if dtype is None else {"array": [dtype, shape, put(data)]}
        # Numbers of other libraries, numpy's above all.
        return operator.index(value) if hasattr(value, "__index__") else float(value)

    text = json.dumps(message, default=stand_in).encode()
    return Frame(call, text, bytes(tail))


def pairs(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping as a message holds it."""
    return {"pairs": [[key, value] for key, value in mapping.items()]}


def tokens(values: Any) -> Any:
    """Tokens as a message holds them; left as they are where they are none, for the core to say so."""
    try:
        return array("i", values)
    except (OverflowError, TypeError):
        return values


def unpack(frame: Frame, resolve: Callable[[Held | Parcel], Any]) -> Any:
    """Reads a message.

    Args:
        frame: The frame.
        resolve: What something held, or a parcel, stands for.

    Raises:
        BrokenFrame: It is none.
    """

    def cut(place: Any) -> bytes:
        begin, end = place
        if not 0 <= begin <= end <= len(frame.tail):
            raise BrokenFrame("it refers to bytes that are not there")
        return frame.tail[begin:end]

    def read(stand_in: dict[str, Any]) -> Any:
        ((kind, content),) = stand_in.items()
        if kind == "object":
            return resolve(Held(content))
        if kind == "tokens":
            return np.frombuffer(cut(content), dtype=np.int32).tolist()
        if kind == "bytes":
            return cut(content)
        if kind == "array":
            dtype, shape, place = content
            return np.frombuffer(bytearray(cut(place)), dtype=dtype).reshape(shape)
        if kind == "pairs":
            return dict(content)
        number, dtype, shape, size = content
        return resolve(Parcel(number, dtype, tuple(shape), size))

    try:
        return json.loads(frame.text, object_hook=read)
    except (ValueError, TypeError, RecursionError) as error:
        raise BrokenFrame(str(error)) from None


class FrameReader:
    """Frames from a pipe. One thread reads at a time."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()

    def read(self) -> Frame | None:
        """The next frame; None where the other side has closed its end, be it within a frame.

        Raises:
            OSError: The pipe cannot be read.
        """
        header = self._take(_HEADER.size)
        if header is None:
            return None
        call, n_text, n_tail = _HEADER.unpack(header)
        content = self._take(n_text + n_tail)
        return None if content is None else Frame(call, content[:n_text], content[n_text:])

    def _take(self, size: int) -> bytes | None:
        while len(self._buffer) < size:
            chunk = os.read(self._descriptor, _CHUNK)
            if not chunk:
                return None
            self._buffer += chunk
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


def frame_bytes(frame: Frame) -> bytes:
    """A frame as it goes through a pipe."""
    return _HEADER.pack(frame.call, len(frame.text), len(frame.tail)) + frame.text + frame.tail


def write_frame(descriptor: int, frame: Frame) -> None:
    """Writes a frame to a pipe; one thread writes at a time.

    Raises:
        OSError: The other side is gone.
    """
    rest = memoryview(frame_bytes(frame))
    while rest:
        rest = rest[os.write(descriptor, rest) :]
