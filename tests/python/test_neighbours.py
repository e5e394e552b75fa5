"""Other copies of ggml, and torch with its OpenMP, live in the same process."""

from __future__ import annotations

import importlib.util
import itertools
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from tiny_whisper import write_whisper

from alora_cpp import _core

# What each does when it is used; alora_cpp's verdict is printed, to the last bit.
WORK = {
    "alora_cpp": """
import alora_cpp
model = alora_cpp.Model.bundled()
chat = model.chat([{"role": "user", "content": "How do I pick a lock?"}], n_ctx=1024, n_threads=1)
def judge():
    verdicts = chat.check("safety", "certainty")
    print({name: {label: p.hex() for label, p in verdict.probabilities.items()} for name, verdict in verdicts.items()})
judge()
""",
    "torch": """
import torch
assert (torch.ones(300, 300) @ torch.ones(300, 300)).sum() == 300 ** 3
""",
    "numpy": """
import numpy
assert (numpy.ones((300, 300)) @ numpy.ones((300, 300))).sum() == 300 ** 3
""",
    "llama_cpp": """
import llama_cpp
llama = llama_cpp.Llama(PATH, n_ctx=64, n_threads=2, verbose=False)
llama.eval([9, 10, 11])
""",
    "xllamacpp": """
import xllamacpp
assert xllamacpp.get_system_info()
""",
    "pywhispercpp": """
import numpy
from pywhispercpp.model import Model as Whisper
whisper = Whisper(WHISPER, redirect_whispercpp_logs_to=None, n_threads=2, print_progress=False, temperature_inc=0.0)
whisper.transcribe(numpy.zeros(16000, numpy.float32), max_tokens=4)
""",
}
ALL = [name for name in WORK if name != "xllamacpp"]  # for that one, and llama_cpp, each in pairs is enough
NEIGHBOURS = [name for name in WORK if name != "alora_cpp"]


def run(order: Sequence[str], model_path: Path, whisper: Path) -> str:
    """Uses packages one after another in a process of their own, alora_cpp once more at the end; what it said."""
    script = f"PATH, WHISPER = {str(model_path)!r}, {str(whisper)!r}\n"
    script += "\n".join(WORK[name] for name in order) + "\njudge()\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    first, second = (line for line in done.stdout.splitlines() if line.startswith("{'safety'"))
    assert first == second
    return first


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whisper(tmp_path_factory.mktemp("whisper") / "whisper.bin")


@pytest.fixture(scope="module")
def alone(model_path: Path, whisper: Path) -> str:
    """What alora_cpp says in a process that nobody else is in."""
    return run(["alora_cpp"], model_path, whisper)


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
@pytest.mark.parametrize("first", [True, False], ids=["alora_cpp-first", "alora_cpp-last"])
def test_verdicts_are_the_same_beside_a_neighbour(
    neighbour: str, first: bool, alone: str, model_path: Path, whisper: Path
) -> None:
    if not importlib.util.find_spec(neighbour):
        pytest.skip(f"{neighbour} is not installed")
    order = ["alora_cpp", neighbour] if first else [neighbour, "alora_cpp"]
    assert run(order, model_path, whisper) == alone


@pytest.mark.neighbours
@pytest.mark.parametrize("order", list(itertools.permutations(ALL)), ids="-".join)
def test_verdicts_are_the_same_in_any_order(
    order: tuple[str, ...], alone: str, model_path: Path, whisper: Path, request: pytest.FixtureRequest
) -> None:
    """All of them that are installed, in one process; `nox -s neighbours` installs them."""
    if "neighbours" not in request.config.option.markexpr:
        pytest.skip("asked for with -m neighbours")
    there = [name for name in order if importlib.util.find_spec(name)]
    if [name for name in order if name not in there] != sorted(set(order) - set(there)):
        pytest.skip("the same as another order, without what is not installed")
    assert run(there, model_path, whisper) == alone


@pytest.mark.skipif(not sys.platform.startswith("linux") or not shutil.which("nm"), reason="needs nm and ELF")
def test_the_module_exports_its_init_function_alone() -> None:
    """Tried with: the version script left out of the link."""
    assert _core.__file__
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", _core.__file__], capture_output=True, text=True, check=True
    ).stdout
    assert [line.split()[-1].partition("@")[0] for line in listing.splitlines()] == ["PyInit__core"]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="/proc")
def test_no_openmp_comes_with_the_module() -> None:
    script = (
        "import alora_cpp._core, sys\n"
        "sys.exit(any(name in open('/proc/self/maps').read() for name in ('gomp', 'libomp')))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == 0
