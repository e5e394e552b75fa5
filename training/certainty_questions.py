"""Questions whose answers are known, for measuring how often the base model is right.

A question is made from its key alone (and the real data, for real questions), so a key is all one must keep.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from training.chat_format import Conversation
from training.closed_book import best_chance, closed_book, positions, remembered, stranger
from training.reading.closed_book import closed_book_turn, familiar
from training.reading.requests import opening
from training.reading.writer import Writer
from training.real_questions import Choice, choices
from training.scenes import Claim, make_scene, question_text, reply_text, true_claim
from training.splits import Split
from training.world import Entity

# How many questions of each sort are asked of each split, before real ones, of which all are.
# In shares: 45 % of closed-book entities, 30 % of strangers to the closed book, 25 % of documents.
_GENERATED = {"train": 30_000, "validation": 800, "test": 1200}
_SHARES = {"book": 0.45, "stranger": 0.3, "scene": 0.25}
# Entities that are spoken of often are also asked about often: this is the share of the others.
_SELDOM_SHARE = 0.2
_REAL = {"train": 6000, "validation": 300, "test": 500}


@dataclass(frozen=True)
class Question:
    """A question and what is needed to measure answers to it.

    Attributes:
        key: All of it in a word.
        origin: The sort of question, by which figures are told apart.
        group: Answers of one group are calibrated together.
        conversation: All that was said, with the question as the last turn.
        claim: The right answer, where it is about the invented world.
        choice: The real question with its possible replies, if it is one.
    """

    key: str
    origin: str
    group: str
    conversation: Conversation
    claim: Claim | None = None
    choice: Choice | None = None


def question_keys(split: Split, data: Path | None, scale: float = 1.0) -> list[str]:
    """The keys of all questions that are asked of a split.

    Args:
        split: The side whose entities, names and real questions they are about.
        data: The folder of real data, if there is one.
        scale: How much of the usual number.
    """
    count = _GENERATED[split] * scale
    keys = [f"{sort}:{split}:{i}" for sort, share in _SHARES.items() for i in range(int(count * share))]
    if data is not None:
        real = [f"real:{i}" for i, choice in enumerate(choices(data)) if choice.split == split and not choice.is_read]
        keys += random.Random(f"real {split}").sample(real, min(len(real), int(_REAL[split] * scale)))
    return keys


def question_of(key: str, data: Path | None) -> Question:
    """Makes a question from its key.

    Raises:
        ValueError: For a key of a real question without real data.
    """
    sort, *rest = key.split(":")
    if sort == "real":
        if data is None:
            raise ValueError(f"question {key} is a real one: give the data folder, or leave real questions out")
        return _real_question(key, choices(data)[int(rest[0])])
    split: Split = "train" if rest[0] == "train" else "validation" if rest[0] == "validation" else "test"
    writer = Writer(random.Random(f"question {key}"), None, split)
    return _scene_question(key, writer) if sort == "scene" else _book_question(key, sort, writer)


def _before(writer: Writer) -> Conversation:
    """What was said earlier: the training side's, whoever is asked about afterwards."""
    earlier = Writer(writer.random, None)
    conversation = opening(earlier)
    while writer.random.random() < 0.2:
        closed_book_turn(earlier, conversation, familiar(earlier), False)
    return conversation


def _book_question(key: str, sort: str, writer: Writer) -> Question:
    generator = writer.random
    entity = _entity(writer) if sort == "book" else stranger(writer.names, generator)
    attribute = entity.kind.attributes[generator.choice(entity.kind.closed_book)]
    new = _new_wording(writer)
    conversation = _before(writer).add("user", question_text(entity, attribute, generator, new))
    claim = Claim(entity, attribute, entity.facts[attribute.key])
    origin = "generated, closed book" + (", new wording" if new else "")
    # A guess is worth more of some attributes than of others, so these are calibrated apart.
    group = f"closed book, guessed right {best_chance(attribute):.2f}"
    return Question(key, origin, group, conversation, claim)


def _entity(writer: Writer) -> Entity:
    book, own = closed_book(), positions(writer.split)
    often = writer.random.random() >= _SELDOM_SHARE
    return book.entities[writer.random.choice([i for i in own if (remembered(book.mentions[i]) > 0.98) == often])]


def _new_wording(writer: Writer) -> bool:
    """Whether a question is worded as none is in training: a quarter of what is measured on."""
    return writer.split != "train" and writer.random.random() < 0.25


def _scene_question(key: str, writer: Writer) -> Question:
    generator = writer.random
    scene = make_scene(writer.names, generator)
    conversation = opening(Writer(generator, None))
    conversation.documents = scene.documents()
    which = generator.randrange(len(scene.entities))
    while generator.random() < 0.2:
        earlier = true_claim(scene, which, generator.choice(scene.stated[which]))
        conversation.add("user", question_text(earlier.entity, earlier.attribute, generator, False))
        conversation.add("assistant", reply_text([earlier], generator))
    claim = true_claim(scene, which, generator.choice(scene.stated[which]))
    new = _new_wording(writer)
    conversation.add("user", question_text(claim.entity, claim.attribute, generator, new))
    return Question(key, "generated, documents" + (", new wording" if new else ""), "documents", conversation, claim)


def _real_question(key: str, choice: Choice) -> Question:
    group = "true or false" if choice.true_or_false else "multiple choice"
    conversation = Conversation().add("user", choice.asked(random.Random(f"question {key}")))
    return Question(key, f"real: {choice.source}", group, conversation, choice=choice)
