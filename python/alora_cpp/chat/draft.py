"""What was written of a reply: its tokens, the text that they show, and where both agree."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alora_cpp.model import Model

_NO_CHARACTER = "\ufffd"


class Draft:
    """A reply on its way.

    Its text lags behind its tokens where these end within a character, or could begin a stop string.

    Attributes:
        tokens: All tokens so far.
        text: What they show, as far as it is certain.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self.tokens: list[int] = []
        self.text = ""
        # Numbers of tokens and of characters that stand for one another.
        self._agreed = [(0, 0)]

    def write(self, tokens: Sequence[int], text: str) -> None:
        """Adds tokens, and text that became certain with them."""
        self.tokens += tokens
        self.text += text
        n_tokens, n_characters = self._agreed[-1]
        if _alike(self._model.detokenize(self.tokens[n_tokens:]), self.text[n_characters:]):
            self._agreed.append((len(self.tokens), len(self.text)))

    def flush(self) -> str:
        """Shows what was held back.

        Returns:
            The text that was added.
        """
        n_tokens, n_characters = self._agreed[-1]
        held = self._model.detokenize(self.tokens[n_tokens:])[len(self.text) - n_characters :]
        self.write([], held)
        return held

    @property
    def agrees(self) -> bool:
        """Whether the text shows all tokens, and no more."""
        return self._agreed[-1] == (len(self.tokens), len(self.text))

    @property
    def agreed_tokens(self) -> list[int]:
        """The tokens, where the text shows all of them; else none."""
        return self.tokens if self.agrees else []

    def until(self, end: int) -> tuple[list[int], str]:
        """The tokens and the text that reach a character and agree; all text and no tokens where there are none."""
        found = bisect_left(self._agreed, end, key=lambda numbers: numbers[1])
        if found == len(self._agreed):
            return [], self.text
        n_tokens, n_characters = self._agreed[found]
        return self.tokens[:n_tokens], self.text[:n_characters]


def _alike(left: str, right: str) -> bool:
    """Whether texts are the same; bytes that are no characters may be shown by different numbers of U+FFFD."""
    if left == right:
        return True
    return _NO_CHARACTER in right and left.replace(_NO_CHARACTER, "") == right.replace(_NO_CHARACTER, "")
