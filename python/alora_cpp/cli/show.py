"""`alora-cli show`: the facts of a model or an adapter, without loading its weights."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alora_cpp.bundled_model import BUNDLED
from alora_cpp.cli import terminal
from alora_cpp.errors import AloraError


def add_parser(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "show",
        help="print the facts of a model or adapter",
        description="Print the facts of a GGUF file, a model or an adapter, or of an adapter in a PEFT folder.",
    )
    parser.add_argument("file", metavar="FILE", help="a GGUF file, a PEFT folder, or 'bundled'")
    parser.add_argument("--base", metavar="MODEL", help="spell the invocation with the vocabulary of this GGUF")
    parser.add_argument("--io-yaml", action="store_true", help="print only the io.yaml, whole")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    base = None if arguments.base is None else Path(arguments.base)
    facts = read_facts(BUNDLED if arguments.file == "bundled" else Path(arguments.file), base=base)
    if arguments.io_yaml:
        if not facts.get("io_yaml"):
            raise AloraError(f"{arguments.file} has no io.yaml; expected an intrinsic's adapter")
        print(terminal.printable(facts["io_yaml"]["text"].rstrip("\n")))
    elif arguments.json:
        print(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        _print(_lines(facts))
    return 0


def read_facts(path: Path, *, base: Path | None = None) -> dict[str, Any]:
    """The facts of a model or an adapter.

    Args:
        path: A GGUF file or a PEFT folder.
        base: The GGUF whose vocabulary spells an adapter's invocation.

    Raises:
        AloraError: It is neither, or damaged.
    """
    # Reading headers needs numpy, which other commands start without.
    from alora_cpp.cli.gguf_facts import gguf_facts
    from alora_cpp.cli.peft_facts import peft_facts

    facts = peft_facts(path, base=base) if path.is_dir() else gguf_facts(path, base=base)
    if facts["kind"] == "adapter" and facts["source"] is None:
        facts["source"] = _pulled_from(path)
    return facts


def _pulled_from(path: Path) -> str | None:
    """The repository that an adapter was pulled from, and its commit."""
    from alora_cpp.hub import pulled

    there = path.resolve()
    return next((f"{one.repo}@{one.revision}" for one in pulled() if one.path.resolve() == there), None)


def _lines(facts: Mapping[str, Any]) -> dict[str, str]:
    """What to print, by label; facts that are not there have no line."""
    lines = {
        "path": facts["path"],
        "kind": facts["kind"],
        "name": facts["name"],
        "base": _base(facts.get("base")),
        "architecture": facts["architecture"],
    }
    lines |= _adapter_lines(facts) if facts["kind"] == "adapter" else _model_lines(facts)
    lines |= {
        "size": f"{facts['bytes'] / 1e6:.1f} MB",
        "weights": f"{facts['weights']:,}",
        "types": ", ".join(f"{kind} {count / facts['weights']:.0%}" for kind, count in facts["types"].items()),
        "licence": facts["licence"],
        "from": facts["source"],
        "description": facts["description"],
    }
    return {label: str(value) for label, value in lines.items() if value not in (None, "")}


def _base(base: Mapping[str, Any] | None) -> str:
    if base is None:
        return ""
    known = [text for text in (base["name"], base["repo"]) if text]
    return ", ".join(known)


def _model_lines(facts: Mapping[str, Any]) -> dict[str, Any]:
    built_in = facts["built_in_adapters"]
    parts = facts["parts"]
    lines = {
        "parts": f"{parts}; size and weights are those of this one" if parts > 1 else "",
        "layers": facts["layers"],
        "width": facts["width"],
        "context": facts["context_length"],
        "vocabulary": facts["vocabulary"],
        "chat template": "yes" if facts["chat_template"] else "no",
    }
    if built_in:
        calls = [f"{token['text']} ({token['id']})" for token in built_in["control_tokens"]]
        lines["built-in adapters"] = f"{built_in['count']} of rank {built_in['rank']}: {', '.join(calls)}"
    return lines | _fingerprint_lines(facts["fingerprints"])


def _adapter_lines(facts: Mapping[str, Any]) -> dict[str, Any]:
    invocation = facts["invocation"]
    called = {
        "invocation": "none: an ordinary LoRA"
        if invocation is None
        else "  ".join(filter(None, (_joined(invocation["ids"]), invocation["text"] and repr(invocation["text"])))),
        "acts from": f"token {facts['activation_offset']} of the invocation" if facts["activation_offset"] else "",
    }
    lines = {
        "rank": _joined(facts["rank"]),
        "alpha": f"{facts['alpha']:g}",
        "scale": ", ".join(f"{scale:g}" for scale in facts["scales"]),
        "targets": _joined(facts["targets"]),
        "layers": _ranges(facts["layers"]),
    }
    fingerprints = (facts["base"] or {}).get("fingerprints") or {}
    return lines | called | _io_lines(facts["io_yaml"]) | _fingerprint_lines(fingerprints)


def _io_lines(io_yaml: Mapping[str, Any] | None) -> dict[str, Any]:
    if io_yaml is None:
        return {"io.yaml": "none"}
    schema = io_yaml["response_format"]
    answers = _joined(io_yaml["labels"]) or (json.dumps(schema, ensure_ascii=False) if schema else "any text")
    parameters = [f"{name} {value}" for name, value in io_yaml["parameters"].items()]
    tagged = [f"sentences of {place} as <{tag}0>, ..." for place, tag in io_yaml["sentence_boundaries"].items()]
    documents = [f"documents as {io_yaml['docs_as_message']}"] if io_yaml["docs_as_message"] else []
    return {
        "asks": io_yaml["instruction"] or "by its invocation alone",
        "shows": ", ".join(tagged + documents),
        "answers": answers,
        "then": ", ".join(io_yaml["transformations"]),
        "parameters": ", ".join(parameters),
    }


def _fingerprint_lines(fingerprints: Mapping[str, str | None]) -> dict[str, Any]:
    return {f"fingerprint of {what}": value for what, value in fingerprints.items()}


def _joined(items: Sequence[object]) -> str:
    return ", ".join(map(str, items))


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers with neighbours drawn together: 0-3, 7."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def _print(lines: Mapping[str, str]) -> None:
    width = max(map(len, lines))
    for label, text in lines.items():
        indented = terminal.printable(text.rstrip()).replace("\n", "\n" + " " * (width + 2))
        print(f"{terminal.paint(label.ljust(width), terminal.BOLD)}  {indented}")
