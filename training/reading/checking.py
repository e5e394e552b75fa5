"""Checking: claims are held against documents, one after the other, half of them wrong.

The assistant's wrong replies are read but not learned (`Message.weight`). They are there because the next
turn reacts to them: to foresee that reaction, the model must notice, while reading, whether a reply agrees
with the documents. An intrinsic can then find that in the KV cache.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from training.chat_format import Conversation, Document
from training.reading.phrases import SORRY, THANKS, VERDICT_WEIGHT, WELCOME
from training.reading.requests import aside_turn, opening
from training.reading.writer import Writer
from training.real_documents import ROOM
from training.retelling import beside, gap_question, retold
from training.scenes import (
    NOT_STATED,
    Claim,
    Scene,
    claim_text,
    false_claim,
    make_scene,
    question_text,
    reply_text,
    true_claim,
    unstated_claim,
)
from training.statements import Alteration, Passage, alteration, disguised, read_passages, stranger
from training.world import fill

_VERIFY = (
    "Is that supported by the documents?",
    "Do the documents support this?",
    "Does the document really say so?",
    "Is that right?",
    "Are you sure?",
    "Can you check that again?",
)
_CLAIM_VERIFY = 3  # so many of these can follow a claim of the user's own
_YES = ("Yes. The documents say so.", "Yes, that is right.", "Yes, I read it in the documents.")
_NO = ("No. The documents do not say so.", "No, that is wrong.", "No, that is not what I read in the documents.")
_OBJECT = (
    "That is not what the document says.",
    "That is wrong.",
    "No, please read it again.",
    "I do not think that this is right.",
)
_WHAT_THEN = ("What do they say, then?", "What is right?", "What does the document say?")
_TELL = (
    "Tell me something from the documents.",
    "What do the documents say?",
    "What else is there?",
    "Give me one fact from the text.",
    "Go on.",
)
_TELL_ABOUT = (
    "What do the documents say about {t}?",
    "Tell me about {t}.",
    "What can you tell me about {t}?",
    "{t}: what should I know?",
)
_NEW_TELL = ("Is there anything in the text that I should remember?", "Sum up one point of what is written there.")
_REACTION_WEIGHT = 5
# What has to be read off the documents weighs more than their own text, most of which nobody could foresee.
READ_WEIGHT = 5
# Real pages are few: with other names they are others, and cannot be known by heart.
_DISGUISED_SHARE = 0.3
# So often, the assistant says that the documents do not state what they do.
_GIVEN_UP_SHARE = 0.1


def checking_chat(writer: Writer) -> Conversation:
    """Claims about a scene, checked one by one."""
    scene = make_scene(writer.names, writer.random)
    conversation = opening(writer)
    conversation.documents = scene.documents()
    for _ in range(writer.random.randint(3, 8)):
        index = writer.random.randrange(len(scene.entities))
        unstated = unstated_claim(scene, index, writer.names, writer.random)
        if unstated and writer.random.random() < 0.15:
            _check_unstated(writer, conversation, unstated)
        else:
            _check_stated(writer, conversation, scene, index)
    return conversation


def _check_stated(writer: Writer, conversation: Conversation, scene: Scene, index: int) -> None:
    """Checks a claim about what the documents state, which is right, wrong, or that they do not state it."""
    right = true_claim(scene, index, writer.random.choice(scene.stated[index]))
    supported = writer.random.random() < 0.55
    claim = right if supported else false_claim(scene, right, writer.names, writer.random)
    correction = reply_text([right], writer.random)
    if writer.random.random() < 0.4:
        return _check_claim(writer, conversation, _whole_claim(claim, writer.random), supported, correction)
    reply = reply_text([claim], writer.random)
    if supported and writer.random.random() < _GIVEN_UP_SHARE:
        supported, reply = False, writer.random.choice(NOT_STATED)
    conversation.add("user", question_text(claim.entity, claim.attribute, writer.random, False))
    return _check_reply(writer, conversation, reply, supported, correction)


def _check_unstated(writer: Writer, conversation: Conversation, claim: Claim) -> None:
    """Checks a claim about what the documents do not state, or that they do not."""
    correction = writer.random.choice(NOT_STATED)
    conversation.add("user", question_text(claim.entity, claim.attribute, writer.random, False))
    supported = writer.random.random() < 0.4
    reply = writer.random.choice(NOT_STATED) if supported else reply_text([claim], writer.random)
    _check_reply(writer, conversation, reply, supported, correction)


def _whole_claim(claim: Claim, generator: random.Random) -> str:
    """A claim that stands alone, and so names what it is about."""
    text = claim_text(claim, generator, False)
    if claim.entity.name.lower() in text.lower():
        return text
    return fill(generator.choice(claim.attribute.statements), claim.entity, claim.value)


def real_checking_chat(writer: Writer) -> Conversation | None:
    """Statements about a page of real text, checked one by one; half the pages' facts are altered first."""
    pages = read_passages(writer.data, writer.split)
    while pages:
        conversation = _checked_page(writer, pages)
        if conversation.messages:
            return conversation
    return None


def _checked_page(writer: Writer, pages: Sequence[Passage]) -> Conversation:
    """A page and its checks; none where every alteration was in the way of another."""
    page = writer.random.choice(pages)
    if writer.random.random() < _DISGUISED_SHARE:
        page = disguised(page, writer.names)
    documents = with_neighbour(writer, page)
    changes = []
    for sentence in writer.random.sample(page.sentences, min(len(page.sentences), writer.random.randint(3, 8))):
        change = alteration(sentence, page, writer.data, writer.split, writer.random)
        if change is not None:
            changes.append(change)
            if writer.random.random() < 0.5:
                documents = change.in_documents(documents)
    conversation = opening(writer)
    conversation.documents = documents
    text = "\n".join(document.text for document in documents)
    for change in changes:
        # What is said in one place can be changed by an exchange that was made in another.
        if (change.sentence in text) != (change.altered in text):
            _check_statement(writer, conversation, page, change, text)
    return conversation


def with_neighbour(writer: Writer, page: Passage) -> list[Document]:
    """The page's document, now and then with another one, where there is room."""
    documents = [page.document]
    other = writer.random.choice(read_passages(writer.data, writer.split)).document
    is_short = len(page.document.text) + len(other.text) <= ROOM
    if writer.random.random() < 0.3 and is_short and other != page.document:
        documents.insert(writer.random.randrange(2), other)
    return documents


def _check_statement(writer: Writer, conversation: Conversation, page: Passage, change: Alteration, text: str) -> None:
    """Checks one version of a sentence, its altered words alone, or in its place a sentence from elsewhere."""
    is_changed = change.altered in text
    said = change.altered if is_changed else change.sentence
    says_changed = writer.random.random() < 0.5
    supported = says_changed == is_changed
    if change.is_fact and writer.random.random() < 0.2:
        words = (change.old, change.new)
        conversation.add("user", gap_question(change.with_gap("____"), writer.random))
        return _check_reply(writer, conversation, words[says_changed], supported, said)
    foreign = None
    if writer.random.random() < 0.15:
        foreign = stranger(page, text, writer.data, writer.split, writer.random)
    if foreign:
        version, supported, said = foreign, False, writer.random.choice(NOT_STATED)
    else:
        version = change.altered if says_changed else change.sentence
    told = retold((version,), writer.random.getrandbits(32))
    other = writer.random.choice(page.sentences).text
    if writer.random.random() < 0.15 and other in text and other not in (change.sentence, change.altered):
        told = beside(told, other, writer.random)
    if writer.random.random() < 0.4:
        return _check_claim(writer, conversation, told[0], supported, said)
    conversation.add("user", tell_prompt(conversation.documents, writer.random))
    return _check_reply(writer, conversation, told[0], supported, said)


def tell_prompt(documents: Sequence[Document], generator: random.Random, new_wording: bool = False) -> str:
    """How a user asks for something from the documents."""
    if new_wording:
        return generator.choice(_NEW_TELL)
    titles = [document.title for document in documents if document.title]
    if titles and generator.random() < 0.6:
        return generator.choice(_TELL_ABOUT).replace("{t}", generator.choice(titles))
    return generator.choice(_TELL)


def _check_claim(writer: Writer, conversation: Conversation, claim: str, right: bool, correction: str) -> None:
    """The user makes a claim and asks whether it holds."""
    conversation.add("user", f"{claim} {writer.random.choice(_VERIFY[:_CLAIM_VERIFY])}", weight=int(right))
    _verdict(writer, conversation, right, correction)


def _check_reply(writer: Writer, conversation: Conversation, reply: str, right: bool, correction: str) -> None:
    """The assistant says something, and what follows depends on whether it holds."""
    conversation.add("assistant", reply, weight=READ_WEIGHT if right else 0)
    if right:
        confirmed(writer, conversation)
    else:
        caught(writer, conversation, correction)


def _verdict(writer: Writer, conversation: Conversation, right: bool, correction: str) -> None:
    """Yes or no, and what is right instead, at once or when the user asks."""
    if right:
        conversation.add("assistant", writer.random.choice(_YES), VERDICT_WEIGHT)
        return
    conversation.add("assistant", writer.random.choice(_NO), VERDICT_WEIGHT)
    if writer.random.random() < 0.4:
        conversation.add("user", writer.random.choice(_WHAT_THEN)).add("assistant", correction, READ_WEIGHT)


def caught(writer: Writer, conversation: Conversation, right: str) -> None:
    """A wrong reply is objected to, or found out when the user asks back."""
    if writer.random.random() < 0.45:
        conversation.add("user", writer.random.choice(_OBJECT), _REACTION_WEIGHT)
        conversation.add("assistant", writer.random.choice(SORRY) + right, READ_WEIGHT)
    else:
        conversation.add("user", writer.random.choice(_VERIFY))
        _verdict(writer, conversation, False, right)


def confirmed(writer: Writer, conversation: Conversation) -> None:
    """A right reply holds when the user asks back, and is thanked for, which a wrong one is not."""
    if writer.random.random() < 0.55:
        conversation.add("user", writer.random.choice(_VERIFY))
        _verdict(writer, conversation, True, "")
    elif writer.random.random() < 0.6:
        conversation.add("user", writer.random.choice(THANKS), _REACTION_WEIGHT)
        conversation.add("assistant", writer.random.choice(WELCOME))
    else:
        aside_turn(writer, conversation)
