"""How an intrinsic is asked and how its answer is read: Granite's io.yaml, written beside each adapter."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from training.tasks import LABELS


def io_description(name: str) -> dict[str, object]:
    """The content of an intrinsic's io.yaml."""
    labels = LABELS[name]
    values: dict[str | int, float] = {"Y": 1.0, "N": 0.0}
    # Letters are answered bare, without JSON's quotes; digits are JSON as they are.
    response_format, parameters = None, {"extra_body": {"structured_outputs": {"choice": list(labels)}}}
    if labels != ("Y", "N"):
        digits = [int(label) for label in labels]
        values = {digit: round(digit / 10 + 0.05, 2) for digit in digits}
        response_format, parameters = json.dumps({"type": "integer", "enum": digits}), {"max_completion_tokens": 1}
    return {
        "model": None,
        "name": name,
        "response_format": response_format,
        "transformations": [{"type": "likelihood", "categories_to_values": values, "input_path": []}],
        "parameters": parameters,
    }


def write_io(name: str, folder: Path) -> None:
    """Writes io.yaml into an adapter's folder."""
    text = yaml.safe_dump(io_description(name), sort_keys=False)
    (folder / "io.yaml").write_text(text, encoding="utf-8")
