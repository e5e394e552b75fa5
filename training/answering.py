"""Questions that documents answer, and questions that they only seem to answer."""

from __future__ import annotations

import functools
from pathlib import Path

from training.chat_format import Conversation, Document
from training.reading.writer import Writer
from training.real_documents import RealQuestion, passages
from training.scenes import Scene, make_scene, near_name, question_text, unstated_keys
from training.splits import Split
from training.world import make_entity

# A question with documents, and whether they answer it.
Asked = tuple[str, list[Document], bool]


def asked_of_scene(writer: Writer, scene: Scene, new_wording: bool = False) -> list[Asked]:
    """One question, both with documents that answer it and with such as do not: what differs is small."""
    index = writer.random.randrange(len(scene.entities))
    entity = scene.entities[index]
    documents = scene.documents()
    key = writer.random.choice(scene.stated[index])
    question = question_text(entity, entity.kind.attributes[key], writer.random, new_wording)
    answered: Asked = (question, documents, True)
    roll = writer.random.random()
    missing = unstated_keys(scene, index)
    if roll < 0.4 and len(scene.stated[index]) > 1 and _is_clear(scene, index, key):
        return [answered, (question, scene.documents(hidden=(index, key)), False)]
    if roll < 0.7 and missing:
        unstated = entity.kind.attributes[writer.random.choice(missing)]
        return [answered, (question_text(entity, unstated, writer.random, new_wording), documents, False)]
    stranger = make_entity(entity.kind, writer.names, writer.random)
    if writer.random.random() < 0.5:
        stranger.name = near_name(entity.name, writer.names, writer.random)
    if stranger.name in {known.name for known in scene.entities}:
        return [answered]
    attribute = entity.kind.attributes[key]
    return [answered, (question_text(stranger, attribute, writer.random, new_wording), documents, False)]


def _is_clear(scene: Scene, index: int, key: str) -> bool:
    """Whether the documents say nothing of the attribute once its statement is left out."""
    kept = scene.stated[index]
    scene.stated[index] = [k for k in kept if k != key]
    clear = key in unstated_keys(scene, index)
    scene.stated[index] = kept
    return clear


def scene_questions(writer: Writer, count: int) -> tuple[list[Document], list[tuple[str, bool]]]:
    """Documents, and questions that they answer or do not."""
    scene = make_scene(writer.names, writer.random)
    documents = scene.documents()
    found = [
        (question, answered)
        for _ in range(count)
        for question, shown, answered in asked_of_scene(writer, scene)
        if shown == documents
    ]
    return documents, writer.random.sample(found, min(count, len(found)))


def with_wrong_passage(writer: Writer, item: RealQuestion) -> Conversation | None:
    """A real question over a passage, of the same data set, that speaks of something else."""
    titles = {document.title for document in item.documents}
    for document in writer.random.choices(_documents_of(writer.data, writer.split, item.source), k=4):
        if document.title not in titles:
            return Conversation(list(item.messages), [document])
    return None


@functools.cache
def _documents_of(data: Path | None, split: Split, source: str) -> tuple[Document, ...]:
    return tuple(document for document, its_source in passages(data, split) if its_source == source)
