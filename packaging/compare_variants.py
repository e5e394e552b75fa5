"""Asks the bundled model the same with every CPU variant and on emulated processors, and compares what it says.

Run by a Python that has the wheel: `python packaging/compare_variants.py`. Emulation needs qemu-x86_64 (Debian's
qemu-user); what this processor cannot run natively is left out. Labels must be the same. Probabilities cannot be, to
the last digit: the model is quantized, so kernels round what they multiply to 8 bits, each in its own way. What is sure
must stay sure, and what is open is shifted a little.
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

# How far apart probabilities may be: of a label of which the first run is sure, and of others.
SURE = 0.95
SURE_APART, APART = 0.005, 0.05
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


def difference(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float]:
    """By how much the probabilities of two runs' labels differ at most: where the first run is sure, and elsewhere.

    Infinite where labels differ.
    """
    sure, elsewhere = 0.0, 0.0
    for name, verdict in one["verdicts"].items():
        second = other["verdicts"][name]
        label = verdict["label"]
        if label != second["label"]:
            return float("inf"), float("inf")
        probability = verdict["probabilities"][label]
        apart = abs(probability - second["probabilities"][label])
        if probability >= SURE:
            sure = max(sure, apart)
        else:
            elsewhere = max(elsewhere, apart)
    return sure, elsewhere


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
        sure, elsewhere = difference(first, found)
        fine = found["variant"] == run.wanted and sure <= SURE_APART and elsewhere <= APART
        wrong += not fine
        says = "" if fine else f"  WRONG: {run.wanted}, {SURE_APART} and {APART} are wanted"
        print(
            f"{run.name:28} {found['variant']:12} sure ones within {sure:.4f}, others {elsewhere:.4f}{says}", flush=True
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
