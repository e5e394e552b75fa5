"""Replies about real documents, in pairs and fours that differ in one change, in the reply or in the documents."""

from __future__ import annotations

from collections.abc import Sequence

from training.chat_format import Conversation, Document
from training.reading.checking import tell_prompt, with_neighbour
from training.reading.requests import opening
from training.reading.writer import Writer
from training.real_documents import RealQuestion
from training.retelling import beside, gap_question, retold
from training.scene_replies import Judged, replied
from training.statements import Passage, alteration, read_passage, read_sentence, stranger

_GAP_SHARE = 0.15
_BESIDE_SHARE = 0.15


def altered_sentence(writer: Writer, page: Passage, new_wording: bool = False) -> list[Judged]:
    """A sentence of a page told again, right and wrong, over the page as it is and over the page altered."""
    sentence = writer.random.choice(page.sentences)
    change = alteration(sentence, page, writer.data, writer.split, writer.random)
    if change is None:
        return []
    documents = with_neighbour(writer, page)
    changed = change.in_documents(documents)
    shown = "\n".join(document.text for document in documents)
    said_changed = "\n".join(document.text for document in changed)
    if change.altered in shown or change.sentence in said_changed:
        return []  # the same is said in two ways, or too often
    if change.is_fact and writer.random.random() < _GAP_SHARE:
        question = gap_question(change.with_gap("____"), writer.random, new_wording)
        return _two_by_two(writer, documents, changed, (change.old, change.new), question)
    versions = retold((change.sentence, change.altered), writer.random.getrandbits(32), new_wording)
    other = writer.random.choice(page.sentences)
    if other != sentence and writer.random.random() < _BESIDE_SHARE and other.text in said_changed:
        versions = beside(versions, other.text, writer.random)
    return _two_by_two(writer, documents, changed, versions, _question(writer, documents, changed, new_wording))


def strangers_sentence(writer: Writer, page: Passage, new_wording: bool = False) -> list[Judged]:
    """A sentence of a page, and one of another page, told again in the same way."""
    documents = with_neighbour(writer, page)
    shown = "\n".join(document.text for document in documents)
    foreign = stranger(page, shown, writer.data, writer.split, writer.random)
    if foreign is None:
        return []
    versions = (writer.random.choice(page.sentences).text, foreign)
    own, wrong = retold(versions, writer.random.getrandbits(32), new_wording)
    conversation = opening(writer)
    conversation.documents = documents
    conversation.add("user", tell_prompt(documents, writer.random, new_wording))
    return [(replied(conversation, own), True), (replied(conversation, wrong), False)]


def altered_reply(writer: Writer, item: RealQuestion) -> list[Judged]:
    """A data set's reply, and the same altered; over altered documents as well, where the alteration touches them."""
    reply = item.reply or ""
    page = read_passage(item.documents[0], item.source)
    change = alteration(read_sentence(reply), page, writer.data, writer.split, writer.random)
    if change is None:
        return []
    conversation = Conversation(list(item.messages), list(item.documents))
    judged = [(replied(conversation, reply), True), (replied(conversation, change.altered), False)]
    changed = Conversation(conversation.messages, change.in_documents(item.documents))
    if change.is_fact and changed.documents != conversation.documents:
        judged += [(replied(changed, change.altered), True), (replied(changed, reply), False)]
    return _either_half(writer, judged)


def strangers_reply(writer: Writer, item: RealQuestion, items: Sequence[RealQuestion]) -> list[Judged]:
    """A data set's reply, and one that it gives to another question, over other documents."""
    titles = {document.title for document in item.documents}
    for other in writer.random.choices(items, k=20):
        if other.source == item.source and not titles & {document.title for document in other.documents}:
            conversation = Conversation(list(item.messages), list(item.documents))
            return [(replied(conversation, item.reply or ""), True), (replied(conversation, other.reply or ""), False)]
    return []


def _two_by_two(
    writer: Writer, documents: list[Document], changed: list[Document], versions: Sequence[str], question: str
) -> list[Judged]:
    own, altered = versions
    conversation = opening(writer).add("user", question)
    conversation.documents = documents
    other = Conversation(conversation.messages, changed)
    judged = [(replied(conversation, own), True), (replied(conversation, altered), False)]
    judged += [(replied(other, altered), True), (replied(other, own), False)]
    return _either_half(writer, judged)


def _either_half(writer: Writer, judged: list[Judged]) -> list[Judged]:
    """Both halves of the four, in any order: what is cut off after two is as often the one as the other."""
    return judged[2:] + judged[:2] if len(judged) == 4 and writer.random.random() < 0.5 else judged


def _question(writer: Writer, documents: list[Document], changed: list[Document], new_wording: bool) -> str:
    """A question for what the documents say, by a title only where it does not change with them."""
    kept = [old for old, new in zip(documents, changed, strict=True) if old.title == new.title]
    return tell_prompt(kept, writer.random, new_wording)
