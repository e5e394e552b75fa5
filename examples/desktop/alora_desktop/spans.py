"""Which part of a reply is not supported, as intrinsics for hallucinations say it.

There are two kinds. One answers with a label, yes or no, about the whole reply: it is asked after each sentence while
the reply is written. The other writes a list of sentences, which its `io.yaml` turns into spans of the reply with a
likelihood that each is faithful to the documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from alora_cpp import Intrinsic

_UNSUPPORTED = frozenset({"y", "yes", "true"})


def flagging_rule(intrinsic: Intrinsic) -> list[str] | None:
    """The labels that say that a reply is unsupported; None where its answers are no labels."""
    return [label for label in intrinsic.labels if label.casefold() in _UNSUPPORTED] or None


def unsupported_spans(result: Any) -> Iterator[tuple[int, int]]:
    """The spans of a reply that a written answer calls rather unfaithful than faithful.

    Args:
        result: A verdict's result.

    Yields:
        Where each begins and ends in the reply, in characters.
    """
    for entry in result if isinstance(result, list) else ():
        if not isinstance(entry, Mapping):
            continue
        begin, end = entry.get("response_begin"), entry.get("response_end")
        likelihood = entry.get("faithfulness_likelihood")
        if isinstance(begin, int) and isinstance(end, int) and isinstance(likelihood, float) and likelihood < 0.5:
            yield begin, end
