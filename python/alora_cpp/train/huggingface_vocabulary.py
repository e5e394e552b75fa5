"""A tokenizer of transformers, asked as a model's vocabulary is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alora_cpp.errors import TrainingError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class HuggingFaceVocabulary:
    """What our chat templates need to know, from a tokenizer of transformers.

    Text is cut at the control tokens that the template writes, and what is between them goes to the tokenizer piece by
    piece, as the engine does it: so what users wrote never becomes a control token here either.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
        """Wraps a tokenizer.

        Args:
            tokenizer: The tokenizer.
            path: What it was loaded from, for messages.
        """
        self._tokenizer: Any = tokenizer
        self.path = path

    @cached_property
    def control_tokens(self) -> Mapping[str, int]:
        """Control tokens by their text."""
        added = self._tokenizer.added_tokens_decoder
        return {str(token): index for index, token in added.items() if token.special}

    @property
    def chat_template(self) -> str | None:
        """The jinja text of the chat template.

        Raises:
            TrainingError: There are several.
        """
        template = self._tokenizer.chat_template
        if isinstance(template, dict):
            if "default" not in template:
                raise TrainingError(
                    f"{self.path} has the chat templates {', '.join(template)}, expected one, or one called 'default'"
                )
            template = template["default"]
        return None if template is None else str(template)

    @property
    def bos(self) -> int | None:
        """The token that begins a text."""
        return self._number("bos_token_id")

    @property
    def eos(self) -> int | None:
        """The token that ends a text."""
        return self._number("eos_token_id")

    @property
    def n_vocab(self) -> int:
        """Tokens in the vocabulary."""
        return len(self._tokenizer)

    def tokenize(self, text: str, *, parse_special: bool = False, add_special: bool = False) -> list[int]:
        """Text to tokens."""
        encoded = self._tokenizer.encode(text, add_special_tokens=add_special, split_special_tokens=not parse_special)
        return [int(token) for token in encoded]

    def detokenize(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """Tokens to text."""
        text = self._tokenizer.decode(list(tokens), skip_special_tokens=not special, clean_up_tokenization_spaces=False)
        return str(text)

    def _number(self, name: str) -> int | None:
        value = getattr(self._tokenizer, name)
        return None if value is None else int(value)
