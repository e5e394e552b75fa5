"""What is imported when: names of the package when they are used, and for the command line's help next to nothing."""

from __future__ import annotations

import ast
import json
import pickle
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import alora_cpp
import alora_cpp.convert
import alora_cpp.train
from alora_cpp.cli.main import COMMANDS

PACKAGES = [alora_cpp, alora_cpp.train]
NAMES = [(package, name) for package in PACKAGES for name in package.__all__]
# Where the modules are: those of an editable install are in two places.
FOLDERS = {one.__name__: Path(one.__file__ or "").parent for one in (alora_cpp, alora_cpp.convert)}
# What is only installed with an extra, or by who freezes a program.
EXTRAS = ("PyInstaller", "accelerate", "matplotlib", "peft", "safetensors", "tokenizers", "torch", "transformers")


def fresh(script: str) -> str:
    """What a process of its own prints on stdout."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def heavy(script: str) -> set[str]:
    """What a script imports of others' packages, and whether it imports the compiled module."""
    told = fresh(
        "import sys; before = set(sys.modules)\n"
        f"{script}\n"
        "new = set(sys.modules) - before\n"
        "print(); print(*({'alora_cpp._core'} & new), *({name.partition('.')[0] for name in new} - {'alora_cpp'}))"
    )
    return set(told.splitlines()[-1].split()) - sys.stdlib_module_names


def test_what_is_heavy_is_seen() -> None:
    assert {"alora_cpp._core", "numpy", "yaml"} <= heavy("from alora_cpp import Model")


@pytest.mark.parametrize("package", ["alora_cpp", "alora_cpp.errors", "alora_cpp.train", "alora_cpp.cli.main"])
def test_importing_is_light(package: str) -> None:
    assert heavy(f"import {package}") == set()


def test_errors_are_there_without_more() -> None:
    assert heavy("from alora_cpp import AloraError, DataError, ModelLoadError, Verdict") == set()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param(["--help"], 0, id="help"),
        pytest.param(["--version"], 0, id="version"),
        pytest.param([], 2, id="nothing"),
        pytest.param(["walk"], 2, id="no command"),
        pytest.param(["run", "bundled"], 2, id="no intrinsic"),
        pytest.param(["run", "bundled", "--intrinsic", ","], 2, id="no name"),
        pytest.param(["run", "bundled", "--intrinsic", "safety"], 2, id="no conversation"),
        pytest.param(["chat", "bundled", "--threads", "many"], 2, id="no number"),
        pytest.param(["train", "bundled"], 2, id="no data"),
        *(pytest.param([one.__name__.rpartition(".")[2], "--help"], 0, id=one.__name__) for one in COMMANDS),
    ],
)
def test_the_command_line_says_how_it_is_used_without_more(arguments: list[str], code: int) -> None:
    script = f"""
from alora_cpp.cli.main import main
try:
    code = main({arguments!r})
except SystemExit as ended:
    code = ended.code
assert code == {code}, code"""
    assert heavy(script) == set()


@pytest.mark.parametrize(("package", "name"), NAMES, ids=[f"{package.__name__}.{name}" for package, name in NAMES])
def test_a_name_is_what_its_module_has(package: ModuleType, name: str) -> None:
    value = getattr(package, name)
    assert getattr(sys.modules[value.__module__], name) is value
    assert value.__doc__
    assert vars(package)[name] is value, "asked for once, it stays"


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_see_what_there_is(package: ModuleType) -> None:
    assert package.__file__
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    seen = {
        alias.name: getattr(import_module(node.module), alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("alora_cpp.")
        for alias in node.names
    }
    del seen["on_demand"]
    assert seen == {name: getattr(package, name) for name in package.__all__}
    assert package.__all__ == sorted(package.__all__)


@pytest.mark.parametrize("package", [package.__name__ for package in PACKAGES])
def test_names_are_listed_before_they_are_used(package: str) -> None:
    told = json.loads(fresh(f"import json, {package}; print(json.dumps([{package}.__all__, dir({package})]))"))
    assert set(told[0]) <= set(told[1])
    assert "__doc__" in told[1]
    assert told[1] == sorted(told[1])


@pytest.mark.parametrize("package", [package.__name__ for package in PACKAGES])
def test_all_names_can_be_imported_at_once(package: str) -> None:
    fresh(f"from {package} import *\nimport {package}\nassert set({package}.__all__) <= set(globals())")


@pytest.mark.parametrize("package", PACKAGES)
def test_a_name_that_is_not_there(package: ModuleType) -> None:
    assert not hasattr(package, "Modell")
    with pytest.raises(AttributeError, match=rf"^module '{package.__name__}' has no attribute 'Modell'$"):
        _ = package.Modell
    with pytest.raises(ImportError, match="cannot import name 'Modell'"):
        exec(f"from {package.__name__} import Modell")


def test_a_pickle_is_read_where_nothing_is_imported_yet() -> None:
    pickled = pickle.dumps([alora_cpp.Verdict("safety", "Y", 0.75), alora_cpp.DataError(["line 1: is no JSON"])])
    script = f"import pickle; print(*(type(one).__name__ for one in pickle.loads({pickled!r})))"
    assert fresh(script) == "Verdict DataError\n"


def test_threads_that_use_names_first_all_get_them() -> None:
    """Tried with: no lock in on_demand.py, which fails in one process of three."""
    script = """
import sys, threading
import alora_cpp
sys.setswitchinterval(1e-5)
missing = [name for name in alora_cpp.__all__ if name not in vars(alora_cpp)]
begin, got = threading.Barrier(len(missing)), []
def use(name):
    begin.wait()
    got.append(getattr(alora_cpp, name))
threads = [threading.Thread(target=use, args=(name,)) for name in missing]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(missing) > 5 and len(got) == len(missing), got"""
    for _ in range(3):
        fresh(script)


def test_each_module_can_be_the_first_to_be_imported() -> None:
    """Tried with: `from alora_cpp.chat import Chat` at the top of intrinsic.py."""
    walked = (pkgutil.walk_packages([str(folder)], f"{name}.") for name, folder in FOLDERS.items())
    modules = sorted({one.name for found in walked for one in found} - {"alora_cpp._core"})
    assert len(modules) > 100
    script = f"""
import sys
from importlib import import_module
sys.modules.update(dict.fromkeys({EXTRAS}))
for name in {modules}:
    for loaded in [one for one in sys.modules if one.partition(".")[0] == "alora_cpp" and one != "alora_cpp._core"]:
        del sys.modules[loaded]
    try:
        import_module(name)
    except ModuleNotFoundError as error:
        assert error.name.partition(".")[0] in {EXTRAS}, (name, error)"""
    fresh(script)


def test_no_module_asks_a_package_for_names_that_come_on_demand() -> None:
    """It could wait for ever, in a thread that imports it (on_demand.py)."""
    packages = {package.__name__: set(package.__all__) for package in PACKAGES}
    asked = [
        (file.name, alias.name)
        for folder in FOLDERS.values()
        for file in folder.rglob("*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom) and node.module in packages
        for alias in node.names
        if alias.name in packages[node.module]
    ]
    assert asked == []
