"""A whisper model with random weights, as whisper.cpp reads it: it hears nothing, but it computes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

N_VOCAB = 51864  # the numbers of control tokens are fixed, so the vocabulary cannot be small
N_AUDIO, N_TEXT, WIDTH, N_MELS, N_FREQUENCIES = 1500, 448, 64, 80, 201


def write_whisper(path: Path) -> Path:
    """Writes a model of one layer each for sound and text, with matrices in float16: it computes with no others."""
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(struct.pack("<I", 0x67676D6C))
        file.write(struct.pack("<11i", N_VOCAB, N_AUDIO, WIDTH, 1, 1, N_TEXT, WIDTH, 1, 1, N_MELS, 1))
        file.write(struct.pack("<2i", N_MELS, N_FREQUENCIES))
        file.write(random.random((N_MELS, N_FREQUENCIES), np.float32).tobytes())
        file.write(struct.pack("<i", 256))  # the tokens that are left out get names of their own
        for byte in range(256):
            file.write(struct.pack("<IB", 1, byte))
        for name, shape in _tensors():
            half = name.endswith(".weight") and len(shape) > 1
            file.write(struct.pack(f"<3i{len(shape)}i", len(shape), len(name), half, *shape) + name.encode())
            values = 0.1 * random.standard_normal(shape[::-1], np.float32)
            file.write(values.astype(np.float16 if half else np.float32).tobytes())
    return path


def _tensors() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes, the fastest dimension first."""
    yield "encoder.positional_embedding", (WIDTH, N_AUDIO)
    yield "encoder.conv1.weight", (3, N_MELS, WIDTH)
    yield "encoder.conv1.bias", (1, WIDTH)
    yield "encoder.conv2.weight", (3, WIDTH, WIDTH)
    yield "encoder.conv2.bias", (1, WIDTH)
    yield from _norm("encoder.ln_post")
    yield from _block("encoder.blocks.0", ("attn",))
    yield "decoder.positional_embedding", (WIDTH, N_TEXT)
    yield "decoder.token_embedding.weight", (WIDTH, N_VOCAB)
    yield from _norm("decoder.ln")
    yield from _block("decoder.blocks.0", ("attn", "cross_attn"))


def _norm(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (WIDTH,)
    yield f"{name}.bias", (WIDTH,)


def _block(name: str, attentions: tuple[str, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from _norm(f"{name}.mlp_ln")
    yield f"{name}.mlp.0.weight", (WIDTH, 4 * WIDTH)
    yield f"{name}.mlp.0.bias", (4 * WIDTH,)
    yield f"{name}.mlp.2.weight", (4 * WIDTH, WIDTH)
    yield f"{name}.mlp.2.bias", (WIDTH,)
    for attention in attentions:
        yield from _norm(f"{name}.{attention}_ln")
        for part in ("query", "key", "value", "out"):
            yield f"{name}.{attention}.{part}.weight", (WIDTH, WIDTH)
            if part != "key":
                yield f"{name}.{attention}.{part}.bias", (WIDTH,)
