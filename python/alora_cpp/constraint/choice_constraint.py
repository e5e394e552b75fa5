"""Answers held to a closed set of bare texts while they are generated."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import llguidance

from alora_cpp.constraint.landing import BYTES, reason
from alora_cpp.constraint.schema_constraint import Matcher
from alora_cpp.constraint.vocabulary import vocabulary_of
from alora_cpp.errors import AdapterError

if TYPE_CHECKING:
    from alora_cpp.model import Model


class ChoiceConstraint:
    """A list of texts compiled for a model's vocabulary. Any number of answers and threads may share it."""

    def __init__(self, model: Model, choices: Sequence[str]) -> None:
        """Compiles the texts.

        Args:
            model: Whose tokens the answers are made of.
            choices: Every answer that is allowed.

        Raises:
            AdapterError: They are more than the grammar engine can take.
            ClosedError: The model is closed.
        """
        grammar = llguidance.LLMatcher.grammar_from_regex("|".join(map(re.escape, choices)))
        self._vocabulary = vocabulary_of(model)
        self._lock = threading.Lock()
        self._bytes = _compile(BYTES, grammar)
        self._tokens = _compile(self._vocabulary.engine, grammar)

    def start(self) -> Matcher:
        """The state of a new answer."""
        with self._lock:
            return Matcher(self._vocabulary, self._tokens.deep_copy(), self._bytes.deep_copy(), ())


def _compile(tokenizer: llguidance.LLTokenizer, grammar: str) -> llguidance.LLMatcher:
    matcher = llguidance.LLMatcher(tokenizer, grammar, log_level=0)
    if matcher.is_error():
        raise AdapterError(f"the list of choices cannot be used: {reason(matcher)}")
    return matcher
