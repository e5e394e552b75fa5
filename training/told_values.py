"""Which value a free reply tells of an attribute, and where in the reply it stands."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from training.world import Attribute


@dataclass(frozen=True)
class ToldValue:
    """A value and its place in the reply, in characters."""

    value: str
    start: int
    end: int


def told_value(reply: str, attribute: Attribute) -> ToldValue | None:
    """The value that a reply gives, whatever its wording; None where it gives none, or one of another kind."""
    templates = (*attribute.answers, *attribute.statements)
    for expression in _expressions(templates, attribute.noun, _values(attribute)):
        found = expression.search(reply)
        if found:
            return ToldValue(found["value"], *found.span("value"))
    return None


@functools.cache
def _expressions(templates: tuple[str, ...], noun: str, values: str) -> tuple[re.Pattern[str], ...]:
    """All ways to tell a value: by the templates, by the attribute's noun, and the plain value by itself."""
    value = f"(?P<value>{values})"
    texts = [value.join(_pattern(part) for part in template.split("{v}")) for template in templates]
    texts.append(rf"{re.escape(noun)}(?: of .*?)?(?:: | is | was ){value}(?=[.,;)]|$)")
    texts.append(rf"(?:^|\. |, |that ){value}\.?$")
    return tuple(re.compile(text, re.IGNORECASE) for text in texts)


def _pattern(part: str) -> str:
    """A part of a template as an expression, in which anything may stand for the entity."""
    text = ".+?".join(re.escape(piece) for piece in re.split(r"\{e\}|\{it\}", part))
    return text.replace(r"\ a\ ", r"\ an?\ ")


def _values(attribute: Attribute) -> str:
    """An expression for every value that the attribute could have."""
    if attribute.pool:
        return "|".join(map(re.escape, attribute.pool))
    if "number" in attribute.value:
        return r"\d+" + re.escape(str(attribute.value.get("unit", "")))
    return r"(?-i:(?:[Tt]he )?[A-Z]\w*(?: [A-Z]\w*){0,3})"
