"""The results file: rounds that are finished, and figures of them.

It is JSON. `settings` say how it was made, `contenders` what each one held and used, `rounds` hold for every work,
prompt and round what each contender did, step by step; the warm-up is round 0.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers.contender import Step
from benchmarks.peers.works import Steps

Measure = Callable[[Steps], float]


class ResultsError(Exception):
    """A results file cannot be used; its text says why and what to do."""


@dataclass(frozen=True)
class Round:
    """One work after one prompt, done once by each contender.

    Attributes:
        work: Its name.
        prompt: Tokens of the prompt.
        number: Which round; 0 warms up.
        steps: What each contender did, in the order in which they took turns.
        cannot: Who could not do it, and why.
    """

    work: str
    prompt: int
    number: int
    steps: dict[str, Steps]
    cannot: dict[str, str]

    @property
    def key(self) -> tuple[str, int, int]:
        """What tells it from all others."""
        return self.work, self.prompt, self.number


@dataclass(frozen=True)
class Ratio:
    """How many times one figure is another.

    Attributes:
        value: The median of the ratios within rounds.
        lowest: The smallest of them.
        highest: The largest.
        rounds: How many there were.
    """

    value: float
    lowest: float
    highest: float
    rounds: int


@dataclass
class Results:
    """Everything that was measured.

    Attributes:
        settings: How: shape, quantization, threads, the machine.
        contenders: By name: `weights`, `kv`, `peak`, ... in bytes, and `waiting`, the seconds of processor time that it
            used while others worked.
        rounds: Finished rounds.
    """

    settings: dict[str, Any]
    contenders: dict[str, dict[str, float]] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)

    def counted(self, work: str, prompt: int) -> Iterator[Round]:
        """The rounds that count."""
        return (one for one in self.rounds if (one.work, one.prompt) == (work, prompt) and one.number > 0)

    def prompts(self, work: str) -> list[int]:
        """Prompts after which a work was measured, shortest first."""
        return sorted({one.prompt for one in self.rounds if one.work == work and one.number > 0})

    def names(self, work: str) -> list[str]:
        """Contenders that took part in a work, in the order in which they were asked for."""
        took_part = {name for one in self.rounds if one.work == work for name in (*one.steps, *one.cannot)}
        return [name for name in self.settings["contenders"] if name in took_part]

    def reason(self, work: str, prompt: int, name: str) -> str | None:
        """Why a contender could not do a work; None if it could."""
        return next((one.cannot[name] for one in self.counted(work, prompt) if name in one.cannot), None)

    def values(self, work: str, prompt: int, name: str, measure: Measure) -> list[float]:
        """A measure in each round that counts."""
        return [measure(one.steps[name]) for one in self.counted(work, prompt) if name in one.steps]

    def median(self, work: str, prompt: int, name: str, measure: Measure) -> float:
        """The median of a measure; NaN where the contender has none."""
        return statistics.median(self.values(work, prompt, name, measure) or [math.nan])

    def ratio(self, work: str, prompt: int, of: tuple[str, Measure], to: tuple[str, Measure]) -> Ratio | None:
        """How many times `to`'s measure `of`'s is; each is a contender and what is measured of it.

        Returns:
            None where there is no round in which both did the work.
        """
        ratios = [
            of[1](one.steps[of[0]]) / to[1](one.steps[to[0]])
            for one in self.counted(work, prompt)
            if of[0] in one.steps and to[0] in one.steps
        ]
        return Ratio(statistics.median(ratios), min(ratios), max(ratios), len(ratios)) if ratios else None

    def write(self, path: Path) -> None:
        """Writes the file anew, whole or not at all."""
        unfinished = path.with_name(f"{path.name}.part")
        unfinished.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        unfinished.replace(path)


def read_results(path: Path) -> Results:
    """Reads a results file.

    Raises:
        ResultsError: It is missing, or none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rounds = [
            Round(**{**one, "steps": {name: _steps(steps) for name, steps in one["steps"].items()}})
            for one in found["rounds"]
        ]
        return Results(found["settings"], found["contenders"], rounds)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultsError(
            f"{path} cannot be read as results ({type(error).__name__}: {error}): expected a file that "
            f"`python -m benchmarks.peers --out` wrote"
        ) from error


def resume(path: Path, settings: dict[str, Any]) -> Results:
    """The results of an earlier run to go on with, or new ones.

    Raises:
        ResultsError: The file is not a results file, or was made with other settings.
    """
    if not path.exists():
        return Results(settings)
    results = read_results(path)
    other = [key for key in settings if results.settings.get(key) != settings[key]]
    if other:
        differences = ", ".join(f"{key} {results.settings.get(key)!r}, not {settings[key]!r}" for key in other)
        raise ResultsError(f"{path} was made with {differences}: name another file, or ask for the same")
    return results


def _steps(found: dict[str, Any]) -> Steps:
    return {name: Step(**step) for name, step in found.items()}


def seconds(*names: str) -> Measure:
    """The seconds of some steps, or of all that begin so; of all where none is named."""
    return lambda steps: sum(step.seconds for name, step in steps.items() if not names or name.startswith(names))


def time_to_first(before: str, step: str) -> Measure:
    """From the beginning of one step to the first token of the one that follows it."""
    return lambda steps: steps[before].seconds + steps[step].first


def evaluated(*names: str) -> Measure:
    """Rows computed in some steps, or in all that begin so; in all where none is named."""
    return lambda steps: sum(step.evaluated for name, step in steps.items() if not names or name.startswith(names))


def reused(steps: Steps) -> float:
    """Tokens that were not read again, over all steps."""
    return sum(step.reused for step in steps.values())
