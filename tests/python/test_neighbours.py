"""Other copies of ggml, and torch with its OpenMP, live in the same process."""

from __future__ import annotations

import importlib.util
import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from alora_cpp import _core

WORK = {
    "alora_cpp": """
import alora_cpp
model = alora_cpp.Model(PATH)
context = model.context(n_ctx=64)
branch = context.branch()
branch.activate(model.load_adapter(ADAPTER))
branch.append([9, 10, 11])
first = [step.token for step in context.generate([branch], max_tokens=5)]
assert len(first) > 0
""",
    "torch": """
import torch
assert (torch.ones(300, 300) @ torch.ones(300, 300)).sum() == 300 ** 3
""",
    "llama_cpp": """
import llama_cpp
llama = llama_cpp.Llama(PATH, n_ctx=64, verbose=False)
llama.eval([9, 10, 11])
""",
}


@pytest.mark.parametrize("order", [pytest.param(order, id="-".join(order)) for order in itertools.permutations(WORK)])
def test_any_order_of_imports_works(order: tuple[str, ...], model_path: Path, adapter_paths: list[Path]) -> None:
    """What is not installed is left out; alora_cpp alone is tested elsewhere."""
    there = [name for name in order if importlib.util.find_spec(name)]
    if len(there) < 2:
        pytest.skip("neither torch nor llama_cpp is installed")
    script = f"PATH, ADAPTER = {str(model_path)!r}, {str(adapter_paths[0])!r}\n"
    script += "\n".join(WORK[name] for name in there)
    script += "\nassert [step.token for step in context.generate([branch], max_tokens=1)]\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


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
