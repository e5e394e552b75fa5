"""How an intrinsic is asked and how its answer is read: Granite's io.yaml, which travels inside each adapter."""

from __future__ import annotations

import json

from training.tasks.intrinsics import Intrinsic

# What a label is worth: the probability of what the intrinsic is named after.
_VALUES = {"Y": 1.0, "N": 0.0, "answerable": 1.0, "unanswerable": 0.0}
_LONGEST_TEXT = 96


def _value(label: str) -> float:
    return round(int(label) / 10 + 0.05, 2) if label.isdigit() else _VALUES[label]


def io_description(intrinsic: Intrinsic) -> dict[str, object]:
    """The content of an intrinsic's io.yaml."""
    labels = intrinsic.task.labels
    described: dict[str, object] = {"model": None, "name": intrinsic.name}
    if not labels:
        return described | {
            "response_format": None,
            "transformations": None,
            "parameters": {"max_completion_tokens": _LONGEST_TEXT},
        }
    if all(completion.isdigit() for completion in intrinsic.completions):  # digits are JSON as they are
        digits = [int(label) for label in labels]
        values: dict[str, float] | dict[int, float] = {digit: _value(str(digit)) for digit in digits}
        response_format: str | None = json.dumps({"type": "integer", "enum": digits})
        parameters: dict[str, object] = {"max_completion_tokens": 1}
    else:  # other labels are answered bare, without JSON's quotes
        values = {intrinsic.completion(label): _value(label) for label in labels}
        response_format, parameters = None, {"extra_body": {"structured_outputs": {"choice": list(values)}}}
    return described | {
        "response_format": response_format,
        "transformations": [{"type": "likelihood", "categories_to_values": values, "input_path": []}],
        "parameters": parameters,
    }
