"""Which intrinsics judge a conversation where none was named, and when.

That is told by their names, since nothing else says what they are about.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from alora_cpp.errors import AloraError
from alora_cpp.finding import candidates
from alora_cpp.io import canonical_name
from alora_cpp.model import Model

# Words of names. What judges neither the question nor the documents judges the reply.
_ABOUT_QUESTIONS = ("safety", "guardian", "jailbreak", "policy", "answerability", "query", "context_relevance")
_ABOUT_DOCUMENTS = ("answerability", "hallucination", "citation", "context_relevance", "context_attribution")
_WRITING = ("rewrite", "correction")


def is_about_questions(name: str) -> bool:
    """Whether it judges what the user said, not the reply."""
    return _has(name, _ABOUT_QUESTIONS)


def is_about_documents(name: str) -> bool:
    """Whether it judges by the documents, so that there is nothing to ask without any."""
    return _has(name, _ABOUT_DOCUMENTS)


def load_unnamed(model: Model, switch_folder: Path | None) -> list[str]:
    """Loads the intrinsics around a model that are asked without being named, except those it has already.

    One that cannot be loaded is told on stderr.

    Returns:
        The names of the others: those that write instead of judging, and variants of what is asked.
    """
    known = {canonical_name(name) for name in model.intrinsics}
    taken = [one for one in candidates(model, switch_folder=switch_folder) if one.taken]
    names = [*model.intrinsics, *(one.name for one in taken)]
    left_out = []
    for candidate in taken:
        name = canonical_name(candidate.name)
        if name in known:
            continue
        known.add(name)
        if _has(name, _WRITING) or _is_variant(name, names):
            left_out.append(candidate.name)
            continue
        try:
            model.load_intrinsic(candidate.place)
        except AloraError as error:
            print(f"alora-cli: {candidate.name} is left out: {' '.join(str(error).split())}", file=sys.stderr)
    return left_out


def _is_variant(name: str, others: Iterable[str]) -> bool:
    """Whether it asks in other words what another one asks: `safety_sentence`, where there is `safety`."""
    parts = name.split("_")
    beginnings = {canonical_name("_".join(parts[:end])) for end in range(1, len(parts))} - {name}
    return not beginnings.isdisjoint(map(canonical_name, others))


def _has(name: str, words: Iterable[str]) -> bool:
    return any(word in canonical_name(name) for word in words)
