"""Changes a GGUF where it has joints: a count, a length, a type, a key, a dimension, an offset, a whole entry."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from random import Random

from fuzz.json_mutator import NUMBERS

_ALIGNMENT = 32
_ARRAY, _STRING = 9, 8
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value, by its type; text and arrays have their length in the file."""

_INTEGERS = tuple(number for number in NUMBERS if isinstance(number, int) and abs(number) <= 2**64)
_TEXTS = (
    *(b"general.alignment", b"general.architecture", b"general.type", b"general.name", b"adapter.type"),
    *(b"adapter.lora.alpha", b"adapter.alora.invocation_tokens", b"alora.activation_offset", b"alora.io_yaml"),
    *(b"alora.invocation_pieces", b"alora.base.vocabulary", b"alora.base.weights", b"general.base_model.0.name"),
    *(b"adapter", b"model", b"lora", b"llama", b"", b"\xff\xfe", b"x" * 64, b"x" * 63, b"a\0b", b"blk.0.attn_q.weight"),
    *(b"blk.1.attn_k.weight.lora_a", b"blk.1.attn_k.weight.lora_b", b"token_embd.weight.lora_a", b".lora_a", b"blk."),
    *(b"blk.0.attn_q.weight.lora_a.lora_b", b"attn_q.lora_a", b"output_norm.weight"),
)


@dataclass
class _Piece:
    """A part of the file that means one thing: a number of 4 or 8 bytes, a text with its length, or anything else."""

    kind: str
    content: bytes


class _Parts:
    """A file taken apart: what it begins with, an entry for each key and each tensor, and the tensors' data."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0
        self.start = [self._take("raw", 4), self._number(4), self._number(8), self._number(8)]
        n_tensors, n_keys = (int.from_bytes(piece.content, "little") for piece in self.start[2:])
        self.keys = [self._key() for _ in range(min(n_keys, 1000))]
        self.tensors = [self._tensor() for _ in range(min(n_tensors, 1000))]
        self.data = content[self._at + -self._at % _ALIGNMENT :]

    def _take(self, kind: str, size: int) -> _Piece:
        if self._at + size > len(self._content):
            raise ValueError("it ends here")
        piece = _Piece(kind, self._content[self._at : self._at + size])
        self._at += size
        return piece

    def _number(self, size: int) -> _Piece:
        return self._take("number", size)

    def _text(self) -> _Piece:
        size = int.from_bytes(self._content[self._at : self._at + 8], "little")
        return self._take("text", 8 + size)

    def _key(self) -> list[_Piece]:
        entry = [self._text(), self._number(4)]
        kind = int.from_bytes(entry[1].content, "little")
        count = 1
        if kind == _ARRAY:
            entry += [self._number(4), self._number(8)]
            kind, count = (int.from_bytes(piece.content, "little") for piece in entry[2:])
        if kind == _STRING:
            return entry + [self._text() for _ in range(min(count, 1000))]
        size = _SIZES.get(kind, 0)
        if count == 1 and size in (4, 8):
            return [*entry, self._number(size)]
        return [*entry, self._take("raw", size * count)]

    def _tensor(self) -> list[_Piece]:
        entry = [self._text(), self._number(4)]
        dimensions = min(int.from_bytes(entry[1].content, "little"), 100)
        return entry + [self._number(8) for _ in range(dimensions)] + [self._number(4), self._number(8)]

    def write(self) -> bytes:
        entries = [self.start, *self.keys, *self.tensors]
        header = b"".join(piece.content for entry in entries for piece in entry)
        return header + bytes(-len(header) % _ALIGNMENT) + self.data


def mutate_gguf(content: bytes, random: Random) -> bytes | None:
    """Gives a changed file, or None where the file is too broken to be taken apart."""
    try:
        parts = _Parts(content)
    except ValueError:
        return None
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        action = random.randrange(10)
        if action < 2:
            _change_entries(parts, random)
        elif action == 2:
            _change_data(parts, random)
        else:
            pieces = [p for e in (parts.start, *parts.keys, *parts.tensors) for p in e if p.content]
            _change_piece(random.choice(pieces), random)
    return parts.write()


def _change_entries(parts: _Parts, random: Random) -> None:
    """Removes, repeats or exchanges whole keys or tensors; the count follows, most of the time."""
    count, entries = random.choice(((parts.start[3], parts.keys), (parts.start[2], parts.tensors)))
    if not entries:
        return
    at = random.randrange(len(entries))
    action = random.randrange(3)
    if action == 0:
        del entries[at]
    elif action == 1:
        copied = [_Piece(piece.kind, piece.content) for piece in entries[at]]
        _change_piece(copied[0], random)
        entries.insert(random.randint(0, len(entries)), copied)
    else:
        other = random.randrange(len(entries))
        entries[at], entries[other] = entries[other], entries[at]
    if random.random() < 0.9:
        count.content = len(entries).to_bytes(8, "little")


def _change_data(parts: _Parts, random: Random) -> None:
    if random.random() < 0.5:
        parts.data = parts.data[: random.randint(0, len(parts.data))]
    else:
        at = random.randint(0, len(parts.data)) // 2 * 2
        word = random.choice((b"\x00\x00\xc0\x7f", b"\x00\x00\x80\xff", b"\xff\xff\x7f\x7f", b"\x00\x7e", b"\xff\x7b"))
        parts.data = parts.data[:at] + word + parts.data[at + len(word) :]


def _change_piece(piece: _Piece, random: Random) -> None:
    old = piece.content
    if piece.kind == "number":
        value = int.from_bytes(old, "little")
        # Types of tensors and of keys are small numbers: all of them are tried.
        new = random.choice((value + 1, value - 1, value * 2, random.randrange(45), random.choice(_INTEGERS)))
        if random.random() < 0.1 and len(old) == 4:
            new = int.from_bytes(struct.pack("<f", random.choice((0.0, -1.0, 1e30, 3e38, float("nan")))), "little")
        piece.content = (new % 256 ** len(old)).to_bytes(len(old), "little")
    elif piece.kind == "text":
        text = old[8:]
        at = random.randint(0, len(text))
        text = random.choice((random.choice(_TEXTS), text[:at], text[:at] + random.choice(_TEXTS) + text[at:]))
        size = len(text)
        if random.random() < 0.15:
            size = random.choice((size + 1, max(size - 1, 0), random.choice(_INTEGERS) % 2**64))
        piece.content = size.to_bytes(8, "little") + text
    else:
        at = random.randrange(len(old))
        piece.content = old[:at] + bytes([random.choice((0, 1, 127, 128, 255))]) + old[at + 1 :]
