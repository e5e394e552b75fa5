"""Labelled examples as token ids, made in parallel."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing.pool import AsyncResult, Pool
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.chat_format import conversation_ids
from training.tasks.example import Example, Sources
from training.tokenizer import CONTEXT_LENGTH, Encoder, load_tokenizer

_log = logging.getLogger(__name__)
_SHARDS = 64
_ROOM = 64  # for the invocation and what is written after it


@dataclass(frozen=True)
class Rows:
    """Conversations with their labels.

    Attributes:
        ids: All conversations' ids in one piece, without invocations.
        starts: Where each conversation starts in it, and after the last one, where it ends.
        labels: The labels that occur, or all that a task has.
        label: For each conversation, the position of its label in `labels`.
    """

    ids: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    labels: list[str]
    label: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.label)

    @classmethod
    def of(cls, conversations: Sequence[Sequence[int]], said: Sequence[str], labels: Sequence[str] = ()) -> Rows:
        """Rows of conversations' ids and their labels; `labels` are all labels of the task, if it has a list."""
        known = list(labels) or sorted(set(said))
        position = {label: index for index, label in enumerate(known)}
        return cls(
            np.fromiter(chain.from_iterable(conversations), np.int32),
            np.cumsum([0, *map(len, conversations)], dtype=np.int64),
            known,
            np.array([position[label] for label in said], dtype=np.int64),
        )

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        """One after the other."""
        labels = list(dict.fromkeys(label for part in parts for label in part.labels))
        position = {label: index for index, label in enumerate(labels)}
        lengths = np.concatenate([np.diff(part.starts) for part in parts])
        return cls(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([[0], np.cumsum(lengths)]),
            labels,
            np.concatenate([np.array([position[label] for label in part.labels])[part.label] for part in parts]),
        )


def _conversation(example: Example, encode: Encoder) -> list[int]:
    return conversation_ids(example.conversation, encode, encode.control)[0]


def rows_of(examples: Iterable[Example], labels: Sequence[str], encode: Encoder) -> tuple[Rows, list[Example]]:
    """Examples as rows, and which these are: what does not fit into the context is left out."""
    pairs = [(_conversation(example, encode), example) for example in examples]
    fitting = [(ids, example) for ids, example in pairs if len(ids) <= CONTEXT_LENGTH - _ROOM]
    if len(fitting) < len(pairs):
        _log.warning("%d of %d examples do not fit into the context", len(pairs) - len(fitting), len(pairs))
    rows = Rows.of([ids for ids, _ in fitting], [example.label for _, example in fitting], labels)
    return rows, [example for _, example in fitting]


def _shard(job: tuple[str, Sources, Path, int, str]) -> Rows:
    from training.tasks.intrinsics import TASKS  # here, so that rows can be made without every task's module

    name, sources, tokenizer_folder, count, seed = job
    task = TASKS[name]
    encode = Encoder(load_tokenizer(tokenizer_folder))
    return rows_of(islice(task.training_examples(seed, sources), count), task.labels, encode)[0]


def start_training_rows(
    pool: Pool, name: str, sources: Sources, tokenizer_folder: Path, count: int, seed: int
) -> AsyncResult[list[Rows]]:
    """Starts making a task's rows; join what it gives. They do not depend on the pool's size."""
    each = max(1, count // _SHARDS)
    jobs = [(name, sources, tokenizer_folder, each, f"train {seed} {shard}") for shard in range(_SHARDS)]
    return pool.map_async(_shard, jobs, chunksize=1)
