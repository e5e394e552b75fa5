"""`alora-cli bench` on tiny models: what it does is counted and checked; how long it takes is not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import pytest
from tiny_hybrid import write_hybrid

from alora_cpp.bench import measuring
from alora_cpp.bench.machine import processor
from alora_cpp.bundled_model import bundled_adapters
from alora_cpp.cli.main import main
from oracle.tiny_models import INVOCATION, N_LAYERS
from tiny import Key, Kind, adapter_file
from tiny_chats import TEMPLATE
from tiny_switch import NAMES, compose


def bench(capsys: pytest.CaptureFixture[str], model: Path | str, *arguments: str) -> dict[str, Any]:
    """The figures as JSON, on one thread of the processor."""
    assert main(["bench", str(model), "-t", "1", "-ngl", "0", "--json", *arguments]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    figures: dict[str, Any] = json.loads(printed.out)
    return figures


def counts(measured: dict[str, Any]) -> dict[str, set[tuple[int, int]]]:
    """Rows evaluated and tokens reused, by work, of all rounds."""
    return {
        name: {(sample["evaluated"], sample["reused"]) for sample in work["samples"]}
        for name, work in measured["works"].items()
    }


def expected(prompt: int, rows: list[int]) -> dict[str, set[tuple[int, int]]]:
    """The same, from what is asked: the rows of each adapter's call."""
    groups = {size: {(sum(rows[:size]), prompt)} for size in (3, 8) if size <= len(rows)}
    return {
        "read": {(prompt, 0)},
        "write": {(16, prompt)},
        "verdict": {(rows[0], prompt)},
        "verdict_as_lora": {(prompt + rows[0], 0)},
        **{f"together_{size}": count for size, count in groups.items()},
        **{f"one_by_one_{size}": count for size, count in groups.items()},
        "go_on": {(16, prompt)},
    }


class TestCounts:
    def test_random_adapters(self, model_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        figures = bench(capsys, model_path, "--prompt", "100,40", "--rounds", "2")
        assert [(one["origin"], one["rank"], one["rows"]) for one in figures["adapters"]] == [("random", 32, 4)] * 8
        assert [(one["prompt"], one["rounds"]) for one in figures["measured"]] == [(40, 2), (100, 2)]
        for one in figures["measured"]:
            assert counts(one) == expected(one["prompt"], [4] * 8)
        assert figures["left_out"] == []

    def test_each_conversation_has_a_cache_of_its_own(
        self, model_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        figures = bench(capsys, model_path, "--prompt", "40,200", "--rounds", "1")
        # Two heads of 16 numbers of 16 bits as key and as value, in steps of 256 cells, told to a hundredth of a MiB.
        cell = N_LAYERS * 2 * 2 * 16 * 2
        assert [one["n_ctx"] for one in figures["measured"]] == [84, 404]
        assert [one["kv_bytes"] for one in figures["measured"]] == [
            pytest.approx(256 * cell, abs=10_486),
            pytest.approx(512 * cell, abs=10_486),
        ]
        weights = sum(one.n_bytes for one in gguf.GGUFReader(model_path).tensors)
        assert figures["bytes"]["weights_in_file"] == weights
        assert figures["bytes"]["weights"] == pytest.approx(weights, abs=2 * 10_486)

    def test_adapters_given_come_first(
        self, model_path: Path, adapter_paths: list[Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        given = [f"--adapter=mine-{i}={path}" for i, path in enumerate(adapter_paths)]
        figures = bench(capsys, model_path, "--prompt", "30", "--rounds", "1", *given)
        names = [(one["name"], one["origin"]) for one in figures["adapters"]]
        assert names[:4] == [(f"mine-{i}", "given") for i in range(4)]
        assert {origin for _, origin in names[4:]} == {"random"}
        assert counts(figures["measured"][0]) == expected(30, [len(INVOCATION)] * 4 + [4] * 4)

    def test_a_legacy_adapter_governs_later_than_it_is_called(
        self, model_path: Path, tiny_model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        offset = Key(1, Kind.UINT32)
        path = adapter_file(tiny_model).write(tmp_path / "legacy.gguf", alora__activation_offset=offset)
        figures = bench(capsys, model_path, "--prompt", "30", "--rounds", "1", "--adapter", f"a={path}")
        assert counts(figures["measured"][0]) == expected(30, [len(INVOCATION)] + [4] * 7)

    def test_the_models_own_intrinsics(self, capsys: pytest.CaptureFixture[str]) -> None:
        figures = bench(capsys, "bundled", "--prompt", "30", "--rounds", "1")
        own = [one for one in figures["adapters"] if one["origin"] == "own"]
        assert {one["name"] for one in own} == set(list(bundled_adapters())[:8])
        assert len(figures["adapters"]) == 8
        assert counts(figures["measured"][0]) == expected(30, [one["rows"] for one in figures["adapters"]])

    def test_a_model_with_recurrent_layers(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path, adapters = write_hybrid("granitemoehybrid", tmp_path)
        figures = bench(capsys, path, "--prompt", "30", "--rounds", "2", "--adapter", f"own={adapters[0]}")
        assert counts(figures["measured"][0]) == expected(30, [len(INVOCATION)] + [4] * 7)

    def test_built_in_adapters_are_all_there_is(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        composed = compose(tmp_path / "switch")
        figures = bench(capsys, composed.path, "--prompt", "30", "--rounds", "1")
        assert [(one["name"], one["origin"]) for one in figures["adapters"]] == [(name, "own") for name in NAMES]
        assert counts(figures["measured"][0]) == expected(30, [one["rows"] for one in figures["adapters"]])

    def test_a_built_in_ordinary_lora_is_not_called(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """It reads the conversation for itself, as what the others are held against does."""
        table = {NAMES[1]: {"token": f"<|{NAMES[1]}|>", "type": "lora"}}
        composed = compose(tmp_path / "switch", template=f"{{% set adapter_map = {table!r} %}}{TEMPLATE}")
        figures = bench(capsys, composed.path, "--prompt", "30", "--rounds", "1")
        assert [one["name"] for one in figures["adapters"]] == [NAMES[0], NAMES[2]]


class TestTimeBox:
    @pytest.fixture(autouse=True)
    def no_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(measuring, "_SECONDS", 0.0)
        monkeypatch.setattr(measuring, "PROMPTS", (20, 40, 80))

    def test_of_what_nobody_asked_for_the_shortest_is_measured_once(
        self, model_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        figures = bench(capsys, model_path)
        assert [(one["prompt"], one["rounds"]) for one in figures["measured"]] == [(20, 1)]
        assert [one["prompt"] for one in figures["left_out"]] == [40, 80]
        assert all("it is measured with --prompt" in one["why"] for one in figures["left_out"])

    def test_what_was_asked_for_is_measured(self, model_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        figures = bench(capsys, model_path, "--prompt", "20,40")
        assert [(one["prompt"], one["rounds"]) for one in figures["measured"]] == [(20, 1), (40, 1)]
        figures = bench(capsys, model_path, "--rounds", "4")
        assert [(one["prompt"], one["rounds"]) for one in figures["measured"]] == [(20, 4)]


def test_with_time_to_spare_everything_is_measured_three_times(
    model_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "_SECONDS", 1e9)
    monkeypatch.setattr(measuring, "PROMPTS", (20, 40))
    figures = bench(capsys, model_path)
    assert [(one["prompt"], one["rounds"]) for one in figures["measured"]] == [(20, 3), (40, 3)]


class TestRoom:
    def test_a_conversation_too_long_for_the_model_is_left_out(
        self, model_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        figures = bench(capsys, model_path, "--prompt", "496,497", "--rounds", "1")
        assert [one["prompt"] for one in figures["measured"]] == [496]
        assert figures["left_out"] == [{"prompt": 497, "why": "the model was trained for 512 tokens"}]

    def test_too_few_cells(self, model_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        # A conversation of 50 tokens, read twice, and a call.
        figures = bench(capsys, model_path, "--prompt", "50,51", "--rounds", "1", "-c", "104")
        assert [(one["prompt"], one["n_ctx"]) for one in figures["measured"]] == [(50, 104)]
        assert figures["left_out"][0]["why"] == "it takes 106 KV cells, n_ctx (-c) is 104"

    def test_nothing_fits(self, model_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["bench", str(model_path), "--prompt", "50", "-c", "60"]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err == (
            "alora-cli: error: nothing can be measured: a conversation of 50 tokens: it takes 104 KV cells, "
            "n_ctx (-c) is 60\n"
        )

    @pytest.mark.parametrize("prompt", [1, 2, 5])
    def test_conversations_shorter_than_a_call(
        self, model_path: Path, capsys: pytest.CaptureFixture[str], prompt: int
    ) -> None:
        figures = bench(capsys, model_path, "--prompt", str(prompt), "--rounds", "1")
        evaluated = max(prompt, 4) + 4
        assert counts(figures["measured"][0])["verdict_as_lora"] == {(evaluated, 0)}


class TestText:
    def test_a_table_that_says_what_its_rows_mean(self, model_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["bench", str(model_path), "--prompt", "40,600", "--rounds", "2", "-t", "1"]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        lines = printed.out.splitlines()
        assert lines[0].startswith("tiny-llama: ")
        assert processor() in lines[1]
        assert "1 thread; weights on " in lines[1]
        assert lines[2] == "Adapters: 8 with random weights"
        table = lines[4 : lines.index("", 4)]
        assert re.split(" {2,}", table[0]) == ["after a conversation of", "40 tokens"]
        titles = [re.split(" {2,}", line.strip())[0] for line in table[1:-1:2]]
        assert titles == [
            "reading",
            "writing",
            "one verdict",
            "as an ordinary LoRA",
            "three verdicts",
            "one by one",
            "eight verdicts",
            "one by one",
            "going on",
            "reading all again",
        ]
        assert all(line.startswith("    ") and line.endswith(".") for line in table[2:-1:2])
        assert re.split(" {2,}", table[-1]) == ["medians of", "2 rounds"]
        assert "Not measured: a conversation of 600 tokens: the model was trained for 512 tokens." in lines

    def test_a_few_adapters_have_fewer_rows(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        composed = compose(tmp_path / "switch")
        assert main(["bench", str(composed.path), "--prompt", "40", "--rounds", "1", "-t", "1"]) == 0
        printed = capsys.readouterr().out
        assert "Adapters: 3 of the model's own" in printed
        assert "three verdicts" in printed
        assert "eight verdicts" not in printed


class TestFailures:
    def test_no_adapters_to_measure_with(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Where nothing says what calls the built-in adapters, and none can be made for the architecture."""
        composed = compose(tmp_path / "switch", template="{{ messages }}", invocation=(9, 10))
        assert main(["bench", str(composed.path), "--prompt", "40"]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "has no intrinsics that can be called, and none can be made" in printed.err
        assert "--adapter NAME=PATH" in printed.err

    def test_an_ordinary_lora(
        self, model_path: Path, tiny_model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = adapter_file(tiny_model, invocation=None).write(tmp_path / "lora.gguf")
        assert main(["bench", str(model_path), "--adapter", f"plain={path}"]) == 1
        assert "'plain' is an ordinary LoRA; expected one with an invocation" in capsys.readouterr().err

    def test_missing_files(self, model_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["bench", "none.gguf"]) == 1
        assert "none.gguf" in capsys.readouterr().err
        assert main(["bench", str(model_path), "--adapter", "a=none-either.gguf"]) == 1
        assert "none-either.gguf" in capsys.readouterr().err

    @pytest.mark.parametrize("threads", ["-1", "100000"])
    def test_threads(self, model_path: Path, capsys: pytest.CaptureFixture[str], threads: str) -> None:
        assert main(["bench", str(model_path), "-t", threads]) == 1
        assert f"n_threads is {threads}" in capsys.readouterr().err

    @pytest.mark.parametrize(
        "arguments",
        [["--prompt", "0"], ["--prompt", "-5"], ["--prompt", "10,"], ["--prompt", "ten"], ["--rounds", "0"], []],
    )
    def test_wrong_usage(self, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            main(["bench", *(["model.gguf"] if arguments else []), *arguments])
        assert ended.value.code == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "usage" in printed.err


def test_temporary_files_are_gone(
    model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    bench(capsys, model_path, "--prompt", "20", "--rounds", "1")
    assert list(tmp_path.iterdir()) == []


# The command line, saying on stdout when it is in the middle of its work.
_TOLD = """
import sys
from alora_cpp.bench.works import Works
from alora_cpp.cli.main import main

work = Works.judge_as_lora

def told(self, callee):
    print("measuring", flush=True)
    return work(self, callee)

Works.judge_as_lora = told
sys.exit(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_exits_with_130(model_path: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        _TOLD,
        "bench",
        str(model_path),
        "--prompt",
        "400",
        "--rounds",
        "100000",
        "-t",
        "1",
    ]
    # A shell starts background jobs with the signal ignored, which children inherit.
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)}
        )
    finally:
        signal.signal(signal.SIGINT, ignored)
    assert process.stdout is not None
    assert process.stdout.readline() == b"measuring\n"
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert set(stdout.splitlines()) <= {b"measuring"}
    assert stderr == b""
    assert list(tmp_path.iterdir()) == []


class TestPlot:
    def test_a_picture(self, model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        pytest.importorskip("matplotlib")
        picture = tmp_path / "new" / "plot.png"
        bench(capsys, model_path, "--prompt", "20,40", "--rounds", "1", "--plot", str(picture))
        assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        assert [file.name for file in picture.parent.iterdir()] == ["plot.png"]

    def test_what_keeps_it_from_being_drawn_is_told_before_anything_is_measured(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert main(["bench", "none.gguf", "--plot", str(tmp_path / "plot.doc")]) == 1
        assert "expected a name that ends in .png" in capsys.readouterr().err
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        assert main(["bench", "none.gguf", "--plot", str(tmp_path / "plot.png")]) == 1
        assert "pip install 'alora_cpp[eval]'" in capsys.readouterr().err
