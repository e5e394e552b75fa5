"""The token sequences with which a model can write a label in the midst of JSON.

A label is written where the text goes on with it and with the character that ends it: a comma, or the closing bracket.
The token of that character may hold the label's own last characters, and more of what follows: `"},`. So a label is
written by each sequence that goes along with the tokenizer's own and then takes any token that holds all the rest.
These exclude one another, and no other rows need computing than those of the tokenizer's sequence.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from alora_cpp.constraint.vocabulary import vocabulary_of
from alora_cpp.io import Literal, Scalar

if TYPE_CHECKING:
    from alora_cpp.constraint import Matcher
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
            text = (label_text + end).encode()
            tokens = self._model.tokenize(label_text + end)
            if b"".join(self._vocabulary.pieces[token] for token in tokens) != text:
                # The tokenizer writes texts in a way of its own, such as with a space before them.
                ways[tuple(tokens)] = None
            elif end:
                for path in (tokens, self._model.tokenize(label_text)):
                    ways |= dict.fromkeys(self._covering(text, path))
            elif all(map(partial(_accepts, self._matcher()), tokens)):
                ways[tuple(tokens)] = None
        return [*ways]

    def _ends(self, literal: Literal) -> list[str]:
        """What may follow the literal: the white space that follows it now, and a comma or closing bracket."""
        if not literal.path:
            return [""]
        rest = self._text[literal.end :]
        space = rest[: len(rest) - len(rest.lstrip(_SPACE))]
        return [space + ",", space + ("}" if isinstance(literal.path[-1], str) else "]")]

    def _covering(self, text: bytes, path: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """Sequences that leave a path of tokens with one that holds all the rest of a text."""
        matcher = self._matcher()
        for index in range(len(path) + 1):
            for token in self._vocabulary.beginning_with(text):
                if matcher is None or matcher.allows(token):
                    yield (*path[:index], token)
            piece = self._vocabulary.pieces[path[index]] if index < len(path) else b""
            goes_on = b"" != piece != text and text.startswith(piece)
            if not goes_on or not _accepts(matcher, path[index]):
                return
            text = text[len(piece) :]

    def _matcher(self) -> Matcher | None:
        return None if self._constraint is None else self._constraint.start()


def _accepts(matcher: Matcher | None, token: int) -> bool:
    if matcher is None:
        return True
    allowed = matcher.allows(token)
    if allowed:
        matcher.accept(token)
    return allowed


def spelled(label: Scalar) -> str:
    """A label as an answer has it, in JSON."""
    return json.dumps(label, ensure_ascii=False)
