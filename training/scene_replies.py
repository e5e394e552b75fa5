"""Replies about a scene in pairs and fours that differ in one change, in the reply or in a document."""

from __future__ import annotations

import random

from training.chat_format import Conversation, Document
from training.reading.requests import opening, small_talk_turn
from training.reading.writer import Writer
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

# A conversation that ends in a reply, and whether the documents support all that it says.
Judged = tuple[Conversation, bool]

_UNSTATED_SHARE = 0.15
# As often as "the documents do not say that" is right, it is wrong.
_GIVEN_UP_SHARE = 0.12


def scene_replies(writer: Writer, new_wording: bool = False) -> list[Judged]:
    """One to four replies about one scene.

    Args:
        writer: Whose names and random choices are used.
        new_wording: Asks and replies in words that no training text uses.
    """
    scene = make_scene(writer.names, writer.random)
    before = opening(writer)
    before.documents = scene.documents()
    index = writer.random.randrange(len(scene.entities))
    _earlier_turns(writer, before, scene, index)
    roll = writer.random.random()
    if roll < 0.03:
        small_talk_turn(writer, before)
        return [(before, True)]
    if roll < _UNSTATED_SHARE:
        return _about_unstated(writer, before, scene, index, new_wording)
    return _about_stated(writer, before, scene, index, new_wording)


def replied(conversation: Conversation, reply: str) -> Conversation:
    """A copy of the conversation that ends in this reply."""
    return Conversation(list(conversation.messages), list(conversation.documents)).add("assistant", reply)


def _earlier_turns(writer: Writer, conversation: Conversation, scene: Scene, index: int) -> None:
    """Earlier questions, also with wrong replies: the verdict is on the last one."""
    while writer.random.random() < 0.3:
        claim = true_claim(scene, index, writer.random.choice(scene.stated[index]))
        conversation.add("user", question_text(claim.entity, claim.attribute, writer.random, False))
        if writer.random.random() < 0.25:
            claim = false_claim(scene, claim, writer.names, writer.random)
        conversation.add("assistant", reply_text([claim], writer.random))


def _about_unstated(
    writer: Writer, conversation: Conversation, scene: Scene, index: int, new_wording: bool
) -> list[Judged]:
    claim = unstated_claim(scene, index, writer.names, writer.random)
    if claim is None:
        return []
    conversation.add("user", question_text(claim.entity, claim.attribute, writer.random, new_wording))
    honest, made_up = writer.random.choice(NOT_STATED), reply_text([claim], writer.random, new_wording)
    return [(replied(conversation, honest), True), (replied(conversation, made_up), False)]


def _about_stated(
    writer: Writer, conversation: Conversation, scene: Scene, index: int, new_wording: bool
) -> list[Judged]:
    key = writer.random.choice(scene.stated[index])
    right = true_claim(scene, index, key)
    wrong = false_claim(scene, right, writer.names, writer.random)
    pronoun = len(conversation.messages) > 1 and writer.random.random() < 0.3
    conversation.add("user", question_text(right.entity, right.attribute, writer.random, new_wording, pronoun))
    others = [true_claim(scene, index, k) for k in scene.stated[index] if k != key]
    beside = [writer.random.choice(others)] if others and writer.random.random() < 0.2 else []
    first = writer.random.random() < 0.5
    style = writer.random.getrandbits(32)

    def reply(claim: Claim, besides: list[Claim]) -> str:
        # The same style for all, so that nothing but what they say tells them apart.
        claims = [claim, *besides] if first else [*besides, claim]
        return reply_text(claims, random.Random(style), new_wording)

    if writer.random.random() < _GIVEN_UP_SHARE:
        gives_up = writer.random.choice(NOT_STATED)
        return [(replied(conversation, reply(right, beside)), True), (replied(conversation, gives_up), False)]
    says_right, says_wrong = reply(right, beside), reply(wrong, beside)
    judged = [(replied(conversation, says_right), True), (replied(conversation, says_wrong), False)]
    if writer.random.random() < 0.4:
        changed = Conversation(list(conversation.messages), _documents_with(scene, wrong))
        judged += [(replied(changed, says_wrong), True), (replied(changed, says_right), False)]
    elif writer.random.random() < 0.15 and others:
        extra = unstated_claim(scene, index, writer.names, writer.random)
        if extra:
            judged += [(replied(conversation, reply(right, [extra])), False)]
            judged += [(replied(conversation, reply(right, others[:1])), True)]
    return judged


def _documents_with(scene: Scene, claim: Claim) -> list[Document]:
    """The scene's documents, were the claim true."""
    facts, key = claim.entity.facts, claim.attribute.key
    was, facts[key] = facts[key], claim.value
    documents = scene.documents()
    facts[key] = was
    return documents
