"""Questions whose answers are known, for measuring how often the base model is right.

A question is made from its key alone (and the real data, for real questions), so a key is all one must keep.
"""

from __future__ import annotations

import functools
import random
import zlib
from dataclasses import dataclass
from pathlib import Path

from training import real_text
from training.chat_format import Conversation
from training.dialogues import Writer
from training.names import NameMaker
from training.real_parts import RealParts, choice_question
from training.scenes import Claim, make_scene, question_text, reply_text, true_claim
from training.tasks import Example
from training.world import Attribute, Entity, closed_book, fill, other_value

_NO_REAL = RealParts([], [], [], [], [])


@dataclass(frozen=True)
class Question:
    """A question and what is needed to measure answers to it.

    Attributes:
        key: All of it in a word.
        group: Answers of one group are calibrated together.
        held_out: Whether the intrinsic must not train on it.
        before: The conversation up to the question.
        asked: The question as the example asks it.
        wordings: Ways to ask it.
        stems: What stands before and after the value in ways to answer it.
        truth: The right value.
        others: Values that fit in kind.
        choices: All possible values, where the question itself offers a choice.
        claim: Who and what is asked about, in the invented world.
        new_wording: Whether it is asked and answered in held-out wordings.
    """

    key: str
    group: str
    held_out: bool
    before: Conversation
    asked: str
    wordings: tuple[str, ...]
    stems: tuple[tuple[str, str], ...]
    truth: str
    others: tuple[str, ...]
    choices: tuple[str, ...] = ()
    claim: Claim | None = None
    new_wording: bool = False


def all_questions(data: Path | None, scale: float = 1.0) -> list[Question]:
    """All questions that are asked: three of each closed-book entity, some thousand of documents, and real ones."""
    keys: list[str] = []
    entities = closed_book().entities
    for index in range(int(len(entities) * scale)):
        attributes = list(entities[index].kind.attributes)
        chosen = random.Random(f"attributes {index}").sample(attributes, 3)
        keys += [f"book:{index}:{attribute}" for attribute in chosen]
    keys += [f"scene:{index}" for index in range(int(5000 * scale))]
    keys += [f"choice:{index}" for index in _held_back_choices(data)[: int(4000 * scale)]] if data else []
    return [question_of(key, data) for key in keys]


@functools.lru_cache(maxsize=8)
def _held_back_choices(data: Path) -> list[int]:
    """Real questions that the base model was not trained on: of others it would remember the answer."""
    choices = real_text.choices(data)
    return [index for index, choice in enumerate(choices) if real_text.is_held_out_choice(choice)]


def question_of(key: str, data: Path | None) -> Question:
    """Makes a question from its key.

    Raises:
        ValueError: For a key of a real question without real data.
    """
    sort, *rest = key.split(":")
    generator = random.Random(f"question {key}")
    if sort == "book":
        return _book_question(key, int(rest[0]), rest[1], generator)
    if sort == "scene":
        return _scene_question(key, int(rest[0]), generator)
    if data is None:
        raise ValueError(f"question {key} is a real one: it needs the data folder")
    return _choice_question(key, real_text.choices(data)[int(rest[0])], generator)


def _book_question(key: str, index: int, attribute_key: str, generator: random.Random) -> Question:
    book = closed_book()
    entity = book.entities[index]
    writer = Writer(generator, _NO_REAL)
    before = writer.opening()
    while generator.random() < 0.2:
        writer.closed_book_turn(before, writer.familiar(), False)
    attribute = entity.kind.attributes[attribute_key]
    return _world_question(key, "closed book", book.is_held_out(index), before, entity, attribute, generator)


def _scene_question(key: str, index: int, generator: random.Random) -> Question:
    held_out = index % 5 == 0
    scene = make_scene(NameMaker(generator, held_out), generator)
    before = Writer(generator, _NO_REAL).opening()
    before.documents = scene.documents()
    which = generator.randrange(len(scene.entities))
    while generator.random() < 0.2:
        earlier = true_claim(scene, which, generator.choice(scene.stated[which]))
        before.add("user", question_text(earlier.entity, earlier.attribute, generator, False))
        before.add("assistant", reply_text([earlier], generator))
    claim = true_claim(scene, which, generator.choice(scene.stated[which]))
    return _world_question(key, "documents", held_out, before, claim.entity, claim.attribute, generator)


def _world_question(
    key: str,
    group: str,
    held_out: bool,
    before: Conversation,
    entity: Entity,
    attribute: Attribute,
    generator: random.Random,
) -> Question:
    truth = entity.facts[attribute.key]
    new_wording = held_out and generator.random() < 0.25
    names = NameMaker(generator)
    stems = []
    for template in (*attribute.answers[:-1], *attribute.statements):
        head, tail = template.split("{v}")
        # After "a", the stem would already tell whether the value begins with a vowel.
        if head and not head.endswith(" a "):
            stems.append((fill(head.rstrip(), entity), tail.replace("{e}", entity.name)))
    return Question(
        key=key,
        group=group,
        held_out=held_out,
        before=before,
        asked=question_text(entity, attribute, generator, new_wording),
        wordings=tuple(fill(template, entity) for template in attribute.questions[:-1]),
        stems=tuple(stems[:2]),
        truth=truth,
        others=tuple(other_value(attribute, truth, names, generator) for _ in range(2)),
        claim=Claim(entity, attribute, truth),
        new_wording=new_wording,
    )


def _choice_question(key: str, choice: real_text.Choice, generator: random.Random) -> Question:
    asked = choice_question(choice, generator)
    return Question(
        key=key,
        group="true or false" if len(choice.replies) == 2 else "multiple choice",
        held_out=zlib.crc32(choice.question.encode()) // 5 % 4 == 0,
        before=Conversation(),
        asked=asked,
        wordings=(asked,),
        stems=(("", ""),),
        truth=choice.replies[choice.right],
        others=(),
        choices=choice.replies,
    )


def example_of(question: Question, value: str, label: str, right: bool) -> Example:
    """The conversation in which the question gets this answer."""
    generator = random.Random(f"example {question.key} {value}")
    reply = value
    if question.claim:
        claim = Claim(question.claim.entity, question.claim.attribute, value)
        reply = reply_text([claim], generator, question.new_wording)
    conversation = Conversation(list(question.before.messages), list(question.before.documents))
    conversation.add("user", question.asked).add("assistant", reply)
    origin = "generated" if question.claim else "real"
    origin += f", {question.group}" + (", new wording" if question.new_wording else "")
    return Example(conversation, label, origin, right)
