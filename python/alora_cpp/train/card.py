"""The model card of a new adapter."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from alora_cpp.train.training import Plan, TrainingReport

_SHOWN = 12


def write_card(path: Path, plan: Plan, report: TrainingReport, about: dict[str, Any]) -> None:
    """Writes README.md: what the adapter is, from what data and with what settings it came, and how good it is.

    Args:
        path: The file.
        plan: What was trained.
        report: What became of it.
        about: What was trained, as plain values.

    Raises:
        OSError: It cannot be written.
    """
    options = plan.options
    kind = "aLoRA" if options.kind == "alora" else "LoRA"
    front = {"base_model": plan.base.name, "library_name": "peft", "tags": [options.kind, "intrinsic"]}
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False).rstrip(),
        "---",
        f"# {options.name}",
        "",
        f"An intrinsic for {plan.base.name}: {'an' if kind == 'aLoRA' else 'a'} {kind} adapter, trained with"
        " `alora-cli train`.",
        "",
        *_usage(plan, report),
        "",
        "## Data",
        "",
        f"{report.n_examples} examples were trained on, {report.n_validation} measured on.",
        "",
        *_completions(plan),
        "",
        "| File | SHA-256 |",
        "| --- | --- |",
        *(f"| {Path(name).name} | `{digest}` |" for files in about["files"].values() for name, digest in files.items()),
        "",
        "## Measured",
        "",
        f"On the {report.n_validation} validation examples, with {report.measured_with}; the adapter kept is that of"
        f" step {report.best_step} of {report.n_steps}, the one with the least loss on them.",
        "",
        "| Figure | |",
        "| --- | --- |",
        f"| loss, nats a token | {report.validation_loss:.4f} |",
        *(f"| {name.replace('_', ' ')} | {value:.4f} |" for name, value in report.figures.items()),
        "",
        "## Settings",
        "",
        "| Setting | |",
        "| --- | --- |",
        *(f"| {name} | {_shown(value)} |" for name, value in about["settings"].items() if value is not None),
        f"| alpha in effect | {options.scaled_alpha:g} |",
        f"| invocation | {_invocation(plan)} |",
        "",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")


def _usage(plan: Plan, report: TrainingReport) -> list[str]:
    name = plan.options.name
    if plan.question.is_alora:
        model = plan.base.gguf.name if plan.base.gguf is not None else "MODEL.gguf"
        return [
            "```sh",
            f"alora-cli run {model} conversation.json --adapter {name}={report.gguf.name} --intrinsic {name}",
            "```",
        ]
    return [
        "It governs the whole prompt, so it runs with PEFT or llama.cpp, or in `alora_cpp` on a branch of its own"
        " (`Model.load_adapter`, `Branch.activate` before the first token); prompts end with the invocation.",
    ]


def _completions(plan: Plan) -> list[str]:
    counts = Counter(example.completion for example in (*plan.examples, *plan.validation))
    if len(counts) > _SHOWN:
        return [f"They have {len(counts)} different completions."]
    return [
        "| Completion | Examples |",
        "| --- | --- |",
        *(f"| {_shown(completion)} | {count} |" for completion, count in sorted(counts.items())),
    ]


def _invocation(plan: Plan) -> str:
    tokens = list(plan.question.invocation)
    return f"{_shown(plan.base.vocabulary.detokenize(tokens, special=True))}, tokens {tokens}"


def _shown(value: Any) -> str:
    """A value in a table's cell."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return "`" + text.replace("`", "'").replace("|", "\\|").replace("\n", "\\n") + "`"
