"""What a grammar engine needs to know of a model's tokens."""

from __future__ import annotations

import threading
import weakref
from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import llguidance

from alora_cpp.errors import AdapterError, ClosedError

if TYPE_CHECKING:
    from alora_cpp.model import Model

_known: weakref.WeakKeyDictionary[Model, Vocabulary] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def vocabulary_of(model: Model) -> Vocabulary:
    """The model's vocabulary; made once for each model, gone with it.

    Raises:
        AdapterError: No token of the model ends a text.
        ClosedError: The model is closed.
    """
    with _lock:
        if model not in _known:
            _known[model] = Vocabulary(model)
        return _known[model]


class Vocabulary:
    """The bytes of every token, and the engine's tables over them. Holds no reference to the model."""

    def __init__(self, model: Model) -> None:
        """Reads the tokens.

        Raises:
            AdapterError: No token of the model ends a text.
        """
        tokens = range(model.n_vocab)
        core = model._core
        self.ends = [token for token in tokens if model.is_end_of_generation(token)]
        """The tokens that end a text."""
        if not self.ends:
            raise AdapterError(
                "the model has no end-of-generation token, so that no answer to a JSON schema could end; "
                "set tokenizer.ggml.eos_token_id in its file"
            )
        control = {*self.ends, *(token for token in tokens if model.is_control(token))}
        self.pieces = [b"" if token in control else core.piece(token) for token in tokens]
        """The bytes of each token; none for control tokens, so that no text holds them."""
        self._spelling = {piece: token for token, piece in reversed([*enumerate(self.pieces)]) if piece}
        self._longest = max(map(len, self._spelling), default=0)
        self.engine = llguidance.LLTokenizer(
            llguidance.TokenizerWrapper(_Tokenizer(self.pieces, self.ends[0], model)),
            eos_token=self.ends,
            slices=llguidance.LLTokenizer.json_slices(),
        )

    def beginning_with(self, text: bytes) -> list[int]:
        """The tokens whose bytes begin with a text of at least one byte."""
        texts, tokens = self._sorted
        first = bisect_left(texts, text)
        last = first
        while last < len(texts) and texts[last].startswith(text):
            last += 1
        return tokens[first:last]

    @cached_property
    def _sorted(self) -> tuple[list[bytes], list[int]]:
        """The bytes of all tokens in order, and the tokens."""
        order = sorted(range(len(self.pieces)), key=self.pieces.__getitem__)
        return [self.pieces[token] for token in order], order

    def spell(self, text: bytes) -> list[int]:
        """For each byte of a text, the first of the fewest tokens that spell the text from there on.

        Returns:
            -1 where it takes a byte that no token has.
        """
        n = len(text)
        lengths, firsts = [n + 1] * n + [0], [-1] * n
        for begin in reversed(range(n)):
            for end in range(begin + 1, min(n, begin + self._longest) + 1):
                token = self._spelling.get(text[begin:end])
                if token is not None and lengths[end] + 1 <= lengths[begin]:
                    lengths[begin], firsts[begin] = lengths[end] + 1, token
        return firsts


class _Tokenizer:
    """The model's tokenizer as llguidance asks for it."""

    def __init__(self, tokens: Sequence[bytes], end: int, model: Model) -> None:
        self.tokens = tokens
        self.eos_token_id = end
        self.bos_token_id = None
        self.special_token_ids: list[int] = []
        self._model = weakref.ref(model)

    def __call__(self, text: bytes) -> list[int]:
        """Tokenizes; never raises, which there would be a panic."""
        model = self._model()
        try:
            return [] if model is None else model._core.tokenize(text)
        except ClosedError:
            return []
