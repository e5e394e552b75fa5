"""`alora-cli demo`: what it prints is what the bundled model says."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass

import pytest

from alora_cpp import Model
from alora_cpp.cli.demo import ASKS, DOCUMENT, QUESTION, UNSAFE, WRONG_REPLY

AGAIN = "The first question again, with a wrong reply:\n"


@dataclass(frozen=True)
class Turn:
    """A message, and what the intrinsics answered after it, by name."""

    role: str
    text: str
    answers: dict[str, str]


def turns(text: str) -> list[Turn]:
    found = []
    for part in re.split(r"^(?=user|assistant)", text, flags=re.MULTILINE)[1:]:
        said, *lines = part.splitlines()
        rows = [re.split(" {2,}", line.strip()) for line in lines]
        found.append(Turn(*said.split(maxsplit=1), {row[0]: row[2] for row in rows if row[0] in ASKS}))
    return found


def numbers(pattern: str, text: str) -> list[tuple[int, ...]]:
    return [tuple(map(int, match.groups())) for match in re.finditer(pattern, text)]


@pytest.fixture(scope="module")
def printed() -> str:
    result = subprocess.run([sys.executable, "-m", "alora_cpp.cli.main", "demo"], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_every_verdict_is_what_the_conversation_gets_when_it_is_read_anew(printed: str, bundled: Model) -> None:
    for half in printed.split(AGAIN):
        messages = []
        for turn in turns(half):
            messages.append({"role": turn.role, "content": turn.text})
            for name, answer in turn.answers.items():
                with bundled.chat(messages, documents=[DOCUMENT], n_threads=1) as chat:
                    verdict = chat.check(name)
                if verdict.probability is None or verdict.value is None:
                    assert answer == verdict.result
                    continue
                shown = verdict.value if name == "certainty" else verdict.probability
                # Kernels differ in the last bits.
                assert numbers(r"(\d+)%", answer) == [(pytest.approx(100 * shown, abs=2),)]
                if name != "certainty" and verdict.probability > 0.55:
                    assert answer.startswith(f"{verdict.label} (")


def test_clear_cases_get_clear_answers(printed: str) -> None:
    """Of any sensible weights: the museum is harmless, breaking in is not, and the other designer is made up."""
    every = turns(printed)
    assert {name for turn in every for name in turn.answers} == set(ASKS)
    answers = {turn.text: turn.answers for turn in reversed(every)}
    assert [answers[QUESTION][name][0] for name in ("safety", "jailbreak")] == ["N", "N"]
    assert [answers[UNSAFE][name][0] for name in ("safety", "jailbreak")] == ["Y", "Y"]
    assert answers[every[1].text]["hallucination"].startswith("N")
    assert answers[WRONG_REPLY]["hallucination"].startswith("Y")


def test_what_was_computed_adds_up(printed: str) -> None:
    """What is not read for the conversation or evaluated for verdicts is the replies, whose length is not printed."""
    checks = numbers(r"(\d+) tokens read; for the verdicts (\d+) tokens reused, (\d+) evaluated", printed)
    ((count, found, computed),) = numbers(r"(\d+) verdicts, which found (\d+) .*all (\d+) were computed", printed)
    assert count == sum(len(turn.answers) for turn in turns(printed))
    assert found > sum(reused for _, reused, _ in checks)
    assert sum(read + evaluated for read, _, evaluated in checks) < computed
