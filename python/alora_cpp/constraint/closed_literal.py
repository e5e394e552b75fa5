"""How a string, number or word in a JSON text can go on, where only few ways are left.

Where an answer has to end soon, its brackets can be closed by anybody. What an enumeration says cannot: that is for the
model to choose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import llguidance
import numpy as np

MAX_WAYS = 64
MAX_STEPS = 2048

_SPACE = b" \t\n\r"
_BEHIND = b",]}" + _SPACE


def ways_to_end(start: llguidance.LLMatcher, text: bytes) -> list[bytes] | None:
    """Every way to end the literal in which a text stops, or which must come next.

    Args:
        start: A matcher over single bytes, as compiled.
        text: What was written so far; the grammar allows it.

    Returns:
        At most 64 ways, from the text's end to the literal's; None where there are more, or where something else than
        a literal comes next.
    """
    matcher = start.deep_copy()
    if matcher.try_consume_tokens([*text]) != len(text):
        return None
    settled = bytes(matcher.compute_ff_bytes())
    place = _place(text + settled)
    if place is None or matcher.try_consume_tokens([*settled]) != len(settled):
        return None
    ways: list[bytes] = []
    waiting = [_Way(matcher, settled, place)]
    for _ in range(MAX_STEPS):
        if not waiting:
            return ways
        way = waiting.pop()
        if way.ended:
            ways.append(way.added)
        else:
            further = way.further()
            if further is None:
                return None
            waiting += further
        # Each one that waits has an end, too.
        if len(ways) + len(waiting) > MAX_WAYS:
            return None
    return None


@dataclass(frozen=True)
class _Way:
    matcher: llguidance.LLMatcher
    added: bytes
    place: str  # "value": before the literal; "string", "escape": within one; "word": within a number or word
    ended: bool = False

    def further(self) -> list[_Way] | None:
        """The ways a byte longer; None where these are too many, or what follows is no literal."""
        mask = np.frombuffer(self.matcher.compute_bitmask(), np.uint8)[: 256 // 8]
        allowed = bytes(map(int, np.flatnonzero(np.unpackbits(mask, bitorder="little"))))
        found = []
        if len(allowed) > MAX_WAYS or (self.place == "value" and any(byte in b"{[]" for byte in allowed)):
            return None
        if self.place == "word" and (self.matcher.is_accepting() or any(byte in _BEHIND for byte in allowed)):
            found.append(replace(self, ended=True))
        for byte in allowed if self.place != "word" else allowed.translate(None, _BEHIND):
            matcher = self.matcher.deep_copy()
            if matcher.try_consume_tokens([byte]) == 1:
                ended = self.place == "string" and byte == ord('"')
                found.append(_Way(matcher, self.added + bytes([byte]), _next_place(self.place, byte), ended))
        return found


def _next_place(place: str, byte: int) -> str:
    if place == "value":
        return "string" if byte == ord('"') else "value" if byte in _SPACE else "word"
    if place == "string" and byte == ord("\\"):
        return "escape"
    return "string" if place == "escape" else place


def _place(text: bytes) -> str | None:
    """Where in a JSON text its end is; None where neither within a value's literal nor before a value."""
    opened: list[int] = []
    place: str | None = "value"
    is_key = False
    for byte in text:
        if place in ("string", "escape"):
            ends = place == "string" and byte == ord('"')
            place = None if ends else _next_place(place, byte)
        elif byte in b"{[":
            opened.append(byte)
            place, is_key = "value", byte == ord("{")
        elif byte in b"}]":
            del opened[-1:]
            place = None
        elif byte == ord(","):
            place, is_key = "value", opened[-1:] == [ord("{")]
        elif byte == ord(":"):
            place, is_key = "value", False
        elif byte not in _SPACE or place == "word":
            place = None if place == "word" and byte in _SPACE else _next_place(place or "word", byte)
    return None if is_key else place
