"""Answers held to a JSON schema while they are generated."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import llguidance
import numpy as np
from numpy.typing import NDArray

from alora_cpp.constraint.answer_schema import answer_schema
from alora_cpp.constraint.closed_literal import ways_to_end
from alora_cpp.constraint.landing import BYTES, MAX_BYTES, GrammarError, reason, shortest_ending
from alora_cpp.constraint.pattern_words import pattern_words
from alora_cpp.constraint.vocabulary import Vocabulary, vocabulary_of
from alora_cpp.errors import AdapterError, AnswerError

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

    from alora_cpp.model import Model

# The text is what json.dumps(value, ensure_ascii=False) writes; control characters without a short escape are left out.
_FORMAT: JsonCompileOptions = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "json_allowed_escapes": 'nrbtf\\"',
}


class SchemaConstraint:
    """A JSON schema compiled for a model's vocabulary. Any number of answers and threads may share it."""

    def __init__(self, model: Model, schema: Any) -> None:
        """Compiles a schema.

        Answers are written as `json.dumps(value, ensure_ascii=False)` does it, keys in the schema's order. An object
        that names its properties holds no others unless the schema says that it may.

        Args:
            model: Whose tokens the answers are made of.
            schema: A JSON schema, as `json.loads` gives it.

        Raises:
            AdapterError: The schema is none, or too large, or asks for what the grammar engine cannot do, or for what
                no text of at most 4,096 bytes is.
            ClosedError: The model is closed.
        """
        if not isinstance(schema, (dict, bool)):
            raise AdapterError(f"the JSON schema is a {type(schema).__name__}, expected a mapping")
        closed = answer_schema(schema)
        self._vocabulary = vocabulary_of(model)
        self._lock = threading.Lock()
        if "oneOf" in json.dumps(closed):
            # Whether no two branches allow the same must be known of the schema as it is, not of its closed objects.
            _compile(BYTES, schema)
        self._bytes = _compile(BYTES, closed)
        self._tokens = _compile(self._vocabulary.engine, closed)
        self._words = pattern_words(closed)
        try:
            answer = shortest_ending(self._bytes, b"", self._words)
        except GrammarError as error:
            raise _refused(str(error)) from None
        if answer is None:
            raise AdapterError(
                f"no answer to the JSON schema was found within {MAX_BYTES} bytes; "
                "look for a part that always needs another of its kind, or for long minimal lengths"
            )

    def start(self) -> Matcher:
        """The state of a new answer."""
        with self._lock:
            return Matcher(self._vocabulary, self._tokens.deep_copy(), self._bytes.deep_copy(), self._words)


class Matcher:
    """One answer as far as it is written. Not to be shared by threads."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        tokens: llguidance.LLMatcher,
        in_bytes: llguidance.LLMatcher,
        words: tuple[bytes, ...],
    ) -> None:
        """Begins an answer; made by `SchemaConstraint.start`."""
        self._vocabulary = vocabulary
        self._matcher = tokens
        self._bytes = in_bytes
        self._words = words
        self._text = bytearray()
        self._landing: list[int] | None = None
        self._ended = False
        n_words = -(-len(vocabulary.pieces) // 32)
        self._mask = np.zeros(n_words, np.uint32)
        self._landing_mask = np.zeros(n_words, np.uint32)

    def mask(self) -> NDArray[np.uint32]:
        """The tokens that may come next.

        An end-of-generation token is among them when the answer is complete, and no other control token ever. Where the
        text that follows is settled, only the token that the model's own tokenizer would write is.

        Returns:
            uint32 of shape [ceil(n_vocab / 32)]: token t is bit t % 32 of word t // 32. The next call overwrites it.

        Raises:
            AnswerError: The grammar became too complex for the engine.
        """
        if self._ended:
            self._mask.fill(0)
            return self._mask
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        self._check()
        return self._mask

    def accept(self, token: int) -> None:
        """Takes the next token.

        Raises:
            AnswerError: The token cannot come next.
        """
        if token in self._vocabulary.ends:
            if not self.complete:
                raise AnswerError(f"token {token} ends the answer {self._shown()}, which is not complete")
            self._ended = True
            return
        if self.ended or self._matcher.try_consume_tokens([token]) != 1:
            self._check()
            raise AnswerError(f"token {token} cannot follow {self._shown()}; only those that mask() allows can")
        self._text += self._vocabulary.pieces[token]
        if self._landing is not None:
            self._landing = self._landing[1:] if self._landing[:1] == [token] else None

    def allows(self, token: int) -> bool:
        """Whether the answer's text may go on with a token's text; `mask` may insist on another way to write it."""
        return not self.ended and self._matcher.validate_tokens([token]) == 1

    def forced(self) -> list[int]:
        """The tokens that must come next whatever the model says, not yet accepted; perhaps none."""
        if self.ended:
            return []
        return [token for token in self._matcher.compute_ff_tokens() if token not in self._vocabulary.ends]

    @property
    def complete(self) -> bool:
        """Whether the text so far is a whole answer."""
        return self._ended or bool(self._matcher.is_accepting())

    @property
    def ended(self) -> bool:
        """Whether nothing may follow any more."""
        return self._ended or bool(self._matcher.is_stopped())

    def landing(self) -> list[int]:
        """The tokens that bring the answer to its end soonest, not yet accepted; none when it is complete.

        They are at most as many as 4,096 bytes take.

        Raises:
            AnswerError: No ending was found within that.
        """
        if self._landing is None:
            try:
                ending = shortest_ending(self._bytes, bytes(self._text), self._words)
            except GrammarError as error:
                raise AnswerError(f"the grammar engine gave up after {self._shown()}: {error}") from None
            self._landing = None if ending is None else self._spell(ending)
        if self._landing is None:
            raise AnswerError(f"no ending within {MAX_BYTES} bytes was found for the answer {self._shown()}")
        return [*self._landing]

    def landing_mask(self) -> NDArray[np.uint32]:
        """The next token of `landing`, or the end-of-generation tokens when the answer is complete: part of `mask`.

        Raises:
            AnswerError: As for `landing`.
        """
        self._landing_mask.fill(0)
        if not self._ended:
            for token in self.landing()[:1] or self._vocabulary.ends:
                self._landing_mask[token // 32] |= np.uint32(1 << token % 32)
        return self._landing_mask

    def choice_mask(self) -> NDArray[np.uint32] | None:
        """The tokens that go on with a literal which can still become one of few: part of `mask`.

        Where an answer lands, this is what is left to the model.

        Returns:
            None where no such literal is at hand, or only one way is left.

        Raises:
            AnswerError: As for `mask`.
        """
        ways = ways_to_end(self._bytes, bytes(self._text)) or []
        if len(ways) < 2:
            return None
        tokens = np.flatnonzero(np.unpackbits(self.mask().view(np.uint8), bitorder="little"))
        pieces = {int(token): self._vocabulary.pieces[token] for token in tokens}
        chosen = [token for token, piece in pieces.items() if piece and any(way.startswith(piece) for way in ways)]
        if b"" in ways:
            chosen += self._enders(pieces)
        mask = np.zeros_like(self._mask)
        for token in chosen:
            mask[token // 32] |= np.uint32(1 << token % 32)
        return mask if chosen else None

    def _enders(self, pieces: Mapping[int, bytes]) -> list[int]:
        """Of the tokens that may follow a number, those that end it and begin as little else as can be."""
        for brackets in (b"}]", b","):
            found = {token: piece for token, piece in pieces.items() if piece[:1] and piece[:1] in brackets}
            if found:
                shortest = min(map(len, found.values()))
                return [token for token, piece in found.items() if len(piece) == shortest]
        return self._vocabulary.ends

    def _spell(self, ending: bytes) -> list[int] | None:
        """An ending as tokens: the model's own where the text is settled, the fewest elsewhere."""
        matcher = self._matcher.deep_copy()
        pieces, fewest = self._vocabulary.pieces, self._vocabulary.spell(ending)
        tokens: list[int] = []
        at = 0
        while at < len(ending):
            settled = matcher.compute_ff_tokens()[:1]
            follows = bool(settled) and ending.startswith(pieces[settled[0]] or b"\xff", at)
            token = settled[0] if follows else fewest[at]
            if token < 0 or matcher.try_consume_tokens([token]) != 1:
                return None
            tokens.append(token)
            at += len(pieces[token])
        return tokens

    def _check(self) -> None:
        if self._matcher.is_error():
            raise AnswerError(f"the grammar engine gave up after {self._shown()}: {reason(self._matcher)}")

    def _shown(self) -> str:
        return repr(self._text[-80:].decode("utf-8", errors="replace"))


def _compile(tokenizer: llguidance.LLTokenizer, schema: Any) -> llguidance.LLMatcher:
    if isinstance(schema, bool):
        schema = {} if schema else {"enum": []}
    try:
        grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=_FORMAT)
    except ValueError as error:
        raise _refused(str(error)) from None
    matcher = llguidance.LLMatcher(tokenizer, grammar, log_level=0)
    if matcher.is_error():
        raise _refused(reason(matcher))
    return matcher


def _refused(why: str) -> AdapterError:
    if why.startswith("oneOf"):
        why = (
            "it is not plain that no two branches of a 'oneOf' allow the same; "
            "give each a required property with a 'const' of its own, or use 'anyOf'"
        )
    return AdapterError(f"the JSON schema cannot be used: {why}")
