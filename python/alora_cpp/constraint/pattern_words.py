"""Words that the patterns of a JSON schema ask for.

A pattern that is not anchored, such as `foo`, allows every character at every place: only a string that holds the whole
word may end. Searching byte by byte one would not find it; these words lead there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import llguidance

from alora_cpp.constraint.landing import BYTES, GrammarError, shortest_ending

_MOST = 16
_LONGEST = 200


def pattern_words(schema: Any) -> tuple[bytes, ...]:
    """A short example of each part of each pattern, as bytes within a JSON string."""
    words: dict[bytes, None] = {}
    for pattern in _patterns(schema):
        # What stands between parts that anything matches is asked for by itself.
        for part in re.split(r"\.[*+]\??", pattern.removeprefix("^").removesuffix("$")):
            word = _example(part) if len(words) < _MOST and 0 < len(part) <= _LONGEST else None
            if word:
                words.setdefault(word)
    return tuple(words)


def _patterns(schema: Any) -> Iterator[str]:
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if isinstance(value.get("pattern"), str):
                yield value["pattern"]
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _example(part: str) -> bytes | None:
    matcher = llguidance.LLMatcher(BYTES, llguidance.LLMatcher.grammar_from_regex(part), log_level=0)
    try:
        found = None if matcher.is_error() else shortest_ending(matcher, b"")
        return found and json.dumps(found.decode(), ensure_ascii=False)[1:-1].encode()
    except (GrammarError, UnicodeDecodeError):
        return None
