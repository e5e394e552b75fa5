"""Scenes: documents about fresh entities, and what can be said and asked about them."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from training.chat_format import Document
from training.names import COMPANY_WORDS, NameMaker
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
_GENERIC_STATEMENTS = (
    "The {noun} of {e} is {v}.",
    "As for {e}, the {noun} is {v}.",
    "{e} ({noun}: {v}) is well known.",
)
# A question for the first attribute can be answered, more or less, from the second: it is not asked as unanswered.
_NEARLY_SAID = {"region": "river", "closed": "opening", "month": "since", "street": "town"}
_NOTHING_THERE = "-"
# Made-up names of these sorts can be nearly right; a title is made of common words.
_NEAR_NAMED = ("person", "town", "river", "company")
_OBJECT_PRONOUNS = {"he": "him", "she": "her", "it": "it"}
_AFTER_PREPOSITION = re.compile(r"\b(?:of|to|for|from|by|with|at|in|on|about|called|call) \{e\}")

Layout = Literal["prose", "list", "table"]


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


@dataclass(frozen=True)
class Line:
    """A sentence of a document: statements about attributes, joined; or, without any, something beside the point."""

    parts: tuple[tuple[str, str], ...]
    filler: str = ""


@dataclass(frozen=True)
class Page:
    """How a document looks: the entities it is about (several only in a table) and its sentences."""

    indices: tuple[int, ...]
    layout: Layout
    title: str
    lines: tuple[Line, ...] = ()


@dataclass
class Scene:
    """Documents about entities. They are rendered from the entities' facts, so a changed fact changes them.

    Attributes:
        entities: What the documents are about.
        stated: For every entity, the keys of the attributes that its document states.
        pages: The documents' looks.
    """

    entities: list[Entity]
    stated: list[list[str]]
    pages: list[Page]

    def documents(self, hidden: tuple[int, str] | None = None) -> list[Document]:
        """The documents as the facts now are; what is `hidden`, an attribute of an entity, is left out."""
        return [self._document(page, hidden) for page in self.pages]

    def _document(self, page: Page, hidden: tuple[int, str] | None) -> Document:
        if page.layout == "table":
            return Document(page.title, self._table(page.indices, hidden))
        (index,) = page.indices
        entity = self.entities[index]
        if page.layout == "list":
            keys = [key for key in self.stated[index] if (index, key) != hidden]
            rows = [f"{entity.kind.attributes[key].noun}: {entity.facts[key]}" for key in keys]
            return Document(page.title or _capital(entity.name), "\n".join(rows))
        sentences = []
        named = False
        for position, line in enumerate(page.lines):
            parts = [(key, template) for key, template in line.parts if (index, key) != hidden]
            if parts:
                sentences.append(_sentence(entity, parts, position, named))
                named = True
            elif line.filler:
                sentences.append(line.filler)
        return Document(page.title, " ".join(sentences))

    def _table(self, indices: Sequence[int], hidden: tuple[int, str] | None) -> str:
        attributes = self.entities[indices[0]].kind.attributes
        keys = self.stated[indices[0]]
        rows = [["name", *(attributes[key].noun for key in keys)]]
        for index in indices:
            facts = self.entities[index].facts
            cells = [_NOTHING_THERE if (index, key) == hidden else facts[key] for key in keys]
            rows.append([self.entities[index].name, *cells])
        return "\n".join(" | ".join(row) for row in rows)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _sentence(entity: Entity, parts: list[tuple[str, str]], position: int, named: bool) -> str:
    """Statements joined to one sentence. Pronouns are safe only where the entity is the subject, at the start."""
    texts = []
    for place, (key, template) in enumerate(parts):
        stand_in = (entity.pronoun, f"the {entity.kind.words[0]}")[(position + len(key)) % 2]
        replaced = template.startswith("{e}") and (place > 0 or (named and (position * 7 + len(key)) % 3 == 0))
        name = stand_in if replaced else entity.name
        text = fill(template, entity, entity.facts[key], name)
        if place > 0:
            text = _inner(text, template, name, entity.facts[key])
        texts.append(text if place == len(parts) - 1 else text.removesuffix("."))
    return ", and ".join(texts)


def _inner(text: str, template: str, name: str, value: str) -> str:
    """The sentence as it is written after another: only names keep their capital."""
    start = name if template.startswith("{e}") else value if template.startswith("{v}") else template.lower()
    return start[0] + text[1:]


def make_scene(names: NameMaker, generator: random.Random, documents: int | None = None) -> Scene:
    """A scene of one to six documents, many of them about entities of the same kind, to be confused."""
    count = documents or generator.choices((1, 2, 3, 4, 6), (45, 25, 15, 10, 5))[0]
    all_kinds = list(kinds().values())
    kind = generator.choice(all_kinds)
    scene = Scene([], [], [])
    if documents is None and generator.random() < 0.1:
        _add_table(scene, kind.key, names, generator)
        return scene
    for _ in range(count):
        entity = _like(scene.entities, names, generator) or make_entity(kind, names, generator)
        keys = generator.sample(list(entity.kind.attributes), generator.randint(2, len(entity.kind.attributes)))
        title = _capital(entity.name) if generator.random() < 0.7 else ""
        layout: Layout = "list" if generator.random() < 0.12 else "prose"
        page = Page((len(scene.entities),), layout, title, _lines(entity, keys, names, generator))
        scene.pages.append(page)
        scene.entities.append(entity)
        scene.stated.append(keys)
        if generator.random() < 0.6:
            kind = generator.choice(all_kinds)
    return scene


def _like(entities: list[Entity], names: NameMaker, generator: random.Random) -> Entity | None:
    """Now and then, an entity whose name is nearly that of another."""
    if not entities or generator.random() > 0.15:
        return None
    model = generator.choice(entities)
    entity = make_entity(model.kind, names, generator)
    entity.name, entity.pronoun = near_name(model.name, names, generator), model.pronoun
    return entity


def near_name(name: str, names: NameMaker, generator: random.Random) -> str:
    """Another name that shares all but one word with this one, or, where there is but one word, letters."""
    words = name.split()
    made_up = [i for i, word in enumerate(words) if word[0].isupper() and word not in _common_name_words()]
    place = generator.choice(made_up or [len(words) - 1])
    if len(made_up) > 1 and place == made_up[0]:  # only people have two names
        words[place] = names.person().split()[0]
    elif len(words) == 1 and len(name) > 5:
        words[place] = words[place][:3] + names.word()[2:].lower()
    else:
        words[place] = names.word()
    near = " ".join(words)
    return near if near != name else near_name(name, names, generator)


@functools.cache
def _common_name_words() -> frozenset[str]:
    """The words of names that say what sort of thing is named."""
    patterns = (pattern for kind in kinds().values() for pattern in kind.names)
    return frozenset(word for pattern in patterns for word in pattern.split()) | set(COMPANY_WORDS)


def _add_table(scene: Scene, kind_key: str, names: NameMaker, generator: random.Random) -> None:
    kind = kinds()[kind_key]
    keys = generator.sample(list(kind.attributes), generator.randint(2, min(4, len(kind.attributes))))
    count = generator.randint(3, 5)
    scene.pages.append(Page(tuple(range(count)), "table", generator.choice(("", _capital(f"list: {kind.words[0]}")))))
    for _ in range(count):
        scene.entities.append(make_entity(kind, names, generator))
        scene.stated.append(keys)


def _lines(entity: Entity, keys: list[str], names: NameMaker, generator: random.Random) -> tuple[Line, ...]:
    """The sentences of a document: now and then two facts in one, and sentences beside the point between them."""
    lines: list[Line] = []
    position = 0
    while position < len(keys):
        if generator.random() < 0.15:
            lines.append(Line((), generator.choice(load_yaml("world.yaml")["fillers"])))
        taken = 2 if generator.random() < 0.25 else 1
        chosen = keys[position : position + taken]
        lines.append(Line(tuple((key, _statement(entity.kind.attributes[key], generator)) for key in chosen)))
        position += taken
    return tuple(lines)


def _statement(attribute: Attribute, generator: random.Random) -> str:
    if generator.random() < 0.12:
        return generator.choice(_GENERIC_STATEMENTS).replace("{noun}", attribute.noun)
    return generator.choice(attribute.statements)


def true_claim(scene: Scene, index: int, key: str) -> Claim:
    """What the documents say of an entity's attribute."""
    entity = scene.entities[index]
    return Claim(entity, entity.kind.attributes[key], entity.facts[key])


def false_claim(scene: Scene, claim: Claim, names: NameMaker, generator: random.Random) -> Claim:
    """The claim with a wrong value: made up, nearly right, or, which is harder to see, found in the documents."""
    elsewhere = [
        entity.facts[key]
        for entity, keys in zip(scene.entities, scene.stated, strict=True)
        for key in keys
        if entity.kind.attributes[key].value_kind == claim.attribute.value_kind
    ]
    elsewhere = [value for value in elsewhere if value != claim.value]
    if elsewhere and generator.random() < 0.5:
        return Claim(claim.entity, claim.attribute, generator.choice(elsewhere))
    if claim.attribute.value.get("name") in _NEAR_NAMED and generator.random() < 0.3:
        return Claim(claim.entity, claim.attribute, near_name(claim.value, names, generator))
    value = other_value(claim.attribute, claim.value, names, generator)
    return Claim(claim.entity, claim.attribute, value)


def unstated_keys(scene: Scene, index: int) -> list[str]:
    """The attributes of an entity that the documents say nothing of, and nothing near."""
    stated = scene.stated[index]
    attributes = scene.entities[index].kind.attributes
    return [key for key in attributes if key not in stated and _NEARLY_SAID.get(key) not in stated]


def unstated_claim(scene: Scene, index: int, names: NameMaker, generator: random.Random) -> Claim | None:
    """A claim about an attribute that the document says nothing of, if there is one."""
    missing = unstated_keys(scene, index)
    if not missing:
        return None
    entity = scene.entities[index]
    attribute = entity.kind.attributes[generator.choice(missing)]
    return Claim(entity, attribute, random_value(attribute, names, generator))


def question_text(
    entity: Entity, attribute: Attribute, generator: random.Random, held_out: bool, pronoun: bool = False
) -> str:
    """A question for an attribute, now and then typed carelessly."""
    template = generator.choice(attribute.wordings("questions", held_out))
    text = fill(template, entity, name=pronoun_in(template, entity) if pronoun else None)
    if generator.random() < 0.1:
        text = text.lower().rstrip("?")
    elif generator.random() < 0.08:
        start = generator.choice(("Can you tell me: ", "Please tell me. ", "I have a question. ", "Hello! "))
        text = start + text
    return text


def pronoun_in(template: str, entity: Entity) -> str:
    """The pronoun that stands for the entity in a question: "it", "she" or, after a preposition, "her"."""
    return _OBJECT_PRONOUNS[entity.pronoun] if _AFTER_PREPOSITION.search(template) else entity.pronoun


def claim_text(claim: Claim, generator: random.Random, held_out: bool) -> str:
    """One claim as an answer."""
    roll = generator.random()
    if roll < 0.2 and not held_out:
        return f"{_capital(claim.value)}."
    if roll < 0.35 and not held_out:
        template = _statement(claim.attribute, generator)
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
