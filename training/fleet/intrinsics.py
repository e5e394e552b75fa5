"""Trains the bundled intrinsics: a fleet for each task, whose intrinsics share its examples."""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from training.base_model import best_device
from training.examples import Rows, rows_of, start_training_rows
from training.fleet.granite import load_granite
from training.fleet.member import Member
from training.fleet.peft_folder import save_adapter
from training.fleet.train import Schedule, train_fleet
from training.tasks.example import Sources
from training.tasks.intrinsics import Intrinsic
from training.tokenizer import Encoder, load_tokenizer

BASE_NAME = "alora-tiny"
_log = logging.getLogger(__name__)
# An aLoRA more costs next to nothing, so each intrinsic tries several rates, and the validation rows choose.
_RATES = (5e-4, 1e-3, 2e-3)
_VALIDATED = 1000


def complete_with(intrinsic: Intrinsic, encode: Encoder) -> Callable[[str], list[int]]:
    """How an intrinsic's labels are written: the completion's ids and the token that ends a text."""
    return lambda label: [*encode(intrinsic.completion(label)), encode.control.end_of_text]


def is_ordered(labels: Sequence[str]) -> bool:
    """Whether labels are steps of a scale."""
    return bool(labels) and all(label.isdigit() for label in labels)


def _members(intrinsic: Intrinsic, encode: Encoder, seed: int) -> list[Member]:
    return [
        Member(
            f"{intrinsic.name} {rate:g}",
            tuple(encode.invocation(intrinsic.name)),
            encode.control.newline,
            complete_with(intrinsic, encode),
            rank=intrinsic.rank,
            rate=rate,
            seed=seed,
            ordered=is_ordered(intrinsic.task.labels),
        )
        for rate in _RATES
    ]


def train_intrinsics(
    base: Path,
    intrinsics: Sequence[Intrinsic],
    sources: Sources,
    out: Path,
    *,
    examples: int,
    seconds: float = math.inf,
    seed: int = 1,
    processes: int | None = None,
) -> dict[str, float]:
    """Trains intrinsics and writes a PEFT folder for each.

    Args:
        base: The base model's folder, with its tokenizer.
        intrinsics: What to train.
        sources: What examples are made from.
        out: Where the folders go, each named like its intrinsic.
        examples: How many conversations to make for a task, times its `share`; each is seen once.
        seconds: A limit on the time for everything; where it binds, schedules are shortened.
        seed: Of the first weights, the order and the examples.
        processes: How many make examples; all cores if not given.

    Returns:
        Every intrinsic's loss on the validation rows.
    """
    started = time.monotonic()
    tasks = {intrinsic.task.name: intrinsic.task for intrinsic in intrinsics}
    encode = Encoder(load_tokenizer(base))
    device = best_device()
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    granite = load_granite(base, device, dtype)
    losses: dict[str, float] = {}
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pending = {
            name: start_training_rows(pool, name, sources, base, round(examples * task.share), seed)
            for name, task in tasks.items()
        }
        for position, (task_name, task) in enumerate(tasks.items()):
            validation, _ = rows_of(task.measured_examples("validation", sources, _VALIDATED), task.labels, encode)
            rows = Rows.joined(pending.pop(task_name).get())
            own = [intrinsic for intrinsic in intrinsics if intrinsic.task.name == task_name]
            left = (seconds - (time.monotonic() - started)) / (len(tasks) - position)
            _log.info("%s: %d examples after %.0f s", task_name, len(rows), time.monotonic() - started)
            fleet, found = train_fleet(
                granite,
                [member for intrinsic in own for member in _members(intrinsic, encode, seed)],
                rows,
                validation,
                Schedule(seconds=max(left, 1.0), seed=seed),
            )
            for intrinsic in own:
                tried = {member.name: found[member.name] for member in _members(intrinsic, encode, seed)}
                best = min(tried, key=lambda name: tried[name])
                losses[intrinsic.name] = tried[best]
                save_adapter(*fleet.place(best), BASE_NAME, out / intrinsic.name)
                _log.info("%s: %s", intrinsic.name, json.dumps(tried))
    return losses
