"""The results file, its figures, and what is made of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.pages import table, with_tables
from benchmarks.peers import report
from benchmarks.peers.contender import Step
from benchmarks.peers.goals import outcomes
from benchmarks.peers.results import (
    Results,
    ResultsError,
    Round,
    evaluated,
    read_results,
    resume,
    reused,
    seconds,
    time_to_first,
)
from benchmarks.peers.works import Steps

SETTINGS: dict[str, Any] = {
    "shape": "1b",
    "quantization": "q4_k_m",
    "threads": 2,
    "contenders": ["ours", "ours-one-by-one", "ours-lora", "llama-server", "llama-server-switch"],
    "machine": "a machine",
}
VERDICT = "one-token verdict, LoRA over ours"
HELD = {"weights": 800e6, "kv": 100e6, "peak": 970e6, "anonymous": 900e6, "waiting": 0.125}


def step(taken: float, first: float | None = None, rows: int = 4) -> Step:
    return Step(taken, taken if first is None else first, rows, 7, [])


def verdicts(ours: float, lora: float, number: int, prompt: int = 1024) -> Round:
    """A round in which only verdicts differ."""
    steps = {
        name: {"prompt": step(6.0), "verdict": step(taken)} for name, taken in (("ours", ours), ("ours-lora", lora))
    }
    return Round("verdict", prompt, number, steps, {})


def results(*rounds: Round, **settings: Any) -> Results:
    return Results(SETTINGS | settings, {"ours": dict(HELD)}, list(rounds))


def returns(rows: int, first: float = 0.1) -> Round:
    steps: dict[str, Steps] = {
        "ours": {"prompt": step(6), "turn": step(0.0, rows=0), "base": step(1.0, first, rows)},
        "llama-server": {"prompt": step(6), "turn": step(2.0, rows=0), "base": step(8.0, 6.0, 1040)},
    }
    return Round("return", 1024, 1, steps, {})


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    whole = results(verdicts(0.1, 8.0, 1), replace(returns(31), cannot={"peft": "too long"}))
    whole.write(tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == whole
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_a_ratio_is_the_median_of_those_within_rounds() -> None:
    """The medians of the two sides, 0.3 and 6, would give 20."""
    found = results(verdicts(9.0, 9.0, 0), verdicts(0.1, 6.0, 1), verdicts(0.5, 5.0, 2), verdicts(0.3, 24.0, 3))
    ratio = found.ratio("verdict", 1024, ("ours-lora", seconds("verdict")), ("ours", seconds("verdict")))
    assert ratio is not None
    assert (ratio.value, ratio.lowest, ratio.highest, ratio.rounds) == pytest.approx((60.0, 10.0, 80.0, 3))
    assert found.median("verdict", 1024, "ours", seconds("verdict")) == pytest.approx(0.3)


def test_rounds_without_both_give_no_ratio() -> None:
    alone = Round("verdict", 1024, 1, {"ours": {"verdict": step(1.0)}}, {})
    both = verdicts(0.1, 8.0, 2)
    sides = ("ours-lora", seconds("verdict")), ("ours", seconds("verdict"))
    assert results(alone).ratio("verdict", 1024, *sides) is None
    found = results(alone, both).ratio("verdict", 1024, *sides)
    assert found is not None
    assert (found.rounds, found.value) == (1, pytest.approx(80.0))


def test_measures_of_steps() -> None:
    steps = {"turn": step(2.0, rows=16), "base 1": step(8.0, 6.0, 20), "base 2": step(1.0, 0.5, 30)}
    assert seconds()(steps) == 11.0
    assert seconds("base")(steps) == 9.0
    assert evaluated("turn", "base 2")(steps) == 46
    assert reused(steps) == 21
    assert time_to_first("turn", "base 1")(steps) == 8.0


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"settings": {}, "contenders": {}, "rounds": [{"work": "a"}]}'])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ResultsError, match=r"results\.json cannot be read as results"):
        resume(path, SETTINGS)


def test_other_settings_need_another_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    results(verdicts(0.1, 8.0, 1)).write(path)
    assert len(resume(path, SETTINGS).rounds) == 1
    with pytest.raises(ResultsError, match=r"threads 2, not 4: name another file"):
        resume(path, SETTINGS | {"threads": 4})
    assert resume(tmp_path / "new.json", SETTINGS) == Results(SETTINGS)


def met(found: Results) -> dict[tuple[str, int | None], bool | None]:
    return {(one.about, one.prompt): one.met for one in outcomes(found)}


def test_goals_are_met_or_missed() -> None:
    enough, too_little = verdicts(0.1, 8.01, 1), verdicts(0.1, 7.9, 1)
    assert met(results(enough))[VERDICT, 1024] is True
    assert met(results(too_little))[VERDICT, 1024] is False
    # 4,096 tokens want more than 1,024 do.
    far = met(results(verdicts(0.1, 24.9, 1, prompt=4096)))
    assert (far[VERDICT, 4096], far[VERDICT, 1024]) == (False, None)


def test_going_on_is_compared_from_the_turn_to_the_first_token() -> None:
    (found,) = (one for one in outcomes(results(returns(31))) if one.about.startswith("first token") and one.value)
    assert (found.value, found.goal, found.met) == (pytest.approx(80.0), 50, True)


def test_rows_that_are_read_again_are_counted() -> None:
    about = "tokens read again when the base goes on after checks, ours"
    assert met(results(returns(16 + 15)))[about, 1024] is True
    assert met(results(returns(16 + 15 + 1)))[about, 1024] is False


def test_memory_is_what_is_beyond_weights_and_cache() -> None:
    about = "memory over weights and KV cache at its peak, ours, MB"
    found = results()
    assert met(found)[about, None] is True
    found.contenders["ours"]["peak"] += 11e6
    assert met(found)[about, None] is False


def test_other_shapes_have_no_goals() -> None:
    assert set(met(results(verdicts(1.0, 1.0, 1), shape="3b")).values()) == {None}


def run_report(found: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    path = tmp_path / "results.json"
    found.write(path)
    monkeypatch.setattr("sys.argv", ["report", str(path), *arguments])
    report.main()


def test_the_report_exits_with_1_where_a_goal_was_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_report(results(verdicts(0.1, 9.0, 1)), tmp_path, monkeypatch)
    printed = capsys.readouterr().out
    assert "rounds: 1. While others worked, nobody used more than 0.12 s" in printed
    assert "| one-token verdict, LoRA over ours | 1,024 | 90 (90 to 90, n = 1) | ≥ 80 | yes |" in printed
    assert "| one-token verdict, LoRA over ours | 4,096 | \N{EN DASH} | ≥ 250 | not measured |" in printed
    assert "| ours-lora | 9 s (90 \N{MULTIPLICATION SIGN}) |" in printed
    with pytest.raises(SystemExit) as ended:
        run_report(results(verdicts(0.1, 7.0, 1)), tmp_path, monkeypatch)
    # A text as exit status is printed to stderr, and is 1.
    assert "missed: one-token verdict, LoRA over ours (70, goal 80)" in str(ended.value.code)


def test_reasons_stand_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = replace(verdicts(0.1, 9.0, 1), cannot={"llama-server": "no room"})
    run_report(results(one, shape="tiny"), tmp_path, monkeypatch)
    assert "| llama-server | no room |" in capsys.readouterr().out


def test_tables_go_into_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    mark = "<!-- peers 1b q4_k_m verdict -->"
    page.write_text(f"Before\n\n{mark}\nold\n{mark.replace('peers', '/peers')}\n\nAfter\n", encoding="utf-8")
    run_report(results(verdicts(0.1, 9.0, 1)), tmp_path, monkeypatch, "--page", str(page))
    text = page.read_text(encoding="utf-8")
    assert "old" not in text
    assert text.startswith(f"Before\n\n{mark}\n| Tokens of the prompt | 1,024 |\n| :--- | ---: |\n| ours | 100 ms |")
    assert text.endswith("<!-- /peers 1b q4_k_m verdict -->\n\nAfter\n")


@pytest.mark.parametrize("page", ["no marks", "<!-- one -->\nnever closed"])
def test_a_page_without_marks_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="<!-- "):
        with_tables(page, {"one": "text"})


def test_a_table_has_figures_on_the_right() -> None:
    assert table(["a", "b"], [["c", "1"]]) == "| a | b |\n| :--- | ---: |\n| c | 1 |"


def test_plots_are_drawn_of_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    found = results(verdicts(0.1, 9.0, 1), verdicts(0.2, 40.0, 1, prompt=4096), returns(31))
    with pytest.raises(SystemExit):
        run_report(found, tmp_path, monkeypatch, "--out", str(tmp_path / "images"))
    drawn = {path.name: path.read_bytes() for path in (tmp_path / "images").iterdir()}
    assert set(drawn) == {"peers-1b-q4_k_m-verdict.png", "peers-1b-q4_k_m-return.png"}
    assert all(data.startswith(b"\x89PNG") for data in drawn.values())


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    results(returns(31)).write(tmp_path / "results.json")
    found = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert found["rounds"][0]["steps"]["ours"]["base"]["evaluated"] == 31
