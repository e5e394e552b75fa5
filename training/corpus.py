"""The base model's reading, packed into windows of one context length."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.chat_format import conversation_ids
from training.dialogues import Writer
from training.real_parts import RealParts
from training.tokenizer import CONTEXT_LENGTH, Encoder, load_tokenizer

Ids = npt.NDArray[np.int16]
Weights = npt.NDArray[np.uint8]


def sample_texts(data: Path, count: int, seed: int) -> Iterator[str]:
    """Texts as the tokenizer is trained on them; real prose counts more than in the corpus."""
    writer = Writer(random.Random(f"tokenizer {seed}"), RealParts.read(data))
    for position in range(count):
        text = writer.text()
        if isinstance(text, str):
            yield text
        else:
            yield from (turn.text for turn in text.turns())
        if position % 20 == 0 and writer.real.prose:
            yield writer.prose()
        if position % 5 == 0:
            yield "\n".join(writer.random.choice(pool) for pool in (writer.real.unsafe, writer.real.harmless) if pool)


def pack(texts: Iterator[tuple[list[int], list[int]]], windows: int, end_of_text: int) -> tuple[Ids, Weights]:
    """Packs texts into windows, each starting at the start of a text, with padding that is never learned."""
    ids = np.full((windows, CONTEXT_LENGTH), end_of_text, dtype=np.int16)
    weights = np.zeros((windows, CONTEXT_LENGTH), dtype=np.uint8)
    row = used = 0
    for tokens, learned in texts:
        length = min(len(tokens), CONTEXT_LENGTH)
        if used + length > CONTEXT_LENGTH:
            row, used = row + 1, 0
            if row == windows:
                break
        ids[row, used : used + length] = tokens[:length]
        weights[row, used : used + length] = learned[:length]
        used += length
    return ids, weights


def _write_shard(job: tuple[Path, Path, int, int, bool]) -> tuple[Ids, Weights]:
    data, tokenizer_folder, windows, seed, refine = job
    encode = Encoder(load_tokenizer(tokenizer_folder))
    writer = Writer(random.Random(f"corpus {seed} {refine}"), RealParts.read(data), refine=refine)

    def texts() -> Iterator[tuple[list[int], list[int]]]:
        while True:
            text = writer.text()
            if isinstance(text, str):
                ids = [*encode(text), encode.control.end_of_text]
                yield ids, [1] * len(ids)
            else:
                yield conversation_ids(text, encode, encode.control)

    return pack(texts(), windows, encode.control.end_of_text)


def write_corpus(
    data: Path, tokenizer_folder: Path, windows: int, seed: int, processes: int, refine: bool = False
) -> tuple[Ids, Weights]:
    """Writes the corpus in parallel shards; the shards, and so the corpus, do not depend on `processes`."""
    shards = 64 if windows >= 64 else 1
    jobs = [(data, tokenizer_folder, windows // shards, seed * 1000 + shard, refine) for shard in range(shards)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        parts = pool.map(_write_shard, jobs, chunksize=1)
    return np.concatenate([ids for ids, _ in parts]), np.concatenate([weights for _, weights in parts])
