"""Checks what is in a Linux wheel: `python packaging/check_wheel.py WHEEL` says what is wrong, or what is there.

Needs pyelftools. Nothing of ggml or llama.cpp may be visible in a process that loads the wheel's libraries, no other
library may be brought along, and the kernels for all kinds of processors must be there.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import zipfile
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

LARGEST = 30_000_000  # bytes
LIBRARY = re.compile(r"alora_cpp/(_core\.[^/]+|kernels/libalora_cpu_(?P<variant>\w+))\.so")
# What each lets out.
CORE_SYMBOLS = {"PyInit__core"}
VARIANT_SYMBOLS = {"alora_cpu_start"}
# The C library, C++'s and the loader: what manylinux allows.
NEEDED = re.compile(r"(libc|libm|libpthread|libdl|librt|libgcc_s|libstdc\+\+|ld-linux-[\w-]+)\.so\.\d+")
# As third_party/llama.cpp/cpu_variants.cmake makes them.
VARIANTS = {
    "x86_64": {"x64", "sse42", "avx", "avx2", "avx2_vnni", "avx512", "avx512_vnni", "avx512_bf16", "amx"},
    "aarch64": {"arm64", "fp16", "i8mm", "sve", "sve2"},
}


def exported(elf: ELFFile) -> set[str]:
    """The symbols that a library defines for others."""
    table = elf.get_section_by_name(".dynsym")
    assert isinstance(table, SymbolTableSection)
    return {
        symbol.name
        for symbol in table.iter_symbols()
        if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["bind"] != "STB_LOCAL" and symbol.name
    }


def needed(elf: ELFFile) -> set[str]:
    """The libraries that a library asks for."""
    section = elf.get_section_by_name(".dynamic")
    assert isinstance(section, DynamicSection)
    return {tag.needed for tag in section.iter_tags("DT_NEEDED")}


def problems(wheel: Path) -> list[str]:
    """What is wrong with a wheel."""
    found = []
    if (size := wheel.stat().st_size) > LARGEST:
        found.append(f"{size / 1e6:.1f} MB, at most {LARGEST / 1e6:.0f} MB are wanted")
    if "manylinux_" not in wheel.name:
        found.append(f"{wheel.name} is for this system only: auditwheel repairs it")
    variants = set()
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if ".so" not in Path(name).name:
                continue
            match = LIBRARY.fullmatch(name)
            if match is None:
                found.append(f"{name} is a library that does not belong here")
                continue
            elf = ELFFile(io.BytesIO(archive.read(name)))
            if match["variant"]:
                variants.add(match["variant"])
            allowed = VARIANT_SYMBOLS if match["variant"] else CORE_SYMBOLS
            if (symbols := exported(elf)) != allowed:
                some = ", ".join(sorted(symbols ^ allowed)[:5])
                found.append(f"{name} exports {len(symbols)} symbols, {sorted(allowed)} is wanted; among others {some}")
            if foreign := {one for one in needed(elf) if not NEEDED.fullmatch(one)}:
                found.append(f"{name} needs {', '.join(sorted(foreign))}, which a system may not have")
    wanted = next((names for machine, names in VARIANTS.items() if wheel.name.endswith(f"_{machine}.whl")), set())
    if variants != wanted:
        found.append(f"it has the variants {sorted(variants)}, {sorted(wanted)} are wanted")
    return found


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    wheel = parser.parse_args().wheel
    found = problems(wheel)
    for problem in found:
        print(f"{wheel.name}: {problem}", file=sys.stderr)
    if not found:
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, nothing is wrong")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
