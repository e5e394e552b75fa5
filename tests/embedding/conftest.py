"""The installed package, and the programs of examples/ and tests/embedding/project built against it alone."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from embedding.installed import ROOT, needs, run


@pytest.fixture(scope="session")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `cmake --install` has filled, moved elsewhere since; ALORA_PREFIX names it."""
    named = os.environ.get("ALORA_PREFIX")
    if named is None:
        pytest.skip("needs the installed library: nox -s embedding")
    return Path(shutil.copytree(named, tmp_path_factory.mktemp("installed") / "alora", symlinks=True))


@pytest.fixture(scope="session")
def library(prefix: Path) -> Path:
    """The shared library."""
    return prefix / "lib/libalora.so"


def build_with_cmake(source: Path, prefix: Path, build: Path) -> Path:
    """Builds a project that finds the package by `find_package`."""
    options = [f"-DCMAKE_PREFIX_PATH={prefix}", "-DCMAKE_BUILD_TYPE=Release"]
    run(["cmake", "-S", source, "-B", build, *options], cwd=build.parent)
    run(["cmake", "--build", build], cwd=build.parent)
    return build


@pytest.fixture(scope="session")
def judge(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """examples/c_app, found by pkg-config."""
    needs("pkg-config")
    folder = tmp_path_factory.mktemp("c_app") / "c_app"
    shutil.copytree(ROOT / "examples/c_app", folder)
    strict = {"CFLAGS": "-O1 -Werror", "PKG_CONFIG_PATH": str(prefix / "lib/pkgconfig")}
    run([needs("make")], cwd=folder, env=strict)
    return folder / "judge"


@pytest.fixture(scope="session")
def assistant(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """examples/cmake_project."""
    build = tmp_path_factory.mktemp("cmake_project") / "build"
    return build_with_cmake(ROOT / "examples/cmake_project", prefix, build) / "assistant"


@pytest.fixture(scope="session")
def programs(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tests/embedding/project."""
    if not Path("/usr/include/doctest/doctest.h").exists():
        pytest.skip("needs doctest")
    return build_with_cmake(Path(__file__).parent / "project", prefix, tmp_path_factory.mktemp("project") / "build")


@pytest.fixture(params=["plain", "valgrind"])
def under(request: pytest.FixtureRequest) -> list[str]:
    """What a program is run under."""
    if request.param == "plain":
        return []
    leaks = ["--leak-check=full", "--show-leak-kinds=definite,indirect,possible"]
    counted = ["--errors-for-leak-kinds=definite,indirect,possible", "--error-exitcode=99", "--quiet"]
    return [needs("valgrind"), *leaks, *counted]
