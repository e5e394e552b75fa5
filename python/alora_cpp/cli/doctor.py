"""`alora-cli doctor`: what was found on this machine, what was chosen for it, and what is wrong."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from alora_cpp.cli.terminal import BOLD, GREEN, RED, YELLOW, paint

if TYPE_CHECKING:
    from alora_cpp.cli.doctor_facts import Findings


def add_parser(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "doctor",
        help="say what this machine has, what was chosen for it, and what is wrong",
        description="Look at the processor and the kernels that were chosen for it, threads, memory, GPUs and the "
        "hub's cache, and ask the bundled model one question. Exits with 1 where something is wrong.",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    from alora_cpp.cli.doctor_facts import find

    found = find()
    if arguments.json:
        print(json.dumps({**found.facts, "problems": found.problems, "notes": found.notes}, indent=2))
    else:
        print(_text(found))
    return 1 if found.problems else 0


def _text(found: Findings) -> str:
    rows = _rows(found.facts)
    width = max(len(name) for name, _ in rows)
    lines = [f"{paint(name.ljust(width), BOLD)}  {what}" for name, what in rows]
    lines += [f"{paint('wrong', RED)}: {' '.join(problem.split())}" for problem in found.problems]
    lines += [f"{paint('note', YELLOW)}: {note}" for note in found.notes]
    if not found.problems:
        lines.append(paint("nothing is wrong", GREEN))
    return "\n".join(lines)


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    versions = facts["versions"]
    packages = [f"{name} {what or 'missing'}" for name, what in versions.items() if name not in ("python", "system")]
    rows = [
        ("versions", ", ".join(packages)),
        ("python", f"{versions['python']} on {versions['system']}"),
        *_processor_rows(facts["processor"]),
        ("memory", _memory(facts["memory"])),
        *(("GPU", _device(device)) for device in facts.get("devices", ()) if device["gpu"]),
    ]
    if "devices" in facts and not any(device["gpu"] for device in facts["devices"]):
        rows.append(("GPU", "none that this build can use"))
    hub = facts["hub"]
    for name, what in (("cache", "hub's cache"), ("made", "our cache")):
        rows.append((what, hub[name]["path"] + ("" if hub[name]["exists"] else " (not made yet)")))
    rows.append(("converted", _converted(hub["converted"])))
    rows.append(("hub", f"{'a token' if hub['token'] else 'no token'}, {'offline' if hub['offline'] else 'online'}"))
    if "trial" in facts:
        rows.append(("trial", f"the bundled model was loaded and asked in {facts['trial']['seconds']:.1f} s"))
    return rows


def _processor_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("processor", f"{facts['name']}, {facts['logical']} logical processors")]
    if "features" not in facts:
        return rows
    rows.append(("features", " ".join(facts["features"]) or "none that make a difference"))
    if facts["variant"] is not None:
        why = "named by ALORA_CPU_VARIANT" if facts["named"] else f"of {len(facts['variants'])} in this build"
        rows.append(("kernels", f"{facts['variant']} ({why})"))
    rows.append(("threads", str(facts["threads"])))
    return rows


def _memory(memory: dict[str, int | None]) -> str:
    total, available = memory["total"], memory["available"]
    if total is None or available is None:
        return "unknown"
    return f"{total / 1e9:.1f} GB; {available / 1e9:.1f} GB available to this process, swap included"


def _converted(cache: dict[str, Any]) -> str:
    if not cache["bytes"]:
        return "no adapters"
    adapters = "1 adapter" if cache["entries"] == 1 else f"{cache['entries']} adapters"
    return f"{adapters}, {cache['bytes'] / 1e6:.1f} MB; to be rid of them, delete {cache['path']}"


def _device(device: dict[str, Any]) -> str:
    return f"{device['name']}: {device['description']}, {device['memory_total'] / 1e9:.1f} GB"
