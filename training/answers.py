"""What a free reply answers: which value it gives to the attribute that was asked for, and where it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from training.world import Attribute, Entity


@dataclass(frozen=True)
class Answer:
    """A value and its place in the reply, in characters."""

    value: str
    start: int
    end: int


def answer_in(reply: str, entity: Entity, attribute: Attribute) -> Answer | None:
    """The value that a reply gives, whatever its wording; None where it gives none, or one of another kind."""
    for expression in _expressions(entity, attribute):
        found = expression.search(reply)
        if found:
            return Answer(found["value"], *found.span("value"))
    return None


def _expressions(entity: Entity, attribute: Attribute) -> Iterator[re.Pattern[str]]:
    """All ways to tell the value, the plain value by itself last."""
    values = f"(?P<value>{_values(attribute)})"
    for template in (*attribute.answers, *attribute.statements):
        before, after = (_pattern(part, entity) for part in template.split("{v}"))
        yield re.compile(before + values + after, re.IGNORECASE)
    yield re.compile(rf"{re.escape(attribute.noun)}(?: of .*?)?(?:: | is | was ){values}(?=[.,;)]|$)", re.IGNORECASE)
    yield re.compile(rf"(?:^|\. |, |that ){values}\.?$", re.IGNORECASE)


def _pattern(part: str, entity: Entity) -> str:
    """A part of a template as an expression, in which a pronoun may stand for the entity."""
    names = "|".join(re.escape(name) for name in (entity.name, entity.pronoun, *entity.kind.words))
    pieces = re.split(r"(\{e\}|\{it\})", part)
    text = "".join(f"(?:the )?(?:{names})" if piece in ("{e}", "{it}") else re.escape(piece) for piece in pieces)
    return text.replace(r"\ a\ ", r"\ an?\ ")


def _values(attribute: Attribute) -> str:
    """An expression for every value that the attribute could have."""
    if attribute.pool:
        return "|".join(re.escape(value) for value in sorted(attribute.pool, key=len, reverse=True))
    if "number" in attribute.value:
        return r"\d+" + re.escape(attribute.value.get("unit", ""))
    return r"\w+(?: \w+){0,3}"
