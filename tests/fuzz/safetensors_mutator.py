"""Changes a safetensors file: its header's tree, the length before it, or the numbers behind it."""

from __future__ import annotations

import json
from random import Random

from fuzz.json_mutator import NUMBERS, mutate_json, write_json

_WORDS = (b"\x00\x00\xc0\x7f", b"\x00\x00\x80\xff", b"\xff\xff\x7f\x7f", b"\x01\x00\x00\x00", b"\x00\x7e", b"\x00\xfc")
"""NaN, infinity, the largest and the smallest float32; NaN and infinity of float16."""


def mutate_safetensors(content: bytes, random: Random) -> bytes | None:
    """Gives a changed file, or None where the file is too broken to be taken apart."""
    size = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + size], content[8 + size :]
    try:
        tree = json.loads(header)
    except (ValueError, RecursionError):
        return None
    part = random.randrange(8)
    if part == 0 and data:
        at, word = random.randrange(len(data)), random.choice(_WORDS)
        data = data[: at - at % 4] + word + data[at - at % 4 + len(word) :]
    elif part == 1:
        data = random.choice((data[: random.randint(0, len(data))], data + bytes(random.choice((1, 2, 4, 256)))))
    else:
        header = write_json(mutate_json(tree, random, keys=("__metadata__",)))
    size = len(header)
    if part == 2:
        size = random.choice((size + 1, size - 1, random.choice(NUMBERS[:30])))
    return (int(size) % 2**64).to_bytes(8, "little") + header + data
