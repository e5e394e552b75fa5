"""The hook that ships with the package names all that a frozen program needs."""

from __future__ import annotations

import runpy
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from alora_cpp._pyinstaller import get_hook_dirs
from alora_cpp.bundled_model import BUNDLED, bundled_adapters


def test_pyinstaller_finds_the_hook() -> None:
    (entry,) = [one for one in entry_points(group="pyinstaller40") if one.value.startswith("alora_cpp.")]
    (folder,) = entry.load()()
    assert [folder] == get_hook_dirs()
    assert (Path(folder) / "hook-alora_cpp.py").is_file()


def test_the_hook_names_files_and_modules() -> None:
    pytest.importorskip("PyInstaller", reason="freezes programs; not installed")
    (folder,) = get_hook_dirs()
    hook = runpy.run_path(str(Path(folder) / "hook-alora_cpp.py"))
    files = {Path(source).name for source, _ in hook["datas"]}
    assert {BUNDLED.name, *(path.name for path in bundled_adapters().values())} <= files
    assert {"alora_cpp.model", "alora_cpp.chat.guards", "alora_cpp.hub.transfer"} <= set(hook["hiddenimports"])
    assert not {name.split(".")[1] for name in hook["hiddenimports"] if "." in name} & {"cli", "train"}
