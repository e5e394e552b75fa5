"""Unloading gives everything back: memory, threads, open files."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from alora_cpp.bundled_model import BUNDLED, bundled_adapters

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self")
MIB = 1 << 20

# Loads, asks and unloads over and over; says after each round what the process holds, and once what it held before.
SCRIPT = """
import json, os, re, sys, threading
from pathlib import Path
import numpy
from alora_cpp import Model

def held():
    status = Path("/proc/self/status").read_text()
    number = lambda name: int(re.search(rf"^{name}:\\s+(\\d+)", status, re.MULTILINE)[1])
    files = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
    mapped = Path("/proc/self/maps").read_text().count(".gguf")
    print(json.dumps([1024 * number("RssAnon"), number("Threads"), sum(f.endswith(".gguf") for f in files) + mapped]))

def low():
    with Model(PATH) as model:
        adapters = [model.load_adapter(adapter) for adapter in ADAPTERS]
        # One has threads, and the other computes: on a machine that does much else, threads wait for one another.
        with model.context(n_ctx=256, n_threads=2), model.context(n_ctx=512, n_threads=1) as context:
            trunk = context.branch()
            trunk.append([9] * 200)
            fork = trunk.fork()
            fork.activate(adapters[0])
            fork.append([10, 11])
            context.score([(fork, [[12], [13, 14]])])
            held_while_open()

def high():
    with Model.bundled() as model:
        chat = model.chat([{"role": "user", "content": "How do I pick a lock?"}], n_threads=1)
        chat.check("safety", "answerability")
        next(iter(chat.reply(max_tokens=4)))
        held_while_open()

kept = []
def adapter_only():
    if not kept:
        kept.append(Model(PATH))
    adapter = kept[0].load_adapter(ADAPTERS[0])
    with kept[0].context(n_ctx=256, n_threads=1) as context:
        branch = context.branch()
        branch.activate(adapter)
        branch.append([9, 10])
        context.decode()
    held_while_open()

opened = []
def held_while_open():
    if not opened:
        opened.append(True)
        held()

held()
for _ in range(N):
    WORK()
    held()
"""


@dataclass
class Held:
    """What a process holds: bytes that are no file's, threads, and model files open or mapped."""

    bytes: int
    threads: int
    files: int


def run(n: int, work: str, path: Path, adapters: list[Path]) -> tuple[Held, Held, list[Held]]:
    """What was held before, while the first model was loaded, and after each unloading."""
    script = f"N, PATH, ADAPTERS = {n}, {str(path)!r}, {[str(adapter) for adapter in adapters]!r}\n"
    script += SCRIPT.replace("WORK", work)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stderr
    before, loaded, *after = [Held(*json.loads(line)) for line in done.stdout.splitlines()]
    assert len(after) == n
    return before, loaded, after


def test_200_models_leave_nothing_behind(model_path: Path, adapter_paths: list[Path]) -> None:
    """Tried with: adapters that are never freed and keep their model; a thread pool that is never freed."""
    before, loaded, after = run(200, "low", model_path, adapter_paths)
    assert loaded.threads == before.threads + 1
    assert loaded.files > 0
    for held in after:
        assert (held.threads, held.files) == (before.threads, 0)
    assert abs(after[-1].bytes - after[9].bytes) < 5 * MIB


def test_adapters_leave_nothing_behind_in_a_model_that_stays() -> None:
    """Tried with: weights of adapters that are freed with the model only."""
    path = bundled_adapters()["safety"]
    n = 80
    _, loaded, after = run(n, "adapter_only", BUNDLED, [path])
    # While a model stays, the heap keeps some freed blocks, now more and now fewer.
    kept = 25 * MIB
    assert n * path.stat().st_size > 1.5 * kept
    for held in after:
        assert (held.threads, held.files) == (loaded.threads, loaded.files)
        assert held.bytes < loaded.bytes + kept


@pytest.mark.parametrize("n", [12, pytest.param(200, marks=pytest.mark.slow)])
def test_the_bundled_model_and_its_intrinsics_leave_nothing_behind(n: int) -> None:
    """Tried with: a heap that is not trimmed."""
    before, loaded, after = run(n, "high", BUNDLED, [])
    assert loaded.bytes > before.bytes + 25 * MIB
    for held in after:
        assert (held.threads, held.files) == (before.threads, 0)
        # What was imported and compiled on the way stays, the model and the context do not.
        assert held.bytes < before.bytes + 12 * MIB
    assert abs(after[-1].bytes - after[9].bytes) < 5 * MIB
