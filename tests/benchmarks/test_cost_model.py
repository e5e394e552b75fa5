"""The works of the cost model, its ratios against limits worked out by hand, and its tables."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import cost_model
from benchmarks.cost_model import RATIOS, balance, tables, works
from benchmarks.machine import Machine, MeasuredPass, Measurements
from benchmarks.model_shape import low_rank, read_shape
from benchmarks.pass_cost import Pass, pass_costs

PAGE = Path(__file__).parents[2] / "docs/performance.md"
MACHINE = Machine("small", 1e9, {1: 1e9, 8: 2e9, 16: 4e9, 512: 8e9}, {1: 1e9, 8: 1e9, 512: 4e9})
MEASURED = Measurements("a model", "Q8_0", {1: MACHINE, 2: MACHINE}, (MeasuredPass(1, 8, 0.004, 0.001),))


@pytest.mark.parametrize(
    ("name", "passes", "rows"),
    [
        ("reading the prompt", 5, 600),
        ("one verdict", 1, 4),
        ("one verdict, LoRA", 5, 604),
        ("eight verdicts", 1, 32),
        ("eight verdicts, one by one", 8, 32),
        ("eight verdicts of one row", 1, 8),
        ("base goes on", 1, 16),
        ("base goes on, all read again", 5, 616),
        ("reply", 64, 64),
        ("guarded reply", 65, 64 + 4 * 3 * 4),
        ("guarded reply, one by one", 64 + 4 * 3, 64 + 4 * 3 * 4),
    ],
)
def test_works_have_these_passes_and_rows(name: str, passes: int, rows: int) -> None:
    found = works(600)[name]
    assert len(found) == passes
    assert sum(one.rows for one in found) == rows


def test_guards_share_the_pass_of_the_next_token() -> None:
    found = works(100)["guarded reply"]
    assert [place for place, one in enumerate(found) if one.adapted] == [16, 32, 48, 64]
    assert found[16] == Pass(116, base=1, adapted=(4, 4, 4), wanted=4)
    assert found[64] == Pass(164, base=0, adapted=(4, 4, 4), wanted=3)
    assert found[17] == Pass(117, base=1)


def test_where_memory_is_the_limit_weights_are_read_once_for_all(tiny_gguf: Path) -> None:
    shape = read_shape(tiny_gguf)
    adapter = low_rank(shape, rank=4, targets=["attn_q"])
    added = sum(matrix.bytes for matrix in adapter)
    machine = Machine("memory", 1e6, {1: 1e30}, {1: 1e30})
    found = works(100)
    fused, alone = (
        sum(machine.limit(pass_costs(shape, adapter, one)) for one in found[name])
        for name in ("eight verdicts", "eight verdicts, one by one")
    )
    assert fused == pytest.approx((shape.weight_bytes + 8 * added + shape.cell_bytes * (100 + 64)) / 1e6)
    assert alone == pytest.approx(8 * (shape.weight_bytes + added + shape.cell_bytes * (100 + 8)) / 1e6)


def test_where_products_are_the_limit_rows_count_alone(tiny_gguf: Path) -> None:
    shape = read_shape(tiny_gguf)
    machine = Machine("processor", 1e30, {1: 1e6}, {1: 1e6})
    found = works(100)
    fused, alone = (
        sum(machine.limit(pass_costs(shape, (), one)) for one in found[name])
        for name in ("three verdicts", "three verdicts, one by one")
    )
    assert fused == pytest.approx(alone)


def test_memory_and_products_balance(tiny_gguf: Path) -> None:
    # Four bytes a weight at 1 GB/s, two operations a weight and row at 8 Gop/s.
    assert balance(read_shape(tiny_gguf), MACHINE) == pytest.approx(16)


def test_every_ratio_is_of_works_that_there_are() -> None:
    names = set(works(10))
    assert {name for pair in RATIOS for name in pair} <= names


def test_tables_tell_of_each_context_and_work(tiny_gguf: Path) -> None:
    shape = read_shape(tiny_gguf)
    found = tables(shape, low_rank(shape, rank=4, targets=["attn_q"]), MEASURED, [16, 1024])
    lines = found["cost: works"].splitlines()
    assert len(lines) == 2 + 2 * len(works(16))
    assert "| one verdict | 1,024 | 4 | 1 |" in found["cost: works"]
    assert len(found["cost: ratios"].splitlines()) == 2 + 2 * len(RATIOS)
    assert "| 1 | 8 | 4.0 | 1.0 | 25 % |" in found["cost: passes"]
    again, on = (MACHINE.limit(pass_costs(shape, (), one)) for one in (Pass(0, base=32), Pass(16, base=16)))
    assert f"| base goes on, all read again / base goes on | 16 | {again / on:.3g} |" in found["cost: ratios"]
    # 256 bytes of keys and values a token, twice for the heads that share them, 12 times for the rows.
    assert "| 16,384 | 12 | 4 | 8 | 101 |" in tables(shape, (), MEASURED, [16_384])["cost: walks"]
    assert "| 2 | 1.0 | 1 | 2 | 4 | 8 | 1 | 4 |" in found["cost: machine"]


def test_the_page_has_a_place_for_each_table(tiny_gguf: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in tables(read_shape(tiny_gguf), (), MEASURED, [16]):
        assert page.count(f"<!-- {name} -->\n") == 1
        assert page.partition(f"<!-- {name} -->\n")[2].count(f"<!-- /{name} -->") == 1


def test_the_command_prints_the_tables(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    MEASURED.write(tmp_path / "machine.json")
    command = ["cost_model", "--model", str(tiny_gguf), "--machine", str(tmp_path / "machine.json")]
    monkeypatch.setattr(sys, "argv", [*command, "--contexts", "16", "--rank", "4"])
    cost_model.main()
    shape = read_shape(tiny_gguf)
    adapter = low_rank(shape, rank=4, targets=["attn_q", "attn_k", "attn_v"])
    found = tables(shape, adapter, MEASURED, [16])
    assert capsys.readouterr().out == "\n\n".join(found.values()) + "\n"
    page = tmp_path / "page.md"
    page.write_text("".join(f"before\n<!-- {name} -->\nold\n<!-- /{name} -->\n" for name in found))
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--page", str(page)])
    cost_model.main()
    assert page.read_text() == "".join(
        f"before\n<!-- {name} -->\n{text}\n<!-- /{name} -->\n" for name, text in found.items()
    )
    monkeypatch.setattr(sys, "argv", [*command, "--targets", "attn_x"])
    with pytest.raises(SystemExit, match="no projection attn_x"):
        cost_model.main()
