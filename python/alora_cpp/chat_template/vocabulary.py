"""What a chat template has to know of a model: its vocabulary, and the template itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol


class Vocabulary(Protocol):
    """A vocabulary: `Model` is one, and so is a tokenizer of transformers where an adapter is trained on that."""

    @property
    def path(self) -> Path:
        """Where it was read from."""

    @property
    def control_tokens(self) -> Mapping[str, int]:
        """Control tokens by their text."""

    @property
    def chat_template(self) -> str | None:
        """The jinja text of the chat template."""

    @property
    def bos(self) -> int | None:
        """The token that begins a text."""

    @property
    def eos(self) -> int | None:
        """The token that ends a text."""

    @property
    def n_vocab(self) -> int:
        """Tokens in the vocabulary."""

    def tokenize(self, text: str, *, parse_special: bool = False, add_special: bool = False) -> list[int]:
        """Text to tokens, as `Model.tokenize`."""

    def detokenize(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """Tokens to text, as `Model.detokenize`."""
