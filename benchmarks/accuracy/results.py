"""Figures of a results file, with 95 % intervals.

All seeds are measured on the same test examples. A figure is the mean over seeds; its interval comes from drawing test
examples with replacement, the same for all seeds and for both sides of a difference. How far seeds differ is given
beside it, as the lowest and the highest seed's figure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alora_cpp.evaluation.intervals import Figure, bootstrapped
from alora_cpp.evaluation.metrics import calibration_error

Array = npt.NDArray[np.float64]
Member = dict[str, Any]
UNREADABLE = "?"


@dataclass(frozen=True)
class Measured:
    """A figure and what it was for each seed."""

    figure: Figure
    seeds: tuple[float, ...]


@dataclass(frozen=True)
class Results:
    """All runs of a results file.

    Attributes:
        environment: Where they were made.
        settings: How.
        runs: For each task, its runs.
    """

    environment: dict[str, Any]
    settings: dict[str, Any]
    runs: dict[str, list[dict[str, Any]]]

    @property
    def tasks(self) -> list[str]:
        """Tasks with at least one run."""
        return list(self.runs)

    def names(self, task: str) -> list[str]:
        """All members of a task."""
        return list(self.runs[task][0]["members"])

    def origins(self, task: str) -> list[str]:
        """The sorts of a task's test examples: up to the colon or comma of their origins."""
        return list(dict.fromkeys(_sort(origin) for origin in self.runs[task][0]["test"]["origins"]))

    def misses(self, task: str, name: str, reading: str = "") -> Array:
        """How far off each answer is, [seeds, examples]: steps on a scale, else 0 or 1.

        Args:
            task: The task.
            name: The member.
            reading: `said` for the likeliest or written answer, `median` for that of the probabilities; without it,
                the median where there is one.
        """
        return np.stack([_misses(run["test"], run["members"][name], reading) for run in self.runs[task]])

    def figure(self, task: str, name: str, reading: str = "", origin: str = "") -> Measured:
        """The error of a member, over all examples or those of one sort."""
        return _measured(self.misses(task, name, reading)[:, self._of(task, origin)])

    def difference(self, task: str, name: str, other: str, reading: str = "") -> Measured:
        """How much larger one member's error is than another's, example by example."""
        return _measured(self.misses(task, name, reading) - self.misses(task, other, reading))

    def calibration(self, task: str, name: str) -> Measured:
        """The expected calibration error: expected certainty against the share of replies that are right."""
        right = np.array([letter == "1" for letter in self.runs[task][0]["test"]["right"]])
        stated = [np.array(run["members"][name]["percent"]) / 100 for run in self.runs[task]]

        def mean_error(weights: Array) -> Array:
            found: Array = np.stack([calibration_error(each, right, weights) for each in stated]).mean(axis=0)
            return found

        ones = np.ones((1, len(right)))
        return Measured(
            _some(bootstrapped(mean_error, len(right))),
            tuple(float(calibration_error(confidence, right, ones)[0]) for confidence in stated),
        )

    def count(self, task: str, origin: str = "") -> int:
        """How many test examples there are, of one sort if it is named."""
        return int(self._of(task, origin).sum())

    def _of(self, task: str, origin: str) -> npt.NDArray[np.bool_]:
        test = self.runs[task][0]["test"]
        chosen = [not origin or _sort(test["origins"][index]) == origin for index in test["origin"]]
        return np.array(chosen)


def read_results(path: Path) -> Results:
    """Reads a results file.

    Raises:
        ValueError: Seeds of one task were measured on different examples.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    runs: dict[str, list[dict[str, Any]]] = {}
    for run in sorted(content["runs"], key=lambda run: run["seed"]):
        runs.setdefault(run["task"], []).append(run)
    for task, own in runs.items():
        if any(run["test"] != own[0]["test"] for run in own):
            raise ValueError(f"{path}: runs of {task} were measured on different examples; make them anew")
    return Results(content["environment"], content["settings"], runs)


def _sort(origin: str) -> str:
    return origin.replace(":", ",").split(",")[0]


def _misses(test: dict[str, Any], member: Member, reading: str) -> Array:
    said = member[reading or ("median" if "median" in member else "said")]
    if len(test["labels"]) == 2:
        return np.array([a != b for a, b in zip(test["expected"], said, strict=True)], dtype=np.float64)
    # What cannot be read is as far off as an answer can be.
    last = len(test["labels"]) - 1
    return np.array(
        [
            max(int(a), last - int(a)) if b == UNREADABLE else abs(int(a) - int(b))
            for a, b in zip(test["expected"], said, strict=True)
        ],
        dtype=np.float64,
    )


def _measured(misses: Array) -> Measured:
    means: Array = misses.mean(0)

    def weighted(weights: Array) -> Array:
        found: Array = weights @ means / weights.sum(-1)
        return found

    return Measured(_some(bootstrapped(weighted, len(means))), tuple(misses.mean(1).tolist()))


def _some(figure: Figure | None) -> Figure:
    if figure is None:
        raise ValueError("no examples to measure")
    return figure


Formatted = Callable[[Measured], str]


def percentages(measured: Measured) -> str:
    """An error rate: figure, interval, seeds."""
    figure = measured.figure
    return (
        f"{100 * figure.value:.1f} % ({100 * figure.low:.1f} to {100 * figure.high:.1f}){_seeds(measured.seeds, 100)}"
    )


def steps(measured: Measured) -> str:
    """A distance in steps, likewise."""
    figure = measured.figure
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f}){_seeds(measured.seeds, 1)}"


def _seeds(seeds: Sequence[float], factor: int) -> str:
    digits = 1 if factor == 100 else 3
    return f" [{factor * min(seeds):.{digits}f}…{factor * max(seeds):.{digits}f}]" if len(seeds) > 1 else ""
