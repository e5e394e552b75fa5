"""How long it takes until the package is imported, and until the command line has said how it is used.

    python benchmarks/startup.py [--rounds 15] [--json]

Each line is a command in a process of its own; the commands take turns, in an order that changes from round to round,
and the first round, which may compile bytecode, does not count. Printed are medians of the wall time and of the
processor time, and both without what Python takes to start.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

ALORA_CLI = str(Path(sysconfig.get_path("scripts")) / "alora-cli")
# What Python itself takes.
NOTHING = "python -c pass"
COMMANDS: dict[str, Sequence[str]] = {
    NOTHING: (sys.executable, "-c", "pass"),
    "import numpy": (sys.executable, "-c", "import numpy"),
    "import alora_cpp": (sys.executable, "-c", "import alora_cpp"),
    "from alora_cpp import Model": (sys.executable, "-c", "from alora_cpp import Model"),
    "alora-cli --help": (ALORA_CLI, "--help"),
    "alora-cli run --help": (ALORA_CLI, "run", "--help"),
}


def run(command: Sequence[str]) -> tuple[float, float]:
    """Runs a command to its end. Returns milliseconds of wall time and of processor time."""
    used, began = _processor_seconds(), time.perf_counter()
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    return 1000 * (time.perf_counter() - began), 1000 * (_processor_seconds() - used)


def _processor_seconds() -> float:
    """What all processes took that were started here and have ended."""
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Medians of what each command takes, in milliseconds."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for number in range(rounds + 1):
        for name in COMMANDS if number % 2 else reversed(COMMANDS):
            one = run(COMMANDS[name])
            if number:
                taken[name].append(one)
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in taken.items()}
    wall, processor = medians[NOTHING]
    return {
        name: {
            "wall_ms": one[0],
            "processor_ms": one[1],
            "own_wall_ms": one[0] - wall,
            "own_processor_ms": one[1] - processor,
        }
        for name, one in medians.items()
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}; expected 1 or more")
    measured = measure(options.rounds)
    if options.json:
        print(json.dumps({"rounds": options.rounds, "commands": measured}, indent=2))
        return
    print(f"milliseconds, medians of {options.rounds} rounds\n")
    print(f"{'':28}    wall  processor   without Python's start: wall  processor")
    for name, one in measured.items():
        print(
            f"{name:28} {one['wall_ms']:7.1f} {one['processor_ms']:10.1f} {one['own_wall_ms']:30.1f} "
            f"{one['own_processor_ms']:10.1f}"
        )


if __name__ == "__main__":
    main()
