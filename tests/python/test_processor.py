"""Which kernels compute: what the processor has, what was chosen, and what happens where that cannot be."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alora_cpp import Model, _core, processor

VARIANTS = processor.variants()
IN_LIBRARIES = VARIANTS[0].library is not None
needs_libraries = pytest.mark.skipif(not IN_LIBRARIES, reason="this build has its kernels linked in")

CHOOSE = """
import json
from alora_cpp import BackendError, processor
try:
    variant, passed_over = processor.chosen_variant()
    print(json.dumps({"name": variant.name, "passed_over": passed_over}))
except BackendError as error:
    print(json.dumps({"error": str(error)}))
"""

# An editable install finds its modules before sys.path is looked at.
ELSEWHERE = """
import sys
from importlib.machinery import PathFinder
sys.meta_path.insert(0, PathFinder)
sys.path.insert(0, {folder!r})
"""


def chosen(named: str | None, package: Path | None = None) -> dict[str, Any]:
    """What a process of its own chooses: with ALORA_CPU_VARIANT, or with a package that lies elsewhere."""
    environment = {name: value for name, value in os.environ.items() if name != "ALORA_CPU_VARIANT"}
    if named is not None:
        environment["ALORA_CPU_VARIANT"] = named
    begin = "" if package is None else ELSEWHERE.format(folder=str(package))
    done = subprocess.run(
        [sys.executable, "-c", begin + CHOOSE],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def usable() -> list[str]:
    features = set(processor.features())
    return [one.name for one in VARIANTS if features.issuperset(one.needs)]


def test_the_best_variant_that_runs_here_is_chosen() -> None:
    assert chosen(None) == {"name": usable()[-1], "passed_over": []}


def test_an_empty_name_is_none() -> None:
    assert chosen("")["name"] == usable()[-1]


@pytest.mark.parametrize("name", usable())
def test_every_variant_that_runs_here_can_be_named(name: str) -> None:
    assert chosen(name) == {"name": name, "passed_over": []}


def test_a_variant_that_there_is_not_is_refused() -> None:
    error = chosen("z80")["error"]
    assert "'z80'" in error
    assert all(one.name in error for one in VARIANTS)


def test_a_variant_that_the_processor_cannot_run_is_refused() -> None:
    names = [one.name for one in VARIANTS if one.name not in usable()]
    if not names:
        pytest.skip("this processor runs all variants of this build")
    assert "this processor has not" in chosen(names[0])["error"]


def test_a_refused_name_stops_loading_with_the_same_error() -> None:
    command = [sys.executable, "-c", "from alora_cpp import Model; Model.bundled()"]
    environment = {**os.environ, "ALORA_CPU_VARIANT": "z80"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.stderr.splitlines()[-1].startswith("alora_cpp.errors.BackendError: ALORA_CPU_VARIANT is 'z80'")


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="only Linux lists what a processor has")
def test_features_are_those_that_linux_names() -> None:
    words = set(Path("/proc/cpuinfo").read_text().split())
    linux = {"AVX2": "avx2", "AVX512": "avx512f", "AVX512_VNNI": "avx512_vnni", "AVX_VNNI": "avx_vnni", "FMA": "fma"}
    linux |= {"AMX_INT8": "amx_int8", "DOTPROD": "asimddp", "SVE": "sve", "MATMUL_INT8": "i8mm", "F16C": "f16c"}
    features = processor.features()
    assert {name for name in features if name in linux} == {name for name, word in linux.items() if word in words}


def test_the_processor_is_among_the_devices() -> None:
    (device,) = (one for one in processor.devices() if one.backend == "CPU")
    assert device.memory_total > 0
    assert not device.gpu


def test_threads_are_as_many_as_a_context_takes() -> None:
    assert 1 <= processor.physical_cores() <= (os.cpu_count() or 1)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with a copy of the package that may be damaged: the parts that choosing needs."""
    here = Path(_core.__file__).parent
    (tmp_path / "alora_cpp" / "kernels").mkdir(parents=True)
    for module in ("__init__", "errors", "on_demand", "processor", "labelled_data"):
        shutil.copy(Path(sys.modules["alora_cpp"].__file__ or "").with_name(f"{module}.py"), tmp_path / "alora_cpp")
    shutil.copy(_core.__file__, tmp_path / "alora_cpp")
    for library in here.glob("kernels/*"):
        shutil.copy(library, tmp_path / "alora_cpp" / "kernels")
    return tmp_path


def library_of(package: Path, name: str) -> Path:
    (variant,) = (one for one in VARIANTS if one.name == name)
    assert variant.library is not None
    return package / "alora_cpp" / "kernels" / variant.library.name


@needs_libraries
def test_libraries_are_those_beside_the_module() -> None:
    assert {one.library.parent for one in VARIANTS if one.library} == {Path(_core.__file__).parent / "kernels"}
    assert all(one.library.is_file() for one in VARIANTS if one.library)


@needs_libraries
def test_where_the_best_is_missing_the_next_best_is_taken_and_that_is_said(package: Path) -> None:
    best, second = usable()[-1], usable()[-2]
    library_of(package, best).unlink()
    found = chosen(None, package)
    assert found["name"] == second
    assert [str(library_of(package, best)) in line for line in found["passed_over"]] == [True]


@needs_libraries
def test_where_the_best_is_broken_the_next_best_is_taken(package: Path) -> None:
    best, second = usable()[-1], usable()[-2]
    library_of(package, best).write_bytes(b"no library")
    found = chosen(None, package)
    assert found["name"] == second
    assert "cannot be loaded" in found["passed_over"][0]


@needs_libraries
def test_a_library_of_something_else_is_passed_over(package: Path) -> None:
    best, second = usable()[-1], usable()[-2]
    shutil.copy(package / "alora_cpp" / Path(_core.__file__).name, library_of(package, best))
    assert chosen(None, package)["name"] == second


@needs_libraries
def test_a_library_of_another_build_is_passed_over(package: Path) -> None:
    best, second = usable()[-1], usable()[-2]
    library = library_of(package, best)
    # What both are compiled from is in each of them, as a hash.
    library.write_bytes(re.sub(rb"[0-9a-f]{64}", b"0" * 64, library.read_bytes()))
    found = chosen(None, package)
    assert found["name"] == second
    assert "another build" in found["passed_over"][0]


@needs_libraries
def test_a_named_variant_that_is_missing_is_an_error_and_none_other_is_taken(package: Path) -> None:
    name = usable()[0]
    library_of(package, name).unlink()
    assert str(library_of(package, name)) in chosen(name, package)["error"]


@needs_libraries
def test_where_none_is_there_all_are_named(package: Path) -> None:
    for name in usable():
        library_of(package, name).unlink()
    error = chosen(None, package)["error"]
    assert all(str(library_of(package, name)) in error for name in usable())


@needs_libraries
def test_a_variant_says_nothing_on_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    with Model.bundled() as model, model.context(n_ctx=64, n_threads=1) as context, context.branch() as branch:
        branch.append([1, 2, 3])
        context.decode()
    assert capfd.readouterr() == ("", "")
