"""What to say where no adapter is found: what was looked at, and what to pull."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from alora_cpp.finding.place import Place
from alora_cpp.finding.surroundings import stems
from alora_cpp.io import canonical_name

if TYPE_CHECKING:
    from alora_cpp.finding.search import Candidate
    from alora_cpp.model import Model

# The libraries for Granite 4, and what each holds. Which sizes of the model they serve changes with their releases.
_LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "ibm-granite/granitelib-rag-r1.0": (
        "answerability",
        "citations",
        "context_relevance",
        "hallucination_detection",
        "query_clarification",
        "query_rewrite",
    ),
    "ibm-granite/granitelib-core-r1.0": ("context-attribution", "requirement-check", "uncertainty"),
    "ibm-granite/granitelib-guardian-r1.0": (
        "factuality-correction",
        "factuality-detection",
        "guardian-core",
        "policy-guardrails",
    ),
}
_LIBRARY_OF_GRANITE_3 = "ibm-granite/rag-intrinsics-lib"
# Intrinsics that their publisher has made part of another one.
_PART_OF = {"safety": "guardian-core", "jailbreak": "guardian-core"}


def not_found(model: Model, name: str, looked_at: Sequence[Candidate], around: Sequence[Place]) -> str:
    """The message of the error."""
    file = model.path
    beside = " or ".join(f"{stem}.{name}.gguf, {stem}.intrinsics/" for stem in stems(file))
    said = [
        f"no intrinsic '{name}' was found for {file.name}; looked in {file.parent} for {beside}, among the pulled"
        " and among the bundled ones"
    ]
    said += [f"{one.place.path} ({one.place.origin}) does not fit: {one.why_not}" for one in looked_at]
    wanted = canonical_name(name)
    others = dict.fromkeys(place.name for place in around if place.name and canonical_name(place.name) != wanted)
    if others:
        said.append(f"other names there: {', '.join(others)}")
    return "; ".join([*said, _advice(model, name)])


def _advice(model: Model, name: str) -> str:
    give = f"--adapter {name}=PATH"
    granite = re.search(r"granite\D{0,3}(\d+)?", " ".join(model.names), re.IGNORECASE)
    if granite is None:
        return f"pull it, alora-cli pull REPO --intrinsic {name} --base {model.path}, or give it with {give}"
    published = _PART_OF.get(canonical_name(name), name)
    if granite[1] is not None and int(granite[1]) <= 3:
        repos = [_LIBRARY_OF_GRANITE_3]
    else:
        wanted = canonical_name(published)
        repos = [repo for repo, names in _LIBRARIES.items() if wanted in map(canonical_name, names)]
        if not repos:
            listed = "; ".join(f"{repo}: {', '.join(names)}" for repo, names in _LIBRARIES.items())
            return f"give it with {give}; published for Granite are {listed}"
    return f"pull it, alora-cli pull {repos[0]} --intrinsic {published} --base {model.path}, or give it with {give}"
