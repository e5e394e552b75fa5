"""Builds this project for a CUDA machine and shows there that it is right and fast.

    python -m benchmarks.gpu --work FOLDER [--shape 8b|tiny] [--stages build test ...] [--prompts 1024 4096 ...]
                             [--wheels FOLDER] [--processor]

Stages, each with a time limit and its result in FOLDER/results.json as soon as it has ended: `build`; `test-all` and
`test-part`, the tests with all layers and with one on the card; `models`; for Q8_0 and F16, `speed` (ours, and LoRA)
and `stock` (llama.cpp switching adapters). Needs cmake, ninja, pybind11 and nvcc; no network where ALORA_LLAMA_CPP_DIR
names llama.cpp's source and --wheels what else Python lacks. `--processor` builds without CUDA, to try the script out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu.report import report

ROOT = Path(__file__).resolve().parents[2]
# Of the tests, those that compute with models; a card's products are TF32's, hence the tolerance.
TESTS = ("tests/oracle/test_recorded.py", "tests/python/test_stacked.py", "tests/python/test_invariants.py")
STAGES = ("build", "test-all", "test-part", "models", "speed-q8_0", "stock-q8_0", "speed-f16", "stock-f16")
LIMITS = {"build": 900, "test-all": 300, "test-part": 300, "models": 300}
SPEED_LIMIT = 600


class Run:
    """The folder, what was asked for, and what has been found."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work: Path = options.work.resolve()
        self.work.mkdir(parents=True, exist_ok=True)
        self.site = self.work / "site"
        self.file = self.work / "results.json"
        self.results: dict[str, Any] = json.loads(self.file.read_text()) if self.file.exists() else {"stages": {}}
        self.results["machine"] = machine()
        # The package that was built, then this repository for `benchmarks`, then what came as wheels.
        paths = [str(self.site), str(ROOT), str(self.work / "wheels")]
        self.environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}

    def call(self, command: list[str], limit: float, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs a command, its output in the log; raises what subprocess does where it takes too long."""
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment | environment, timeout=limit, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        with (self.work / "log.txt").open("a") as log:
            log.write(f"$ {' '.join(command)}\n{done.stdout}\n")
        return done

    def keep(self, stage: str, seconds: float, found: dict[str, Any]) -> None:
        """Writes what a stage has found."""
        self.results["stages"][stage] = {"seconds": seconds, **found}
        self.file.write_text(json.dumps(self.results, indent=1))
        (self.work / "report.md").write_text(report(self.results))


def machine() -> str:
    """The card, or the processor where there is none."""
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode == 0:
            return done.stdout.strip().splitlines()[0]
    return platform.processor() or platform.machine()


def outcome(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Whether it went well, and its last line where not."""
    last = done.stdout.strip().splitlines()[-1:] or [""]
    return {"summary": "done" if done.returncode == 0 else f"failed: {last[0][:200]}"}


def build(run: Run, limit: float) -> dict[str, Any]:
    """One CMake build, and the package put together in `site`."""
    if run.options.wheels:
        command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--upgrade", "--target"]
        wheels = [str(wheel) for wheel in sorted(run.options.wheels.glob("*.whl"))]
        done = run.call([*command, str(run.work / "wheels"), *wheels], limit)
        if done.returncode:
            return outcome(done)
    pybind = run.call([sys.executable, "-m", "pybind11", "--cmakedir"], limit).stdout.strip()
    folder = run.work / "build"
    configure = ["cmake", "-S", str(ROOT / "benchmarks/gpu"), "-B", str(folder), "-G", "Ninja"]
    configure += [f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind}"]
    if not run.options.processor:
        configure += ["-DGGML_CUDA=ON", "-DCMAKE_CUDA_ARCHITECTURES=native"]
    install = ["cmake", "--install", str(folder), "--prefix", str(run.site), "--component", "python"]
    for command in (configure, ["cmake", "--build", str(folder)], install):
        done = run.call(command, limit)
        if done.returncode:
            return outcome(done)
    shutil.copytree(ROOT / "python/alora_cpp", run.site / "alora_cpp", dirs_exist_ok=True)
    shutil.copytree(ROOT / "convert", run.site / "alora_cpp/convert", dirs_exist_ok=True)
    return outcome(done)


def test(layers: int) -> Callable[[Run, float], dict[str, Any]]:
    """The tests with so many layers on the card."""

    def work(run: Run, limit: float) -> dict[str, Any]:
        environment = {"ALORA_TEST_GPU_LAYERS": str(layers)}
        if not run.options.processor:
            environment["ALORA_TEST_TOLERANCE"] = "0.05"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
        done = run.call(command, limit, **environment)
        counts = {name: int(count) for count, name in re.findall(r"(\d+) (passed|failed|error)", done.stdout)}
        native = next(run.work.glob("build/**/alora_tests"), None)
        if native:
            if not run.options.processor:
                environment["ALORA_TEST_TOLERANCE"] = "1"  # logits of a model in 8 bits
            counts["cpp_failed"] = int(run.call([str(native)], limit, **environment).returncode != 0)
        summary = ", ".join(f"{count} {name}" for name, count in counts.items()) or outcome(done)["summary"]
        return {"summary": summary, **counts}

    return work


def models(run: Run, limit: float) -> dict[str, Any]:
    """Writes both models and the adapters."""
    script = (
        "import sys; from pathlib import Path; from benchmarks.models import *; shape = SHAPES[sys.argv[1]]; "
        "cache = Path(sys.argv[2]); [model_file(shape, cache, f16=f16) for f16 in (False, True)]; "
        "adapter_files(shape, cache, 5)"
    )
    return outcome(run.call([sys.executable, "-c", script, run.options.shape, str(run.work)], limit))


def _files(run: Run, kind: str) -> tuple[str, list[str]]:
    name = f"random-{run.options.shape}"
    model = next(run.work.glob(f"{name}-*-{kind}.gguf"))
    return str(model), [str(run.work / f"{name}-r32-{number}.gguf") for number in range(5)]


def speed(kind: str) -> Callable[[Run, float], dict[str, Any]]:
    """Ours and LoRA."""

    def work(run: Run, limit: float) -> dict[str, Any]:
        model, adapters = _files(run, kind)
        out = run.work / f"speed-{kind}.json"
        out.unlink(missing_ok=True)
        command = [sys.executable, "-m", "benchmarks.gpu.measure", model, *adapters, "--out", str(out), "--prompts"]
        command += [*map(str, run.options.prompts), "--tokens", *map(str, run.options.tokens)]
        command += ["--threads", str(run.options.threads)]
        try:
            found = outcome(run.call(command, limit))
        except subprocess.TimeoutExpired:
            found = {"summary": f"stopped after {limit:.0f} s"}
        return found | {"rows": json.loads(out.read_text()) if out.exists() else []}

    return work


def stock(kind: str) -> Callable[[Run, float], dict[str, Any]]:
    """Stock llama.cpp."""

    def work(run: Run, limit: float) -> dict[str, Any]:
        model, adapters = _files(run, kind)
        program = str(run.work / "build/stock_switch")
        found: dict[str, Any] = {"summary": "done", "rows": []}
        end = time.monotonic() + limit
        for prompt in run.options.prompts:
            command = [program, model, ",".join(adapters), "99", str(prompt), "3", str(run.options.threads or 4)]
            try:
                done = run.call(command, end - time.monotonic())
            except subprocess.TimeoutExpired:
                return found | {"summary": f"stopped after {limit:.0f} s"}
            if done.returncode:
                return found | outcome(done)
            found["rows"].append(json.loads(done.stdout.strip().splitlines()[-1]))
        return found

    return work


def main() -> int:
    """Runs the stages; 1 where one of them did not end well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for the build, the models and the results")
    parser.add_argument("--shape", choices=("8b", "tiny"), default="8b")
    parser.add_argument("--stages", choices=STAGES, nargs="+", default=STAGES)
    parser.add_argument("--prompts", type=int, nargs="+", default=[1024, 4096, 16_384, 65_536])
    parser.add_argument("--tokens", type=int, nargs=2, default=[256, 16], help="written by the base, by each adapter")
    parser.add_argument("--threads", type=int, default=0, help="of the processor; 0: one for each physical core")
    parser.add_argument("--limit", type=float, help="seconds for each stage, in place of its own limit")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to use beside what is installed")
    parser.add_argument("--processor", action="store_true", help="build without CUDA")
    run = Run(parser.parse_args())
    works = {"build": build, "test-all": test(-1), "test-part": test(1), "models": models}
    works |= {
        f"{name}-{kind}": make(kind) for name, make in (("speed", speed), ("stock", stock)) for kind in ("q8_0", "f16")
    }
    well = True
    for stage in run.options.stages:
        start = time.monotonic()
        limit = run.options.limit or LIMITS.get(stage, SPEED_LIMIT)
        try:
            found = works[stage](run, limit)
        except subprocess.TimeoutExpired:
            found = {"summary": f"stopped after {limit:.0f} s"}
        except (OSError, StopIteration) as error:
            found = {"summary": f"failed: {error!r}; did the stages before it end well?"}
        run.keep(stage, time.monotonic() - start, found)
        print(f"{stage}: {found['summary']}", file=sys.stderr)
        well = well and (found["summary"] == "done" or "passed" in found["summary"])
    print(run.file.with_name("report.md").read_text(), end="")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
