"""What PyInstaller cannot see that a program with `alora_cpp` needs."""

from __future__ import annotations

from PyInstaller.utils.hooks import collect_data_files, collect_dynamic_libs, collect_submodules, copy_metadata

# What the command line and training are made of is frozen with programs that import it.
_LEFT_OUT = ("_pyinstaller", "bench", "cli", "evaluation", "train")


def _is_library(module: str) -> bool:
    return module.partition(".")[2].partition(".")[0] not in _LEFT_OUT


# The bundled model with its intrinsics; the libraries for one kind of processor each that a wheel has beside the core;
# versions, which saved conversations name and llguidance asks for its own.
datas = (
    collect_data_files("alora_cpp", includes=["bundled/*.gguf"])
    + copy_metadata("alora_cpp")
    + copy_metadata("llguidance")
)
binaries = collect_dynamic_libs("alora_cpp")
# Public names are imported when they are first used.
hiddenimports = collect_submodules("alora_cpp", filter=_is_library)
