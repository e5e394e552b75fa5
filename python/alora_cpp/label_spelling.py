"""The token sequences with which a model can write a label in the midst of JSON.

A label is written where the text goes on with it and with the character that ends it: a comma, or the closing bracket.
Where does a token sequence that writes it end? In that character's token, which may hold more of what follows (`"}` or
`"},`). So a label is written by each sequence that goes along with the tokenizer's own and ends with whatever token
holds the rest. These exclude one another, and no other tokens need computing than the tokenizer's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from alora_cpp.errors import AnswerError
from alora_cpp.io import Literal, Scalar
from alora_cpp.vocabulary import vocabulary_of

if TYPE_CHECKING:
    from alora_cpp.intrinsic import Constraint
    from alora_cpp.model import Model

_SPACE = " \t\n\r"


class LabelSpelling:
    """The ways to write labels in places of an answer."""

    def __init__(self, model: Model, text: str, constraint: Constraint | None = None) -> None:
        """Takes an answer.

        Args:
            model: Whose tokens.
            text: The answer.
            constraint: What the answer was held to; labels that it does not allow have no way to be written.
        """
        self._model = model
        self._vocabulary = vocabulary_of(model)
        self._text = text
        self._constraint = constraint

    def ways(self, literal: Literal, label: Scalar) -> list[tuple[int, ...]]:
        """Token sequences from the answer's beginning to the token in which the label ends.

        Args:
            literal: The place.
            label: What is to be written there.

        Returns:
            Sequences that differ, of which none begins another; the label's own where it ends the answer.
        """
        label_text = self._text[: literal.begin] + spelled(label)
        ways: dict[tuple[int, ...], None] = {}
        for end in self._ends(literal):
            tokens = self._model.tokenize(label_text + end)
            if self._allows(tokens):
                own = [tokens, self._model.tokenize(label_text)] if end else []
                covering = dict.fromkeys(
                    way for path in own for way in self._covering((label_text + end).encode(), path)
                )
                ways |= covering or {tuple(tokens): None}
        return [*ways]

    def _ends(self, literal: Literal) -> list[str]:
        """What may follow the literal: the white space that follows it now, and a comma or closing bracket."""
        if not literal.path:
            return [""]
        rest = self._text[literal.end :]
        space = rest[: len(rest) - len(rest.lstrip(_SPACE))]
        return [space + ",", space + ("}" if isinstance(literal.path[-1], str) else "]")]

    def _allows(self, tokens: list[int]) -> bool:
        if self._constraint is None:
            return True
        matcher = self._constraint.start()
        try:
            for token in tokens:
                matcher.accept(token)
        except AnswerError:
            return False
        return True

    def _covering(self, text: bytes, path: list[int]) -> Iterator[tuple[int, ...]]:
        """Sequences that leave a path of tokens with one that holds all the rest of a text."""
        for index in range(len(path) + 1):
            for token in self._vocabulary.beginning_with(text):
                yield (*path[:index], token)
            piece = self._vocabulary.pieces[path[index]] if index < len(path) else b""
            if not piece or piece == text or not text.startswith(piece):
                return
            text = text[len(piece) :]


def spelled(label: Scalar) -> str:
    """A label as an answer has it, in JSON."""
    return json.dumps(label, ensure_ascii=False)
