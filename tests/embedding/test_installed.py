"""What `cmake --install` puts down, and what the shared library shows of itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from embedding.installed import ROOT, needs, run

HEADERS = sorted(str(file.relative_to(ROOT / "cpp/include")) for file in (ROOT / "cpp/include").rglob("*.h*"))


def exported(library: Path) -> set[str]:
    lines = run([needs("nm"), "-D", "--defined-only", library], cwd=library.parent).splitlines()
    return {line.split()[-1].partition("@")[0] for line in lines}


def test_no_symbol_of_ggml_or_llama_leaves_the_library(library: Path) -> None:
    ours = re.compile(r"alora_\w+|_ZNK?5alora[\w.]+|_ZT[ISV]N5alora\w+")
    names = exported(library)
    assert {name for name in names if not ours.fullmatch(name)} == set()
    assert not {name for name in names if re.search("ggml|gguf|llama", name)}


def test_every_function_of_the_header_is_exported_and_no_other(library: Path, prefix: Path) -> None:
    header = (prefix / "include/alora.h").read_text()
    declared = set(re.findall(r"^ALORA_API [^;]*?\b(alora_\w+)\(", header, re.MULTILINE))
    assert len(declared) > 50
    assert {name for name in exported(library) if name.startswith("alora_")} == declared


def test_the_library_needs_nothing_but_the_system(library: Path) -> None:
    dynamic = run([needs("readelf"), "-d", library], cwd=library.parent)
    assert re.search(r"SONAME.*\[libalora\.so\.1\]", dynamic)
    needed = set(re.findall(r"NEEDED.*\[(.*?)\.so", dynamic))
    assert needed <= {"libstdc++", "libm", "libgcc_s", "libc", "libpthread", "libdl", "librt", "ld-linux-x86-64"}
    assert not re.search("RPATH|RUNPATH", dynamic)


def test_what_is_installed(prefix: Path) -> None:
    files = {str(file.relative_to(prefix)) for file in prefix.rglob("*") if not file.is_dir()}
    assert files == {f"include/{header}" for header in HEADERS} | {
        "lib/libalora.so",
        "lib/libalora.so.1",
        "lib/cmake/alora_cpp/alora_cppConfig.cmake",
        "lib/cmake/alora_cpp/alora_cppConfigVersion.cmake",
        "lib/cmake/alora_cpp/alora_cppTargets.cmake",
        "lib/cmake/alora_cpp/alora_cppTargets-release.cmake",
        "lib/pkgconfig/alora_cpp.pc",
        "share/licenses/alora_cpp/LICENSE",
        "share/licenses/alora_cpp/llama.cpp.txt",
    }
    for file in (prefix / "lib").rglob("*"):
        if file.suffix in (".pc", ".cmake"):
            assert str(ROOT) not in file.read_text(), f"{file} names the folder that it was built in"


def test_versions_agree(prefix: Path) -> None:
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    found = run(
        [needs("pkg-config"), "--modversion", "alora_cpp"],
        cwd=prefix,
        env={"PKG_CONFIG_PATH": str(prefix / "lib/pkgconfig")},
    )
    assert found.strip() == version.group(1)
    assert f'"{version.group(1)}"' in (prefix / "lib/cmake/alora_cpp/alora_cppConfigVersion.cmake").read_text()


@pytest.mark.parametrize(
    ("header", "language"),
    [*((header, "c++") for header in HEADERS), *((header, "c") for header in HEADERS if header.endswith(".h"))],
)
def test_each_header_compiles_by_itself(prefix: Path, tmp_path: Path, header: str, language: str) -> None:
    standard = {"c": "c99", "c++": "c++17"}[language]
    source = tmp_path / "only.x"
    source.write_text(f"#include <{header}>\nextern int nothing;\n")
    compiler = needs({"c": "gcc", "c++": "g++"}[language])
    warnings = ["-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only"]
    run([compiler, f"-std={standard}", *warnings, f"-I{prefix}/include", "-x", language, source], cwd=tmp_path)
