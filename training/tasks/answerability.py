"""Answerability: whether the documents answer the user's last question."""

from __future__ import annotations

import random
from collections.abc import Iterator

from training.answering import asked_of_scene, with_wrong_passage
from training.chat_format import Conversation
from training.reading.requests import opening
from training.reading.writer import Writer
from training.real_documents import RealQuestion, questions
from training.scenes import make_scene, question_text, reply_text, true_claim
from training.splits import Split
from training.tasks.example import Example, Sources

_REAL_SHARE = 0.3
_DOC2DIAL_MEASURED = 200


def training_examples(seed: str, sources: Sources) -> Iterator[Example]:
    """Endless examples, generated ones in pairs, three in ten of them real where there is real data."""
    writer = Writer(random.Random(f"answerability {seed}"), sources.data)
    items = questions(sources.data, "train")
    # Doc2Dial is large and all its questions are answerable: it gets as much room as the others together.
    weights = [0.2 if item.source == "doc2dial" else 1.0 for item in items]
    while True:
        if items and writer.random.random() < _REAL_SHARE:
            (item,) = writer.random.choices(items, weights)
            yield from _real(writer, item)
        else:
            yield from _generated(writer, "generated", new_wording=False)


def measured_examples(split: Split, sources: Sources, generated: int) -> list[Example]:
    """So many generated examples, half of them asked in words that training never uses, and every real question."""
    writer = Writer(random.Random(f"answerability {split}"), sources.data, split)
    found: list[Example] = []
    while len(found) < generated // 2:
        found += _generated(writer, "generated", new_wording=False)
    found = found[: generated // 2]
    while len(found) < generated:
        found += _generated(writer, "generated, new wording", new_wording=True)
    found = found[:generated]
    items = questions(sources.data, split)
    many = [item for item in items if item.source == "doc2dial"][:_DOC2DIAL_MEASURED]
    for item in [*(item for item in items if item.source != "doc2dial"), *many]:
        found += _real(writer, item)
    return found


def _generated(writer: Writer, origin: str, new_wording: bool) -> list[Example]:
    """One or two examples about a scene; now and then, something was asked before."""
    scene = make_scene(writer.names, writer.random)
    before = opening(writer)
    while writer.random.random() < 0.3:
        index = writer.random.randrange(len(scene.entities))
        claim = true_claim(scene, index, writer.random.choice(scene.stated[index]))
        before.add("user", question_text(claim.entity, claim.attribute, writer.random, False))
        before.add("assistant", reply_text([claim], writer.random))
    return [
        _example(Conversation(list(before.messages), documents).add("user", question), answerable, origin)
        for question, documents, answerable in asked_of_scene(writer, scene, new_wording)
    ]


def _real(writer: Writer, item: RealQuestion) -> list[Example]:
    """A real question with its documents, or, to balance the answerable ones, with a passage of something else."""
    origin = f"real: {item.source}"
    wrong = with_wrong_passage(writer, item) if item.answerable or not item.documents else None
    found = []
    if item.documents:
        found.append(_example(Conversation(list(item.messages), list(item.documents)), item.answerable, origin))
    if wrong and (item.source == "doc2dial" or not item.documents):
        found.append(_example(wrong, False, origin))
    return found


def _example(conversation: Conversation, answerable: bool, origin: str) -> Example:
    return Example(conversation, "answerable" if answerable else "unanswerable", origin)
