"""Fuzzes one target, guided by which branches of the Python readers an input reaches.

    python tests/fuzz/run.py TARGET [OPTION_OF_LIBFUZZER...] [CORPUS_FOLDER...]

Without a folder it starts from the corpus that is kept here, and adds nothing to it. What it finds it leaves as
`crash-*`, `timeout-*` or `oom-*` in the folder where it runs.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from pathlib import Path
from random import Random

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

with atheris.instrument_imports(include=["alora_cpp.convert", "alora_cpp.io", "gguf.utility"]):
    from fuzz.targets import FOLDER, TARGETS, Workplace

from fuzz.mutators import MUTATORS

# Seconds and MiB that one input may take: a hundred times what any takes, and much less than anybody would bear.
LIMITS = ("-timeout=10", "-rss_limit_mb=2048", "-max_len=16384")


def main() -> None:
    """Fuzzes until a finding, or until libFuzzer's options say to end."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(TARGETS)} [OPTION_OF_LIBFUZZER...] [CORPUS_FOLDER...]")
    name, options = sys.argv[1], sys.argv[2:]
    mutator = MUTATORS[name]

    def mutate(content: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        # One in eight the engine's own way: bytes, and what comparisons looked for.
        changed = mutator(content, random) if random.random() < 0.875 else None
        return changed if changed is not None and len(changed) <= max_size else atheris.Mutate(content, max_size)

    def fuzz(scratch: Path) -> None:
        work, found = scratch / "work", scratch / "corpus"
        work.mkdir()
        found.mkdir()
        kept = [folder for kind in ("corpus", "regressions") if (folder := FOLDER / kind / name).is_dir()]
        folders = [] if any(not option.startswith("-") for option in options) else [found, *kept]
        target = Workplace(work).target(name)

        def once(content: bytes) -> None:
            target(content)

        # The first word is what libFuzzer calls where it starts itself again, as it does to merge.
        command = shlex.join([sys.executable, sys.argv[0], name])
        atheris.Setup([command, *LIMITS, *options, *map(str, folders)], once, custom_mutator=mutate)
        atheris.Fuzz()

    # The engine ends its process without a chance to tidy up: it gets one of its own.
    with tempfile.TemporaryDirectory(prefix="alora-fuzz-", ignore_cleanup_errors=True) as scratch:
        child = os.fork()
        if child == 0:
            fuzz(Path(scratch))
        _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
