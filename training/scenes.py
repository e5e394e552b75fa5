"""Scenes: documents about fresh entities, and the replies, right or wrong, that one can give about them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from training.chat_format import Document
from training.names import NameMaker
from training.world import (
    Attribute,
    Entity,
    fill,
    kinds,
    load_yaml,
    make_entity,
    other_value,
    random_value,
)

NOT_STATED = (
    "The documents do not say that.",
    "I could not find that in the documents.",
    "That is not in the documents.",
    "The documents do not mention it.",
)
PREFIXES = ("According to the documents, ", "The document says that ", "As far as I can read, ", "Yes. ", "Sure. ")


@dataclass(frozen=True)
class Claim:
    """That an attribute of an entity has a value."""

    entity: Entity
    attribute: Attribute
    value: str

    @property
    def is_true(self) -> bool:
        """Whether the entity's facts say so."""
        return self.entity.facts[self.attribute.key] == self.value


@dataclass
class Scene:
    """Documents about entities. They are rendered from the entities' facts, so a changed fact changes them.

    Attributes:
        entities: What the documents are about, one document each.
        stated: For every entity, the keys of the attributes that its document states.
    """

    entities: list[Entity]
    stated: list[list[str]]
    titled: list[bool]
    lines: list[list[tuple[str, str]]]
    as_list: list[bool]

    def documents(self) -> list[Document]:
        """The documents as the facts now are."""
        return [self._document(i) for i in range(len(self.entities))]

    def _document(self, index: int) -> Document:
        entity = self.entities[index]
        title = entity.name[0].upper() + entity.name[1:] if self.titled[index] else ""
        if self.as_list[index]:
            rows = [f"{entity.kind.attributes[key].noun}: {entity.facts[key]}" for key in self.stated[index]]
            return Document(title or entity.name, "\n".join(rows))
        sentences = []
        for position, (key, template) in enumerate(self.lines[index]):
            if not key:
                sentences.append(template)
                continue
            # Pronouns are safe only where the entity is the subject, at the start.
            late = position > 0 and template.startswith("{e}")
            stand_in = (entity.pronoun, f"the {entity.kind.words[0]}")[(position + len(key)) % 2]
            name = stand_in if late and (position * 7 + len(key)) % 3 == 0 else None
            sentences.append(fill(template, entity, entity.facts[key], name))
        return Document(title, " ".join(sentences))


def make_scene(names: NameMaker, generator: random.Random, documents: int | None = None) -> Scene:
    """A scene of one to five documents; a third of them about entities of the same kind, to be confused."""
    count = documents or generator.choices((1, 2, 3, 4, 6), (45, 25, 15, 10, 5))[0]
    all_kinds = list(kinds().values())
    kind = generator.choice(all_kinds)
    scene = Scene([], [], [], [], [])
    fillers = load_yaml("world.yaml")["fillers"]
    for _ in range(count):
        entity = make_entity(kind, names, generator)
        keys = generator.sample(list(kind.attributes), generator.randint(2, len(kind.attributes)))
        lines: list[tuple[str, str]] = []
        for key in keys:
            if generator.random() < 0.15:
                lines.append(("", generator.choice(fillers)))
            lines.append((key, generator.choice(kind.attributes[key].statements)))
        scene.entities.append(entity)
        scene.stated.append(keys)
        scene.lines.append(lines)
        scene.titled.append(generator.random() < 0.7)
        scene.as_list.append(generator.random() < 0.12)
        if generator.random() < 0.6:
            kind = generator.choice(all_kinds)
    return scene


def true_claim(scene: Scene, index: int, key: str) -> Claim:
    """What document `index` says of its entity's attribute."""
    entity = scene.entities[index]
    return Claim(entity, entity.kind.attributes[key], entity.facts[key])


def false_claim(scene: Scene, claim: Claim, names: NameMaker, generator: random.Random) -> Claim:
    """The claim with a wrong value: made up, or, which is harder to see, found elsewhere in the documents."""
    elsewhere = [
        entity.facts[key]
        for entity, keys in zip(scene.entities, scene.stated, strict=True)
        for key in keys
        if entity.kind.attributes[key].value_kind == claim.attribute.value_kind
    ]
    elsewhere = [value for value in elsewhere if value != claim.value]
    if elsewhere and generator.random() < 0.5:
        return Claim(claim.entity, claim.attribute, generator.choice(elsewhere))
    value = other_value(claim.attribute, claim.value, names, generator)
    return Claim(claim.entity, claim.attribute, value)


def unstated_claim(scene: Scene, index: int, names: NameMaker, generator: random.Random) -> Claim | None:
    """A claim about an attribute that the document says nothing of, if there is one."""
    entity = scene.entities[index]
    missing = [key for key in entity.kind.attributes if key not in scene.stated[index]]
    if not missing:
        return None
    attribute = entity.kind.attributes[generator.choice(missing)]
    return Claim(entity, attribute, random_value(attribute, names, generator))


def question_text(
    entity: Entity, attribute: Attribute, generator: random.Random, held_out: bool, pronoun: bool = False
) -> str:
    """A question for an attribute, now and then typed carelessly."""
    template = generator.choice(attribute.wordings("questions", held_out))
    text = fill(template, entity, name=entity.pronoun if pronoun else None)
    if generator.random() < 0.1:
        text = text.lower().rstrip("?")
    elif generator.random() < 0.08:
        start = generator.choice(("Can you tell me: ", "Please tell me. ", "I have a question. ", "Hello! "))
        text = start + text
    return text


def claim_text(claim: Claim, generator: random.Random, held_out: bool) -> str:
    """One claim as an answer."""
    roll = generator.random()
    if roll < 0.2 and not held_out:
        return f"{claim.value[0].upper()}{claim.value[1:]}."
    if roll < 0.35 and not held_out:
        template = generator.choice(claim.attribute.statements)
    else:
        template = generator.choice(claim.attribute.wordings("answers", held_out))
    return fill(template, claim.entity, claim.value)


def reply_text(claims: list[Claim], generator: random.Random, held_out: bool = False) -> str:
    """A reply that makes all the claims."""
    text = " ".join(claim_text(claim, generator, held_out) for claim in claims)
    if generator.random() < 0.12:
        prefix = generator.choice(PREFIXES)
        if not prefix.endswith(". ") and text.split()[0] in ("It", "The", "He", "She", "A", "About", "You", "People"):
            text = text[0].lower() + text[1:]
        text = prefix + text
    return text
