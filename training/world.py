"""The invented world: entities with facts, and the sentences that speak of them.

There are two sorts of entities. Those of the closed book are fixed: the base model reads about them in its
training text, about some a thousand times and about others never, so that its answers about them are truly
more or less certain. Those of documents are made afresh for every document: only reading helps.
"""

from __future__ import annotations

import functools
import math
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
    def value_kind(self) -> str:
        """Values of the same kind can be mistaken for one another."""
        (form, detail), *_ = self.value.items()
        return f"{form}:{self.value.get('unit', '')}" if form == "number" else f"{form}:{detail}"


@dataclass(frozen=True)
class Kind:
    """A kind of entity: what its names look like and which attributes it has."""

    key: str
    names: tuple[str, ...]
    words: tuple[str, ...]
    attributes: dict[str, Attribute]
    closed_book: bool = False


@dataclass
class Entity:
    """Something with a name and facts."""

    kind: Kind
    name: str
    pronoun: str
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
        found[key] = Kind(key, tuple(raw["names"]), tuple(raw["words"]), attributes, raw.get("closed_book", False))
    return found


def random_value(attribute: Attribute, names: NameMaker, generator: random.Random) -> str:
    """A value that the attribute could have."""
    spec = attribute.value
    if "number" in spec:
        low, high, step = spec["number"]
        return f"{generator.randrange(low, high + 1, step)}{spec.get('unit', '')}"
    if "choice" in spec:
        return str(generator.choice(load_yaml("world.yaml")["pools"][spec["choice"]]))
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


def make_entity(kind: Kind, names: NameMaker, generator: random.Random) -> Entity:
    """A new entity with a value for every attribute."""
    pronoun = generator.choice(("he", "she")) if kind.key == "person" else "it"
    pattern = generator.choice(kind.names)
    name = names.person(pronoun) if pattern == "{P}" else pattern.replace("{N}", names.word())
    entity = Entity(kind, name, pronoun)
    for attribute in kind.attributes.values():
        entity.facts[attribute.key] = random_value(attribute, names, generator)
    return entity


def fill(template: str, entity: Entity, value: str = "", name: str | None = None) -> str:
    """A sentence from a template; `name` stands in for the entity's own name, a pronoun for instance."""
    if value and value[0].lower() in "aeiou":
        template = template.replace(" a {v}", " an {v}")
    text = template.replace("{e}", name or entity.name).replace("{v}", value).replace("{it}", entity.pronoun)
    return text[0].upper() + text[1:]


@dataclass(frozen=True)
class ClosedBook:
    """The fixed entities and how often training text speaks of each."""

    entities: tuple[Entity, ...]
    weights: tuple[float, ...]

    @staticmethod
    def is_held_out(index: int) -> bool:
        """Whether the certainty intrinsic must not train on this entity; one in five is kept back."""
        return index % 5 == 0


@functools.cache
def closed_book(seed: int = 1, size: int = 2400, spread: float = 3000.0) -> ClosedBook:
    """Makes the closed book.

    Args:
        seed: The world's seed.
        size: How many entities there are.
        spread: How much more often the most frequent entity is spoken of than the rarest.
    """
    generator = random.Random(f"closed book {seed}")
    names = NameMaker(generator)
    open_kinds = [kind for kind in kinds().values() if kind.closed_book]
    entities: dict[str, Entity] = {}
    while len(entities) < size:
        entity = make_entity(open_kinds[len(entities) % len(open_kinds)], names, generator)
        entities.setdefault(entity.name, entity)
    weights = [math.exp(generator.uniform(0.0, math.log(spread))) for _ in entities]
    # One entity in ten is never spoken of: about it, the model can do nothing but guess.
    weights = [0.0 if generator.random() < 0.1 else weight for weight in weights]
    return ClosedBook(tuple(entities.values()), tuple(weights))
