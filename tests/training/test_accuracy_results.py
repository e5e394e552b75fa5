"""Figures of a results file, against figures worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
from benchmarks.accuracy.results import percentages, read_results, steps

pytestmark = pytest.mark.oracle  # not for its figures: what names the adapters needs torch

SAFETY = {"labels": ["Y", "N"], "expected": "0011", "origins": ["generated", "real: mail"], "origin": [0, 0, 0, 1]}
CERTAINTY = {
    "labels": [str(step) for step in range(10)],
    "expected": "0592",
    "origins": ["generated, new wording"],
    "origin": [0, 0, 0, 0],
    "right": "0011",
}


def run(task: str, seed: int, test: dict[str, Any], **members: dict[str, Any]) -> dict[str, Any]:
    return {"task": task, "seed": seed, "test": test, "members": members}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    runs = [
        run("safety", 2, SAFETY, one={"said": "0111"}, several={"said": "?011"}),
        run("safety", 1, SAFETY, one={"said": "0010"}, several={"said": "0011"}),
        run("certainty", 1, CERTAINTY, one={"said": "0590", "median": "1582", "percent": [0, 0, 100, 50]}),
        run("certainty", 2, CERTAINTY, one={"said": "?5?2", "median": "0592", "percent": [10, 10, 90, 90]}),
    ]
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"environment": {}, "settings": {}, "runs": runs}))
    return file


def test_errors_are_counted_for_each_seed_and_meaned(path: Path) -> None:
    results = read_results(path)
    found = results.figure("safety", "one")
    assert found.seeds == (0.25, 0.25)
    assert found.figure.value == 0.25
    assert 0 <= found.figure.low < 0.25 < found.figure.high <= 0.5  # in no draw are both seeds wrong everywhere
    assert results.figure("safety", "several").seeds == (0.0, 0.25)  # what cannot be read is wrong


def test_figures_of_one_sort(path: Path) -> None:
    results = read_results(path)
    assert results.origins("safety") == ["generated", "real"]
    assert results.origins("certainty") == ["generated"]
    assert results.count("safety", "real") == 1
    assert results.figure("safety", "one", origin="real").seeds == (1.0, 0.0)
    assert results.figure("safety", "one", origin="generated").seeds == pytest.approx((0.0, 1 / 3))


def test_a_scale_counts_steps_and_prefers_the_median(path: Path) -> None:
    results = read_results(path)
    assert results.figure("certainty", "one").seeds == (0.5, 0.0)
    # The second seed's unreadable answers are as far off as can be: 9 from 0, and 9 from 9.
    assert results.figure("certainty", "one", "said").seeds == (0.5, 4.5)


def test_differences_are_taken_example_by_example(path: Path) -> None:
    found = read_results(path).difference("safety", "several", "one")
    assert found.seeds == (-0.25, 0.0)
    assert found.figure.value == -0.125


def test_calibration(path: Path) -> None:
    found = read_results(path).calibration("certainty", "one")
    # Bins of the first seed: two at 0 of which none is right, one at 1 and one at 0.5, both right.
    assert found.seeds == pytest.approx((0.5 / 4, 0.1))
    assert found.figure.value == pytest.approx((0.5 / 4 + 0.1) / 2)


def test_as_text(path: Path) -> None:
    results = read_results(path)
    assert percentages(results.figure("safety", "several")).startswith("12.5 % (0.0 to ")
    assert percentages(results.figure("safety", "several")).endswith(" [0.0…25.0]")
    assert steps(results.figure("certainty", "one")).startswith("0.250 (")


def test_seeds_measured_on_different_examples_are_refused(path: Path) -> None:
    content = json.loads(path.read_text())
    content["runs"][0]["test"] = SAFETY | {"expected": "0001"}
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="runs of safety were measured on different examples"):
        read_results(path)
