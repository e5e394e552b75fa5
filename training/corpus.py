"""The base model's reading, packed into windows of one length."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.chat_format import conversation_ids
from training.reading.mix import Mix, Phase
from training.reading.writer import Writer
from training.tokenizer import Encoder, load_tokenizer

Ids = npt.NDArray[np.int16]
Weights = npt.NDArray[np.uint8]


def sample_texts(data: Path | None, count: int, seed: int) -> Iterator[str]:
    """Texts of both phases, as the tokenizer is trained on them."""
    writer = Writer(random.Random(f"tokenizer {seed}"), data)
    mixes = [Mix(writer, "pretrain"), Mix(writer, "refine")]
    for position in range(count):
        written = mixes[position % 3 == 0].text()
        if isinstance(written, str):
            yield written
        else:
            yield from (turn.text for turn in written.turns())


def pack(
    texts: Iterator[tuple[list[int], list[int]]], windows: int, length: int, end_of_text: int
) -> tuple[Ids, Weights]:
    """Packs texts into windows, each starting at the start of a text, with padding that is never learned."""
    ids = np.full((windows, length), end_of_text, dtype=np.int16)
    weights = np.zeros((windows, length), dtype=np.uint8)
    row = used = 0
    for tokens, learned in texts:
        taken = min(len(tokens), length)
        if used + taken > length:
            row, used = row + 1, 0
            if row == windows:
                break
        ids[row, used : used + taken] = tokens[:taken]
        weights[row, used : used + taken] = learned[:taken]
        used += taken
    return ids, weights


@dataclass(frozen=True)
class Corpus:
    """What a phase reads.

    Attributes:
        data: The folder of real data, if there is one.
        tokenizer: The folder of the tokenizer.
        phase: Which mix of texts.
        windows: How many windows.
        length: Of a window, in tokens.
        seed: Of the texts.
    """

    data: Path | None
    tokenizer: Path
    phase: Phase
    windows: int
    length: int
    seed: int

    def shards(self, processes: int) -> Iterator[tuple[Ids, Weights]]:
        """Writes the corpus in parallel, shard by shard; it does not depend on `processes`."""
        count = 128 if self.windows >= 128 else 1
        jobs = [(self, shard, self.windows // count) for shard in range(count)]
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            yield from pool.imap(_write_shard, jobs)


def _write_shard(job: tuple[Corpus, int, int]) -> tuple[Ids, Weights]:
    corpus, shard, windows = job
    encode = Encoder(load_tokenizer(corpus.tokenizer))
    mix = Mix(Writer(random.Random(f"corpus {corpus.seed} {corpus.phase} {shard}"), corpus.data), corpus.phase)

    def texts() -> Iterator[tuple[list[int], list[int]]]:
        while True:
            written = mix.text()
            if isinstance(written, str):
                ids = [*encode(written), encode.control.end_of_text]
                yield ids, [1] * len(ids)
            else:
                yield conversation_ids(written, encode, encode.control)

    return pack(texts(), windows, corpus.length, encode.control.end_of_text)
