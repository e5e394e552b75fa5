"""What `alora-cli doctor` finds on a machine. Nothing here fails for what is wrong: that is what is to be found."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from alora_cpp.bench.machine import processor, usable_processors
from alora_cpp.errors import AloraError

# Whose releases change what is computed, read or fetched.
_PACKAGES = ("alora_cpp", "numpy", "gguf", "huggingface-hub", "llguidance", "jinja2")

# A process of its own: a wrong kernel ends it, and not this one.
_TRIAL = """
from alora_cpp import Model
with Model.bundled() as model, model.chat() as chat:
    chat.add("user", "How do I bake bread?")
    print(chat.check("safety").label)
"""
_TRIAL_LIMIT = 120.0  # seconds


@dataclass
class Findings:
    """What was found.

    Attributes:
        facts: What there is, as JSON has it.
        problems: What is wrong, each with what to do about it.
        notes: What could be better.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find() -> Findings:
    """Looks at everything."""
    found = Findings()
    found.facts["versions"] = _versions()
    _look_at_processor(found)
    _look_at_memory(found)
    _look_at_hub(found)
    if not found.problems:
        _try(found)
    return found


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"python": platform.python_version(), "system": platform.platform()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions


def _look_at_processor(found: Findings) -> None:
    facts: dict[str, Any] = {"name": processor(), "logical": usable_processors()}
    found.facts["processor"] = facts
    try:
        from alora_cpp.processor import chosen_variant, devices, features, physical_cores, variants
    except ImportError as error:
        found.problems.append(
            f"the compiled module cannot be loaded ({error}): install alora_cpp again, for this Python"
        )
        return
    facts["threads"] = physical_cores()
    facts["features"] = list(features())
    facts["variants"] = [
        {"name": one.name, "lacks": [need for need in one.needs if need not in facts["features"]]} for one in variants()
    ]
    facts["named"] = os.environ.get("ALORA_CPU_VARIANT") or None
    facts["variant"] = None
    try:
        variant, passed_over = chosen_variant()
        facts["variant"] = variant.name
        facts["library"] = None if variant.library is None else str(variant.library)
        found.facts["devices"] = [vars(device) for device in devices()]
    except AloraError as error:
        found.problems.append(str(error))
        return
    found.problems += [f"{one}: install alora_cpp again" for one in passed_over]
    if not any(device["gpu"] for device in found.facts["devices"]) and shutil.which("nvidia-smi"):
        found.notes.append(
            "an NVIDIA driver is installed, but this build has no backend for it: "
            "CMAKE_ARGS=-DGGML_CUDA=ON pip install --no-binary alora_cpp alora_cpp"
        )


def _look_at_memory(found: Findings) -> None:
    memory: dict[str, int | None] = {"total": None, "available": None}
    for device in found.facts.get("devices", ()):
        if device["backend"] == "CPU":
            memory = {"total": device["memory_total"], "available": device["memory_free"]}
    found.facts["memory"] = memory


def _look_at_hub(found: Findings) -> None:
    from huggingface_hub import constants, get_token

    from alora_cpp.conversion_entries import entries_folder, room_taken
    from alora_cpp.hub.cache_folder import cache_folder

    folders = {"cache": Path(constants.HF_HUB_CACHE), "made": cache_folder()}
    n_entries, size = room_taken(entries_folder())
    found.facts["hub"] = {
        **{name: {"path": str(folder), "exists": folder.is_dir()} for name, folder in folders.items()},
        "converted": {"path": str(entries_folder()), "entries": n_entries, "bytes": size},
        "token": get_token() is not None,
        "offline": constants.HF_HUB_OFFLINE,
    }
    for folder in folders.values():
        if not _writable(folder):
            found.problems.append(
                f"{folder} cannot be written, so no model can be kept there: "
                "set HF_HOME to a folder that can, or give yourself the right to"
            )


def _writable(folder: Path) -> bool:
    """Whether files can be made in it, or it can be made."""
    there = next((one for one in (folder, *folder.parents) if one.exists()), None)
    return there is not None and there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _try(found: Findings) -> None:
    began = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TRIAL],
            capture_output=True,
            text=True,
            check=False,
            timeout=_TRIAL_LIMIT,
            # What lies in the working folder is not to be imported.
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        found.problems.append(f"the bundled model could not be asked: {error}")
        return
    found.facts["trial"] = {"label": done.stdout.strip(), "seconds": round(time.perf_counter() - began, 3)}
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        advice = "report it with this output"
        if len(found.facts["processor"]["variants"]) > 1:
            advice += f", and try another ALORA_CPU_VARIANT than {found.facts['processor']['variant']}"
        found.problems.append(f"asking the bundled model ended with {done.returncode} ({last}): {advice}")
