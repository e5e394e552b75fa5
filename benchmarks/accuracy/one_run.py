"""Trains and measures all configurations of one task with one seed."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.accuracy.comparison import SEVERAL_TOKENS, Configuration, members
from training.examples import Rows, rows_of
from training.fleet.answers import completions, label_shares
from training.fleet.granite import load_granite
from training.fleet.train import Fleet, Schedule, train_fleet
from training.tasks.example import Example, Sources
from training.tasks.intrinsics import INTRINSICS, TASKS
from training.tokenizer import Encoder, load_tokenizer

_log = logging.getLogger(__name__)
_GENERATED = 1000  # measured examples, besides the real ones
_LONGEST = 24  # tokens of a written answer
UNREADABLE = "?"

Run = dict[str, Any]


class Runner:
    """Trains on one device."""

    def __init__(self, base: Path, sources: Sources, device: torch.device) -> None:
        torch.set_float32_matmul_precision("high")
        self._sources = sources
        self._encode = Encoder(load_tokenizer(base))
        self._fast = load_granite(base, device, torch.bfloat16 if device.type == "cuda" else torch.float32)
        self._exact = load_granite(base, device, torch.float32)

    def run(self, task: str, seed: int, rows: Rows, rates: Sequence[float], seconds: float) -> Run:
        """Trains every configuration at every rate, chooses by the validation rows, and measures on the test rows.

        Args:
            task: The task's name.
            seed: Of the first weights and the order; rows are made with it, too.
            rows: What to learn from.
            rates: Learning rates to try.
            seconds: A limit on the training time.

        Returns:
            The run as it stands in the results file.
        """
        started = time.monotonic()
        validation, _ = self._measured(task, "validation")
        test, examples = self._measured(task, "test")
        tried = members(task, rates, seed, self._encode)
        everyone = [member for group in tried.values() for member in group]
        schedule = Schedule(rows=64, checks=4, seconds=seconds, seed=seed)
        fleet, losses = train_fleet(self._fast, everyone, rows, validation, schedule)
        trained = time.monotonic()
        best = {c: min(group, key=lambda member: losses[member.name]) for c, group in tried.items()}
        answers = self._answers(task, fleet, {c: member.name for c, member in best.items()}, test)
        _log.info(
            "%s, seed %d: %.0f s of training, %.0f s of measuring",
            task,
            seed,
            trained - started,
            time.monotonic() - trained,
        )
        return {
            "task": task,
            "seed": seed,
            "rows": len(rows),
            "training_seconds": round(trained - started, 1),
            "test": _described(task, examples),
            "members": {
                c.name: {
                    "kind": c.kind,
                    "rank": c.rank,
                    "activation": c.activation,
                    "several": c.several,
                    "rate": best[c].rate,
                    "validation_losses": {f"{member.rate:g}": round(losses[member.name], 5) for member in group},
                    **answers[c],
                }
                for c, group in tried.items()
            },
        }

    def _measured(self, task: str, split: Any) -> tuple[Rows, list[Example]]:
        examples = TASKS[task].measured_examples(split, self._sources, _GENERATED)
        return rows_of(examples, TASKS[task].labels, self._encode)

    def _answers(
        self, task: str, fleet: Fleet, names: Mapping[Configuration, str], test: Rows
    ) -> dict[Configuration, Run]:
        one = [configuration for configuration in names if not configuration.several]
        shares = label_shares(fleet.only([names[c] for c in one], self._exact), test)
        found = {c: _of_shares(task, shares[position]) for position, c in enumerate(one)}
        several = [configuration for configuration in names if configuration.several]
        if several:
            end = self._encode.control.end_of_text
            texts = completions(fleet.only([names[c] for c in several], self._exact), test, end, _LONGEST)
            labels = INTRINSICS[SEVERAL_TOKENS[task]]
            known = {tuple(self._encode(labels.completion(label))): _letter(task, label) for label in test.labels}
            for configuration, written in zip(several, texts, strict=True):
                said = "".join(known.get(tuple(ids), UNREADABLE) for ids in written)
                found[configuration] = {"said": said}
        return found


def _letter(task: str, label: str) -> str:
    return str(TASKS[task].labels.index(label))


def _of_shares(task: str, shares: npt.NDArray[np.float32]) -> Run:
    """What is read from labels' probabilities: the likeliest; and on a scale the median and the expected step."""
    found: Run = {"said": "".join(map(str, shares.argmax(-1)))}
    if is_scale(task):
        found["median"] = "".join(map(str, (shares.cumsum(-1) >= 0.5).argmax(-1)))
        middles = np.arange(shares.shape[1]) / shares.shape[1] + 0.5 / shares.shape[1]
        found["percent"] = np.rint(100 * (shares @ middles)).astype(int).tolist()
    return found


def is_scale(task: str) -> bool:
    """Whether a task's labels are steps, so that it matters how far off an answer is."""
    return task == "certainty"


def _described(task: str, examples: Sequence[Example]) -> Run:
    """The test examples' labels and origins, a character each."""
    origins = list(dict.fromkeys(example.origin for example in examples))
    described: Run = {
        "labels": list(TASKS[task].labels),
        "expected": "".join(_letter(task, example.label) for example in examples),
        "origins": origins,
        "origin": [origins.index(example.origin) for example in examples],
    }
    if all(example.right is not None for example in examples):
        described["right"] = "".join(str(int(bool(example.right))) for example in examples)
    return described
