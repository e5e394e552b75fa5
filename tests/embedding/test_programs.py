"""The examples and the tests of the C interface, run on the bundled model against the installed library alone."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

from embedding.installed import BUNDLED, run

DOCUMENT = "The Lantern Museum\nThe Lantern Museum opened in 1894. It is closed on Monday."
QUESTION = "When did the Lantern Museum open?"


def test_calls_of_the_c_interface(programs: Path, under: list[str], tmp_path: Path) -> None:
    output = run([*under, programs / "c_api"], cwd=tmp_path, env={"ALORA_BUNDLED": str(BUNDLED)})
    # doctest's own lines, and nothing that the library wrote.
    assert all(line.startswith(("[doctest]", "====")) for line in output.splitlines()), output


def test_every_allocation_may_fail(programs: Path, tmp_path: Path) -> None:
    run([programs / "out_of_memory", BUNDLED], cwd=tmp_path)


def test_c_example_judges_and_replies(judge: Path, under: list[str], tmp_path: Path) -> None:
    output = run([*under, judge, BUNDLED, "-d", DOCUMENT, QUESTION], cwd=tmp_path)
    verdicts = dict(re.findall(r"^(\w+) +(\w+) ", output, re.MULTILINE))
    assert list(verdicts) == ["safety", "jailbreak", "answerability", "hallucination", "certainty"]
    assert verdicts["safety"] == "N"
    assert re.search(r"^assistant: \S+", output, re.MULTILINE)
    for line in output.splitlines():
        if (numbers := re.findall(r"\d\.\d{4}", line)) and not line.startswith("assistant"):
            assert abs(sum(map(float, numbers[:-1])) - 1) < 0.001


def test_c_example_judges_a_given_reply(judge: Path, tmp_path: Path) -> None:
    output = run([judge, BUNDLED, "-d", DOCUMENT, QUESTION, "It opened in 1990."], cwd=tmp_path)
    assert [line.split()[0] for line in output.splitlines()] == ["hallucination", "certainty"]


def test_c_example_is_interrupted(judge: Path, tmp_path: Path) -> None:
    # A long conversation, so that it is still busy when the signal comes.
    turns = [QUESTION, "I do not know."] * 20
    process = subprocess.Popen(
        [judge, BUNDLED, *turns, QUESTION], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=300)
    assert process.returncode == 130
    assert b"cancelled" in rest or b"stopped" in rest


def test_c_example_says_what_is_wrong(judge: Path, tmp_path: Path) -> None:
    failed = subprocess.run([judge, tmp_path, QUESTION], capture_output=True, text=True, timeout=300)
    assert failed.returncode == 1
    assert "alora-tiny.gguf: no such file" in failed.stderr
    usage = subprocess.run([judge, BUNDLED], capture_output=True, text=True, timeout=300)
    assert usage.returncode == 2
    assert "usage: " in usage.stderr


def test_cpp_example(assistant: Path, under: list[str], tmp_path: Path) -> None:
    output = run([*under, assistant, BUNDLED, QUESTION, "And when is it closed?"], cwd=tmp_path)
    assert len(re.findall(r"^safety: Y 0\.\d{4}$", output, re.MULTILINE)) == 2
    assert re.search(r"^rows computed: \d+$", output, re.MULTILINE)


def test_cpp_example_catches_by_type(assistant: Path, tmp_path: Path) -> None:
    failed = subprocess.run([assistant, tmp_path, QUESTION], capture_output=True, text=True, timeout=300)
    assert failed.returncode == 1
    assert failed.stderr.startswith("the model cannot be loaded: ")


def test_both_examples_say_the_same(judge: Path, assistant: Path, tmp_path: Path) -> None:
    in_c = run([judge, BUNDLED, QUESTION], cwd=tmp_path)
    in_cpp = run([assistant, BUNDLED, QUESTION], cwd=tmp_path)
    (one,) = re.findall(r"^safety .*? Y (\d\.\d{4})", in_c, re.MULTILINE)
    (other,) = re.findall(r"^safety: Y (\d\.\d{4})", in_cpp, re.MULTILINE)
    assert abs(float(one) - float(other)) < 0.01
    assert re.findall("^assistant: (.+)$", in_c, re.MULTILINE) == re.findall("^assistant: (.+)$", in_cpp, re.MULTILINE)
