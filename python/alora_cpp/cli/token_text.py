"""Vocabulary entries as a person reads them: `Ġhello` is ` hello`, and so is `▁hello`."""

from __future__ import annotations

import re
from collections.abc import Sequence

# SentencePiece's mark of a space, and its spelling of a byte.
_SPACE = "\u2581"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def _byte_alphabet() -> dict[str, int]:
    """The characters that byte-level vocabularies write bytes with: printable ones are themselves."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_ALPHABET = _byte_alphabet()


def token_text(pieces: Sequence[str]) -> str:
    """The text that consecutive tokens stand for.

    Files keep a vocabulary's entries as they are, not how the tokenizer spells bytes, so that is told from the entries
    themselves: SentencePiece marks the space before a word and names bytes, anything else is byte-level. Entries that
    are no such spelling (control tokens) stand for themselves.

    Args:
        pieces: Vocabulary entries, as `tokenizer.ggml.tokens` has them.
    """
    spell = _sentencepiece if any(p.startswith(_SPACE) or _BYTE.fullmatch(p) for p in pieces) else _byte_level
    # Together, as a character may be cut between tokens.
    return b"".join(map(spell, pieces)).decode("utf-8", errors="replace")


def _sentencepiece(piece: str) -> bytes:
    byte = _BYTE.fullmatch(piece)
    return bytes.fromhex(byte[1]) if byte else piece.replace(_SPACE, " ").encode()


def _byte_level(piece: str) -> bytes:
    if all(character in _ALPHABET for character in piece):
        return bytes(_ALPHABET[character] for character in piece)
    return piece.encode()
