"""Asks the bundled model the same with every CPU variant and on emulated processors, and compares what it says.

Run by a Python that has the wheel: `python packaging/compare_variants.py`. Emulation needs qemu-x86_64 (Debian's
qemu-user); what this processor cannot run natively is left out. Labels must be the same, and probabilities within
`TOLERANCE`: kernels add up in another order, and some of them round what they multiply.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from alora_cpp import processor
from alora_cpp.cli.demo import DOCUMENT, QUESTION, UNSAFE, WRONG_REPLY

TOLERANCE = 0.02
# An emulated processor, and the variant that it must get. numpy's wheels need SSE4.2, so none goes without.
EMULATED = {"Nehalem": "sse42", "SandyBridge": "avx", "Haswell": "avx2", "max": "avx2"}
LIMIT = 600.0  # seconds of one run


@dataclass(frozen=True)
class Run:
    """One way to run.

    Attributes:
        name: What it is called here.
        wanted: The variant that must be chosen.
        prefix: What the command begins with.
        named: What ALORA_CPU_VARIANT says, if anything.
    """

    name: str
    wanted: str
    prefix: tuple[str, ...] = ()
    named: str | None = None


def ask() -> dict[str, Any]:
    """Verdicts on a short conversation, in this process."""
    from alora_cpp import Model

    verdicts = {}
    with Model.bundled() as model, model.chat(documents=[DOCUMENT], n_threads=1) as chat:
        chat.add("user", QUESTION)
        verdicts["question"] = chat.check("safety", "jailbreak", "answerability")
        chat.add("assistant", WRONG_REPLY)
        verdicts["reply"] = chat.check("hallucination", "certainty")
        chat.add("user", UNSAFE)
        verdicts["unsafe"] = chat.check("safety", "jailbreak")
    return {
        "variant": processor.chosen_variant()[0].name,
        "verdicts": {
            f"{turn} {name}": {"label": verdict.label, "probabilities": verdict.probabilities}
            for turn, found in verdicts.items()
            for name, verdict in found.items()
        },
    }


def runs() -> list[Run]:
    """What can be run here; the first one is what the others are compared with."""
    features = set(processor.features())
    usable = [one.name for one in processor.variants() if features.issuperset(one.needs)]
    found = [Run("chosen here", usable[-1])]
    found += [Run(f"{name} named", name, named=name) for name in usable]
    emulator = shutil.which("qemu-x86_64")
    if emulator and platform.machine() == "x86_64":
        for cpu, wanted in EMULATED.items():
            found.append(Run(f"emulated {cpu}", wanted, (emulator, "-cpu", cpu)))
        found.append(Run("emulated Nehalem, x64 named", "x64", (emulator, "-cpu", "Nehalem"), "x64"))
    else:
        print("no qemu-x86_64, or not on x86-64: nothing is emulated", file=sys.stderr)
    return found


def answer(run: Run) -> dict[str, Any]:
    """What a run says, in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "ALORA_CPU_VARIANT"}
    if run.named:
        environment["ALORA_CPU_VARIANT"] = run.named
    command = [*run.prefix, sys.executable, __file__, "--ask"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT)
    if done.returncode != 0:
        raise SystemExit(f"{run.name}: ended with {done.returncode}\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """By how much two runs' probabilities differ at most; infinite where labels do."""
    largest = 0.0
    for name, verdict in one["verdicts"].items():
        second = other["verdicts"][name]
        if verdict["label"] != second["label"]:
            return float("inf")
        pairs = [(value, second["probabilities"][label]) for label, value in verdict["probabilities"].items()]
        largest = max([largest, *(abs(first - second) for first, second in pairs)])
    return largest


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ask", action="store_true", help=argparse.SUPPRESS)
    if parser.parse_args().ask:
        json.dump(ask(), sys.stdout)
        return 0
    wrong = 0
    first = None
    for run in runs():
        found = answer(run)
        first = first or found
        apart = difference(first, found)
        fine = found["variant"] == run.wanted and apart <= TOLERANCE
        wrong += not fine
        says = "" if fine else f"  WRONG: {run.wanted} and at most {TOLERANCE} are wanted"
        print(f"{run.name:28} {found['variant']:14} probabilities within {apart:.5f}{says}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
