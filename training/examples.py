"""Training examples of an intrinsic as token ids, made in parallel."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from training.chat_format import conversation_ids
from training.tasks import LABELS, Example, HallucinationExamples, SafetyExamples
from training.tokenizer import CONTEXT_LENGTH, Encoder, load_tokenizer

_SHARDS = 24


@dataclass(frozen=True)
class Row:
    """The conversation's ids, without the invocation, and the position of the right label among all labels."""

    ids: list[int]
    label: int


def rows_of(examples: Sequence[Example], name: str, encode: Encoder) -> list[Row]:
    """Examples as rows; what does not fit into the context is left out."""
    rows = []
    for example in examples:
        ids, _ = conversation_ids(example.conversation, encode, encode.control)
        if len(ids) < CONTEXT_LENGTH - 16:
            rows.append(Row(ids, LABELS[name].index(example.label)))
    return rows


def _shard(job: tuple[str, Path | None, Path, int, str]) -> list[Row]:
    name, data, tokenizer_folder, count, seed = job
    maker = SafetyExamples if name == "safety" else HallucinationExamples
    examples = list(islice(maker(seed, data, held_out=False), count))
    return rows_of(examples, name, Encoder(load_tokenizer(tokenizer_folder)))


def training_rows(
    name: str, data: Path | None, tokenizer_folder: Path, count: int, seed: int, processes: int
) -> list[Row]:
    """Rows for `safety` or `hallucination`; they do not depend on the number of processes."""
    jobs = [
        (name, data, tokenizer_folder, max(1, count // _SHARDS), f"train {seed} {shard}") for shard in range(_SHARDS)
    ]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return [row for rows in pool.map(_shard, jobs, chunksize=1) for row in rows]
