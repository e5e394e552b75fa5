"""The invented world: entities with facts, and the sentences that speak of them.

There are two sorts of entities. Those of the closed book (`closed_book.py`) are fixed, and the base model has to
remember them. Those of documents are made afresh for every document: only reading helps.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from training.names import NameMaker

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Attribute:
    """One thing that can be known of an entity, and how people ask and tell it."""

    key: str
    noun: str
    value: dict[str, Any]
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    answers: tuple[str, ...]

    def wordings(self, what: str, held_out: bool) -> Sequence[str]:
        """The `questions` or `answers` that training may use, or the held-out ones."""
        texts: tuple[str, ...] = getattr(self, what)
        return texts[-1:] if held_out else texts[:-1]

    @property
    def pool(self) -> Sequence[str]:
        """All values, where there is a choice of a few; else none."""
        return load_yaml("world.yaml")["pools"][self.value["choice"]] if "choice" in self.value else ()

    @property
    def value_kind(self) -> str:
        """Values of the same kind can be mistaken for one another."""
        (form, detail), *_ = self.value.items()
        return f"{form}:{self.value.get('unit', '')}" if form == "number" else f"{form}:{detail}"


@dataclass(frozen=True)
class Kind:
    """A kind of entity: what its names look like and which attributes it has.

    Attributes:
        closed_book: The keys of the attributes that the closed book speaks of; none where it has no such entities.
    """

    key: str
    names: tuple[str, ...]
    words: tuple[str, ...]
    attributes: dict[str, Attribute]
    closed_book: tuple[str, ...] = ()


@dataclass
class Entity:
    """Something with a name and facts.

    Attributes:
        pattern: Which of its kind's patterns the name was made from.
        facts: The value of every attribute, by key.
    """

    kind: Kind
    name: str
    pronoun: str
    pattern: str
    facts: dict[str, str] = field(default_factory=dict)


@functools.cache
def load_yaml(name: str) -> Any:
    """A file of this folder, read once."""
    return yaml.safe_load((_FOLDER / name).read_text(encoding="utf-8"))


@functools.cache
def kinds() -> dict[str, Kind]:
    """All kinds of entities, by key."""
    found = {}
    for key, raw in load_yaml("world.yaml")["kinds"].items():
        attributes = {
            name: Attribute(
                key=name,
                noun=a["noun"],
                value=a["value"],
                statements=tuple(a["statements"]),
                questions=tuple(a["questions"]),
                answers=tuple(a["answers"]),
            )
            for name, a in raw["attributes"].items()
        }
        found[key] = Kind(key, tuple(raw["names"]), tuple(raw["words"]), attributes, tuple(raw.get("closed_book", ())))
    return found


def random_value(attribute: Attribute, names: NameMaker, generator: random.Random) -> str:
    """A value that the attribute could have."""
    spec = attribute.value
    if "number" in spec:
        low, high, step = spec["number"]
        return f"{generator.randrange(low, high + 1, step)}{spec.get('unit', '')}"
    if "choice" in spec:
        return generator.choice(attribute.pool)
    return names.of_kind(spec["name"])


def other_value(attribute: Attribute, value: str, names: NameMaker, generator: random.Random) -> str:
    """A value that the attribute could have, but has not."""
    while True:
        other = random_value(attribute, names, generator)
        if other != value:
            # A number close by is the harder mistake to see, so half of all mistakes are of that sort.
            if "number" in attribute.value and generator.random() < 0.5:
                return _nearby(attribute, value, generator)
            return other


def _nearby(attribute: Attribute, value: str, generator: random.Random) -> str:
    """A number that differs from `value` a little, in the attribute's own steps."""
    step, unit = attribute.value["number"][2], attribute.value.get("unit", "")
    number = int(value.removesuffix(unit))
    distance = generator.choice((1, 2, 3, 5, 10, 20)) * step
    return f"{number - distance if number > distance and generator.random() < 0.5 else number + distance}{unit}"


def named_entity(kind: Kind, names: NameMaker, generator: random.Random) -> Entity:
    """A new entity of which nothing is known yet but its name."""
    pronoun = generator.choice(("he", "she")) if kind.key == "person" else "it"
    pattern = generator.choice(kind.names)
    name = names.person(pronoun) if pattern == "{P}" else pattern.replace("{N}", names.word())
    return Entity(kind, name, pronoun, pattern)


def make_entity(kind: Kind, names: NameMaker, generator: random.Random) -> Entity:
    """A new entity with a value for every attribute."""
    entity = named_entity(kind, names, generator)
    for attribute in kind.attributes.values():
        entity.facts[attribute.key] = random_value(attribute, names, generator)
    return entity


def fill(template: str, entity: Entity, value: str = "", name: str | None = None) -> str:
    """A sentence from a template; `name` stands in for the entity's own name, a pronoun for instance."""
    if value and value[0].lower() in "aeiou":
        template = template.replace(" a {v}", " an {v}")
    text = template.replace("{e}", name or entity.name).replace("{v}", value).replace("{it}", entity.pronoun)
    return text[0].upper() + text[1:]
