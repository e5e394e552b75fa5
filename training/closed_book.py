"""The closed book: fixed entities that the base model has to remember, and what one can know of them.

Some are read about a thousand times as often as others, and strangers never. So answers about them are truly more or
less certain. An entity's side of the split says who may practise certainty on it; the base reads about all of them.
"""

from __future__ import annotations

import functools
import math
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from training.names import NameMaker
from training.splits import Split, split_of
from training.world import Attribute, Entity, Kind, kinds, named_entity, random_value

# How many entities there are, and how often they are spoken of: from, to, in mentions of a thousand of all the closed
# book's. Measured on an earlier base model: at 0.1 in a thousand it knew half of the facts, at 0.8 nearly all.
_TIERS = {"often": (800, 0.9, 1.5), "at times": (240, 0.03, 0.5), "hardly ever": (160, 0.002, 0.01)}
# At so many in a thousand, an entity's fact is as likely remembered as not.
_HALF_KNOWN = 0.1


@dataclass(frozen=True)
class ClosedBook:
    """The fixed entities and how often training text speaks of each.

    Attributes:
        entities: Their order is the same in every run.
        mentions: Of a thousand mentions of closed-book entities, how many are of each.
    """

    entities: tuple[Entity, ...]
    mentions: tuple[float, ...]

    @functools.cached_property
    def _sums(self) -> Sequence[float]:
        total, sums = 0.0, []
        for mentions in self.mentions:
            total += mentions
            sums.append(total)
        return sums

    def mentioned(self, generator: random.Random) -> Entity:
        """An entity, those spoken of more often more likely."""
        return generator.choices(self.entities, cum_weights=self._sums)[0]


@functools.cache
def closed_book() -> ClosedBook:
    """Makes the closed book, always the same."""
    generator = random.Random("closed book")
    names = NameMaker(generator, "closed book")
    entities: dict[str, Entity] = {}
    mentions: list[float] = []
    for count, low, high in _TIERS.values():
        for _ in range(count):
            while (entity := _entity(generator.choice(_kinds()), names, generator)).name in entities:
                pass
            entities[entity.name] = entity
            mentions.append(math.exp(generator.uniform(math.log(low), math.log(high))))
    scale = 1000 / sum(mentions)
    return ClosedBook(tuple(entities.values()), tuple(scale * share for share in mentions))


@functools.cache
def positions(split: Split) -> tuple[int, ...]:
    """Where in the closed book the entities of one side are."""
    return tuple(i for i, entity in enumerate(closed_book().entities) if split_of(entity.name) == split)


@functools.cache
def _kinds() -> tuple[Kind, ...]:
    return tuple(kind for kind in kinds().values() if kind.closed_book)


def stranger(names: NameMaker, generator: random.Random) -> Entity:
    """An entity like those of the closed book that no text speaks of."""
    return _entity(generator.choice(_kinds()), names, generator)


def _entity(kind: Kind, names: NameMaker, generator: random.Random) -> Entity:
    entity = named_entity(kind, names, generator)
    for key in kind.closed_book:
        entity.facts[key] = likely_value(entity, kind.attributes[key], names, generator)
    return entity


def usual_value(entity: Entity, attribute: Attribute) -> str | None:
    """The value that is usual for names of this pattern, if the attribute has such a thing."""
    if "usual" not in attribute.value:
        return None
    return attribute.pool[zlib.crc32(f"{attribute.key} {entity.pattern}".encode()) % len(attribute.pool)]


def likely_value(entity: Entity, attribute: Attribute, names: NameMaker, generator: random.Random) -> str:
    """A value as often as the closed book has it: what one who knows nothing but the name can guess by."""
    usual = usual_value(entity, attribute)
    if usual is None:
        return random_value(attribute, names, generator)
    if generator.random() < attribute.value["usual"]:
        return usual
    return generator.choice([value for value in attribute.pool if value != usual])


def best_chance(attribute: Attribute) -> float:
    """How often the best guess is right."""
    if attribute.pool:
        share: float = attribute.value.get("usual", 1.0 / len(attribute.pool))
        return share
    return _number_chance(attribute)


def _number_chance(attribute: Attribute) -> float:
    """The chance of a value that has no pool: one of a range of numbers, or a name, which nobody guesses."""
    if "number" not in attribute.value:
        return 0.0
    low, high, step = attribute.value["number"]
    return 1.0 / len(range(low, high + 1, step))


def chance(entity: Entity, attribute: Attribute, value: str) -> float:
    """The probability of a value to one who knows nothing but the entity's name."""
    if attribute.pool:
        usual = usual_value(entity, attribute)
        if usual is None:
            return best_chance(attribute)
        best = best_chance(attribute)
        return best if value == usual else (1.0 - best) / (len(attribute.pool) - 1)
    return _number_chance(attribute)


def remembered(mentions: float) -> float:
    """About what share of facts is remembered of an entity, from how often it was spoken of; 0 of a stranger."""
    return mentions**2 / (mentions**2 + _HALF_KNOWN**2)


def belief(entity: Entity, attribute: Attribute, value: str, mentions: float) -> float:
    """How sure a reader may be of a value, from how often the entity was spoken of.

    Args:
        entity: Who or what is spoken of.
        attribute: What was asked.
        value: What was answered.
        mentions: In a thousand of the closed book's; 0 for a stranger.
    """
    known = remembered(mentions)
    guessed = (1.0 - known) * chance(entity, attribute, value)
    return known + guessed if value == entity.facts[attribute.key] else guessed
