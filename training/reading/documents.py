"""Questions about documents, generated and real, and what is right or wrong to reply."""

from __future__ import annotations

from training.answering import asked_of_scene
from training.chat_format import Conversation
from training.reading.checking import READ_WEIGHT, caught, confirmed
from training.reading.requests import opening
from training.reading.writer import Writer
from training.real_documents import replied_questions
from training.scenes import (
    NOT_STATED,
    Claim,
    Scene,
    false_claim,
    make_scene,
    question_text,
    reply_text,
    true_claim,
    unstated_claim,
)
from training.statements import alteration, read_passage, read_sentence


def document_chat(writer: Writer) -> Conversation:
    """Questions about a scene."""
    scene = make_scene(writer.names, writer.random)
    conversation = opening(writer)
    conversation.documents = scene.documents()
    index = -1
    for _ in range(writer.random.choice((1, 2, 3, 4, 6, 8))):
        stay = index >= 0 and writer.random.random() < 0.5
        index = index if stay else writer.random.randrange(len(scene.entities))
        pronoun = stay and writer.random.random() < 0.6
        unstated = unstated_claim(scene, index, writer.names, writer.random)
        roll = writer.random.random()
        if unstated and roll < 0.2:
            _ask_unstated(writer, conversation, unstated, pronoun)
        elif roll > 0.8:
            _ask_unanswered(writer, conversation, scene)
        else:
            _ask_stated(writer, conversation, scene, index, pronoun)
    if not conversation.messages:
        _ask_stated(writer, conversation, scene, max(index, 0), False)
    return conversation


def _ask_stated(writer: Writer, conversation: Conversation, scene: Scene, index: int, pronoun: bool) -> None:
    claims = [true_claim(scene, index, writer.random.choice(scene.stated[index]))]
    question = question_text(claims[0].entity, claims[0].attribute, writer.random, False, pronoun)
    second = writer.random.choice(scene.stated[index])
    if writer.random.random() < 0.15 and second != claims[0].attribute.key:
        claims.append(true_claim(scene, index, second))
    conversation.add("user", question)
    if writer.random.random() < 0.35:
        slip = writer.random.randrange(len(claims))
        wrong = list(claims)
        wrong[slip] = false_claim(scene, claims[slip], writer.names, writer.random)
        conversation.add("assistant", reply_text(wrong, writer.random), weight=0)
        caught(writer, conversation, reply_text([claims[slip]], writer.random))
    else:
        conversation.add("assistant", reply_text(claims, writer.random), READ_WEIGHT)
        confirmed(writer, conversation)


def _ask_unstated(writer: Writer, conversation: Conversation, claim: Claim, pronoun: bool) -> None:
    conversation.add("user", question_text(claim.entity, claim.attribute, writer.random, False, pronoun))
    if writer.random.random() < 0.4:
        conversation.add("assistant", reply_text([claim], writer.random), weight=0)
        caught(writer, conversation, writer.random.choice(NOT_STATED))
    else:
        conversation.add("assistant", writer.random.choice(NOT_STATED), READ_WEIGHT)


def _ask_unanswered(writer: Writer, conversation: Conversation, scene: Scene) -> None:
    """Questions that the documents only seem to answer: of others with a like name, of what is not told."""
    for question, documents, answered in asked_of_scene(writer, scene):
        if documents == conversation.documents and not answered:
            conversation.add("user", question)
            conversation.add("assistant", writer.random.choice(NOT_STATED), READ_WEIGHT)


def grounded_chat(writer: Writer) -> Conversation | None:
    """A real question over real documents, with the data set's reply, that reply altered, or a stranger's."""
    items, cumulative = replied_questions(writer.data, writer.split)
    if not items:
        return None
    (item,) = writer.random.choices(items, cum_weights=cumulative)
    (stranger,) = writer.random.choices(items, cum_weights=cumulative)
    right = item.reply or ""
    conversation = Conversation(list(item.messages), list(item.documents))
    if writer.random.random() < 0.5 or stranger.documents == item.documents:
        conversation.add("assistant", right, READ_WEIGHT)
        confirmed(writer, conversation)
        return conversation
    reply = stranger.reply or ""
    if writer.random.random() < 0.6:
        page = read_passage(item.documents[0], item.source)
        change = alteration(read_sentence(right), page, writer.data, writer.split, writer.random)
        changed = change.in_documents(item.documents) if change else conversation.documents
        if change and changed != conversation.documents and writer.random.random() < 0.5:
            conversation.documents = changed  # so that the data set's reply becomes the wrong one
            right, reply = change.altered, right
        elif change:
            reply = change.altered
    conversation.add("assistant", reply, weight=0)
    caught(writer, conversation, right)
    return conversation
