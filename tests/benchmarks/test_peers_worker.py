"""Contenders in processes of their own: what passes between them and the driver."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from fake_contenders import Batching, Fake, Guarded

from benchmarks.peers.contender import CannotDoError, Contender, Files, Loaded, Setting, Step, guard_by_turns
from benchmarks.peers.driver import WorkerFailedError, started
from benchmarks.peers.worker import memory, serve

FILES = Files(Path("a.gguf"), (Path("b.gguf"), Path("c.gguf")))
SETTING = Setting(n_ctx=100, threads=2, invocation=(1, 2), kv_token_bytes=8)
# What the worker's own process does, with contenders of this folder.
FAKE_WORKER = """
import sys
sys.path[:0] = {path!r}
from benchmarks.peers import contender, worker
contender.CONTENDERS.update({{name: f"fake_contenders:{{name}}" for name in ("Fake", "Guarded", "Noisy", "Dying")}})
worker.main()
"""


def answers(contender: Contender, *requests: dict[str, Any]) -> list[dict[str, Any]]:
    out = io.StringIO()
    serve(contender, io.StringIO("".join(json.dumps(request) + "\n" for request in requests)), out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def command() -> list[str]:
    here = Path(__file__).resolve()
    return [sys.executable, "-c", FAKE_WORKER.format(path=[str(here.parent), str(here.parents[2])])]


def test_calls_are_passed_on_and_the_contender_is_closed_at_the_end() -> None:
    fake = Fake()
    found = answers(
        fake,
        {"call": "begin", "arguments": {"tokens": [5, 6, 7]}},
        {"call": "ask", "arguments": {"adapters": [0, 2], "count": 1}},
    )
    assert fake.calls == [("begin", (5, 6, 7)), ("ask", (0, 2), 1), ("close",)]
    assert Step(**found[0]["result"]) == Step(4.0, 1.0, 3, 10, [])
    assert found[1]["result"]["tokens"] == [0, 2]
    assert all(0 <= one["waiting"] < 1 for one in found)


def test_what_it_cannot_do_is_an_answer_with_the_reason() -> None:
    refused, after = answers(
        Fake(most_adapters=1),
        {"call": "ask", "arguments": {"adapters": [0, 1], "count": 1}},
        {"call": "write", "arguments": {"count": 2}},
    )
    assert refused["cannot"] == "2 adapters are too many"
    assert after["result"]["tokens"] == [0, 1]


def test_who_can_ask_while_writing_is_told_to() -> None:
    guard = {"call": "guard", "arguments": {"adapters": [0, 1], "count": 10, "every": 4}}
    able, unable = Guarded(), Fake()
    answers(able, guard)
    (found,) = answers(unable, guard)
    assert able.calls == [("guard", (0, 1), 10, 4), ("close",)]
    ask = ("ask", (0, 1), 1)
    assert unable.calls == [("write", 4), ask, ("write", 4), ask, ("write", 2), ask, ("close",)]
    assert found["result"]["evaluated"] == 10 + 3 * 8
    assert found["result"]["reused"] == 60


def test_who_can_choose_the_rows_of_a_batch_is_told_to() -> None:
    compute = {"call": "compute", "arguments": {"rows": 8, "adapters": [0, 1]}}
    able = Batching()
    (found,) = answers(able, compute)
    assert able.calls == [("compute", 8, (0, 1)), ("close",)]
    assert found["result"]["evaluated"] == 8
    (refused,) = answers(Fake(), compute)
    assert "not for its users to say" in refused["cannot"]


def test_guards_in_turns_keep_the_reply_and_leave_the_verdicts_out() -> None:
    step = guard_by_turns(Fake(), [0], 5, 3)
    assert step.tokens == [0, 1, 2, 0, 1]
    assert step.first == pytest.approx(1.0, abs=0.5)


def test_a_remote_contender_is_as_one_that_is_here(tmp_path: Path) -> None:
    with started(["Fake"], tmp_path, command()) as remotes:
        fake = remotes["Fake"]
        assert fake.load(FILES, SETTING) == Loaded(1000, 800)
        assert fake.begin([1, 2]) == Step(3.0, 1.0, 2, 10, [])
        assert fake.extend([1]) == Step(2.0, 1.0, 1, 10, [])
        assert fake.ask(range(2), 1).tokens == [0, 1]
        assert len(fake.guard([0], 6, 4).tokens) == 6
        with pytest.raises(CannotDoError, match="9 adapters are too many"):
            fake.ask(range(9), 1)
        assert 0 < fake.memory()["anonymous"] <= fake.memory()["peak"]
        assert 0 < fake.waiting_seconds < 1


def test_what_a_library_prints_is_no_answer(tmp_path: Path) -> None:
    with started(["Noisy"], tmp_path, command()) as remotes:
        assert remotes["Noisy"].begin([1]).evaluated == 1
        assert remotes["Noisy"].write(2).tokens == [0, 1]
    log = (tmp_path / "Noisy.log").read_text(encoding="utf-8")
    assert "printed by Python" in log
    assert "printed by a library" in log


def test_a_process_that_ends_is_told_of_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(WorkerFailedError, match=r"(?s)Dying ended with exit status 7 at `write`.*no memory left"):  # noqa: SIM117
        with started(["Fake", "Dying"], tmp_path, command()) as remotes:
            remotes["Dying"].write(1)
    assert remotes["Fake"]._process.poll() is not None


def test_memory_is_what_the_system_says() -> None:
    """VmHWM is the largest that VmRSS was; what is in no file is a part of that."""
    before = memory()
    held = b"1" * 50_000_000
    after = memory()
    assert after["anonymous"] - before["anonymous"] == pytest.approx(len(held), rel=0.1)
    assert after["anonymous"] < after["resident"] <= after["peak"]


def test_files_and_setting_arrive_whole() -> None:
    fake = Fake()
    files = json.loads(json.dumps(asdict(FILES), default=str))
    answers(fake, {"call": "load", "arguments": {"files": files, "setting": asdict(SETTING)}})
    assert fake.calls[0] == ("load", FILES, SETTING)


def test_an_unknown_name_is_refused() -> None:
    done = subprocess.run([*command(), "nobody"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "llama-server" in done.stderr
