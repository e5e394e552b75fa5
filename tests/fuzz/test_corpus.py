"""Replays what fuzzing began with, found and keeps, and some mutants of it; no fuzzer is needed."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from fuzz.mutators import MUTATORS
from fuzz.targets import FOLDER, TARGETS, Workplace

KEPT = [path for folder in ("corpus", "regressions") for path in sorted((FOLDER / folder).glob("*/*"))]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: str(path.relative_to(FOLDER)))
def test_it_is_read_or_refused(workplace: Workplace, path: Path) -> None:
    workplace.target(path.parent.name)(path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_a_change_is_read_or_refused(workplace: Workplace, target: str) -> None:
    """And not every one is refused: then all would end at the first check."""
    random = Random(target)
    seeds = seeds_of(target)
    answers = set()
    for _ in range(100):
        changed = MUTATORS[target](random.choice(seeds), random)
        assert changed is not None, "a seed is in order"
        answers.add(workplace.target(target)(changed))
    assert answers == {True, False}


@pytest.mark.parametrize("target", TARGETS)
def test_the_seeds_are_in_order(workplace: Workplace, target: str) -> None:
    """Otherwise refusing them would prove nothing."""
    assert all(workplace.target(target)(seed) for seed in seeds_of(target))


def seeds_of(target: str) -> list[bytes]:
    """What seeds.py wrote; the fuzzer names what it keeps by digests, without a suffix."""
    return [path.read_bytes() for path in sorted((FOLDER / "corpus" / target).glob("*.*"))]
