"""How an intrinsic is asked and how its answer is read: Granite's io.yaml, written beside each adapter."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from training.tasks import LABELS


def io_description(name: str) -> dict[str, object]:
    """The content of an intrinsic's io.yaml."""
    labels = LABELS[name]
    values = {"Y": 1.0, "N": 0.0} if labels == ("Y", "N") else {str(i): round(i / 10 + 0.05, 2) for i in range(10)}
    return {
        "model": None,
        "response_format": json.dumps({"type": "string", "enum": list(labels)}),
        "transformations": [{"type": "likelihood", "categories_to_values": values}],
        "parameters": {"max_completion_tokens": 1},
    }


def write_io(name: str, folder: Path) -> None:
    """Writes io.yaml into an adapter's folder."""
    text = yaml.safe_dump(io_description(name), sort_keys=False)
    (folder / "io.yaml").write_text(text, encoding="utf-8")
