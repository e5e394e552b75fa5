"""The io.yaml of a new intrinsic, from the answers that it learns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import yaml

from alora_cpp.chat_template.vocabulary import Vocabulary
from alora_cpp.labelled_data import LabelledExample

# More different answers than this, or answers seen once, are text and no labels.
_MOST_LABELS = 20
_YES = ("y", "yes", "true")
_NO = ("n", "no", "false")
# How much longer than the longest answer seen an answer may get.
_MARGIN = 2


def describe_io(name: str, examples: Sequence[LabelledExample], vocabulary: Vocabulary) -> str:
    """Writes an io.yaml.

    A few answers that come again and again are labels: the intrinsic chooses among them. Numbers, and a pair such as
    yes and no, also get values, so that the answer is the value to be expected; else it is the label itself.

    Args:
        name: The intrinsic's name.
        examples: What it learns.
        vocabulary: The base's.
    """
    counts = Counter(example.completion for example in examples)
    transformations: list[dict[str, object]] = []
    parameters: dict[str, object]
    if len(counts) <= _MOST_LABELS and min(counts.values()) > 1:
        labels = sorted(counts)
        parameters = {"extra_body": {"structured_outputs": {"choice": labels}}}
        if values := _values(labels):
            transformations.append({"type": "likelihood", "categories_to_values": values, "input_path": []})
    else:
        longest = max(len(vocabulary.tokenize(completion)) for completion in counts)
        parameters = {"max_completion_tokens": _MARGIN * longest}
    described = {
        "model": None,
        "name": name,
        "response_format": None,
        "transformations": transformations,
        "parameters": parameters,
    }
    return yaml.safe_dump(described, sort_keys=False, allow_unicode=True)


def _values(labels: Sequence[str]) -> dict[str, float]:
    """What each label is worth; nothing where labels are no numbers and no yes and no."""
    if len(labels) == 2:
        yes = [label for label in labels if label.lower() in _YES]
        no = [label for label in labels if label.lower() in _NO]
        if yes and no:
            return {yes[0]: 1.0, no[0]: 0.0}
    if len(labels) > 1 and all(label.isascii() and label.isdigit() for label in labels):
        return {label: float(label) for label in labels}
    return {}
