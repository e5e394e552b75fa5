"""What a machine's limits say of a pass, how rates are worked out of seconds, and the file that keeps them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alora_cpp import Branch, Context, Model
from alora_cpp.errors import ArgumentError
from benchmarks import machine as under_test
from benchmarks.machine import ROWS, Machine, MeasuredPass, Measurements, rates, read_measurements
from benchmarks.model_shape import read_shape
from benchmarks.pass_cost import Cost, Pass, pass_costs

# Ten bytes and a thousand operations a second at best; slower for few rows.
MACHINE = Machine("small", 10.0, {1: 100.0, 4: 400.0, 8: 400.0, 12: 1000.0}, {1: 50.0, 12: 200.0})


def test_the_limit_is_the_slower_of_memory_and_processor_part_by_part() -> None:
    parts = {"weights": Cost(20, 1000, 1), "attention": Cost(5, 3000, 1), "logits": Cost(0, 0, 0)}
    assert MACHINE.limit(parts) == pytest.approx(2.0 + 3.0)


def test_what_is_expected_depends_on_the_rows() -> None:
    assert MACHINE.expected({"weights": Cost(20, 1000, 1)}) == pytest.approx(10.0)
    assert MACHINE.expected({"weights": Cost(20, 4000, 4)}) == pytest.approx(10.0)
    assert MACHINE.expected({"weights": Cost(200, 4000, 4)}) == pytest.approx(20.0)
    assert MACHINE.expected({"attention": Cost(0, 1200, 12)}) == pytest.approx(6.0)


def test_between_measured_rows_seconds_grow_evenly() -> None:
    # One operation a row: 4 rows take 10 ms, 8 take 20, 12 take 12.
    assert MACHINE.expected({"weights": Cost(0, 6, 6)}) == pytest.approx(0.015)
    assert MACHINE.expected({"weights": Cost(0, 10, 10)}) == pytest.approx(0.016)
    assert MACHINE.expected({"weights": Cost(0, 100, 100)}) == pytest.approx(0.1)


def test_another_machine_has_its_own_limits_and_kernels_like_ours() -> None:
    other = MACHINE.like("large", bandwidth=30.0, products=4000.0)
    assert other.name == "large"
    assert other.limit({"weights": Cost(30, 8000, 1)}) == pytest.approx(2.0)
    assert other.expected({"weights": Cost(0, 1000, 1)}) == pytest.approx(2.5)
    assert other.expected({"attention": Cost(0, 1200, 12)}) == pytest.approx(1.5)


def test_rates_are_worked_out_of_seconds(tiny_gguf: Path) -> None:
    shape = read_shape(tiny_gguf)
    near, far = (pass_costs(shape, (), Pass(context, base=8)) for context in (1, 101))
    work = near["weights"].operations + near["logits"].operations
    # A hundred more cells for each of eight rows, 512 operations each: told by hand in test_pass_cost.py.
    more = 512 * 8 * 100
    assert far["attention"].operations - near["attention"].operations == more
    assert rates(shape, {8: 2.0}, {8: 2.5}, 101) == ({8: pytest.approx(work / 2.0)}, {8: pytest.approx(more / 0.5)})


def test_noise_leaves_no_rate_of_attention(tiny_gguf: Path) -> None:
    shape = read_shape(tiny_gguf)
    assert set(rates(shape, {1: 2.0, 8: 2.0}, {1: 1.9, 8: 2.5}, 101)[1]) == {8}
    with pytest.raises(ArgumentError, match="behind 101 tokens took no longer"):
        rates(shape, {8: 2.0}, {8: 2.0}, 101)


def test_passes_are_measured_and_leave_nothing(tiny_gguf: Path) -> None:
    with Model(tiny_gguf) as model, model.context(n_ctx=600, n_threads=1) as context, context.branch() as trunk:
        trunk.append([2, 3])
        context.decode()
        seconds = under_test.pass_seconds(context, trunk, 1)
        assert context.counters.rows_decoded == 2 + 2 * sum(ROWS)
        assert context.n_cells_used == 2
    assert tuple(seconds) == ROWS
    assert all(taken > 0 for taken in seconds.values())


def test_the_shortest_round_counts(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A clock that is read before and after each pass: those of the second round take 3 s, the others 5.
    spans = [5.0] * len(ROWS) + [3.0] * len(ROWS) + [5.0] * len(ROWS)
    clock = (end * taken for taken in spans for end in (0, 1))
    monkeypatch.setattr(under_test, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    with Model(tiny_gguf) as model, model.context(n_ctx=600, n_threads=1) as context, context.branch() as trunk:
        assert under_test.pass_seconds(context, trunk, 2) == dict.fromkeys(ROWS, 3.0)


def test_memory_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "_MEMORY", 3 << 20)
    assert under_test.memory_bandwidth(2, 2) > 0


def test_everything_is_measured_for_each_number_of_threads(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "memory_bandwidth", lambda threads, rounds: 1e15 * threads)
    measured = under_test.pass_seconds

    def longer_behind_more(context: Context, trunk: Branch, rounds: int) -> dict[int, float]:
        # So small a model's attention is lost in the noise.
        return {rows: seconds + 0.01 * trunk.length for rows, seconds in measured(context, trunk, rounds).items()}

    monkeypatch.setattr(under_test, "pass_seconds", longer_behind_more)
    shape = read_shape(tiny_gguf)
    with Model(tiny_gguf) as model:
        found = under_test.measure(model, shape, threads=[2, 1], prefix=512, rounds=1)
    assert list(found.machines) == [1, 2]
    assert found.machine is found.machines[2]
    assert found.machine.bandwidth == 2e15
    assert set(found.machine.products) == set(ROWS)
    assert found.machine.attention
    assert [(one.context, one.rows) for one in found.passes] == [(c, rows) for c in (1, 512) for rows in ROWS]
    for one in found.passes:
        assert one.limit == found.machine.limit(pass_costs(shape, (), Pass(one.context, base=one.rows)))


@pytest.mark.parametrize("options", [{"threads": [0]}, {"threads": []}, {"rounds": 0}, {"prefix": 0}, {"prefix": 1}])
def test_options_out_of_range_are_refused(options: dict[str, Any], tiny_gguf: Path) -> None:
    # Behind one token a pass is what it is with nothing before it.
    with Model(tiny_gguf) as model, pytest.raises(ArgumentError, match=next(iter(options))):
        under_test.measure(model, read_shape(tiny_gguf), **({"threads": [1], "prefix": 9, "rounds": 1} | options))


def test_the_file_keeps_everything(tmp_path: Path) -> None:
    passes = (MeasuredPass(1, 8, 0.5, 0.25),)
    written = Measurements("a model", "Q4_K_M", {1: MACHINE, 2: MACHINE}, passes)
    written.write(tmp_path / "machine.json")
    assert read_measurements(tmp_path / "machine.json") == written


@pytest.mark.parametrize("text", [None, "", "[]", '{"machines": {}}', '{"machines": {"1": 3}}', '{"machines": 7}'])
def test_another_file_is_refused(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ArgumentError, match=r"expected what `python -m benchmarks\.machine"):
        read_measurements(path)


def test_a_file_without_machines_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    path.write_text(json.dumps({"model": "", "file_type": "", "machines": {}, "passes": []}))
    with pytest.raises(ArgumentError, match=r"machine\.json"):
        read_measurements(path)
