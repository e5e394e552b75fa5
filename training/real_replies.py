"""Replies about real documents, in pairs and fours that differ in one change, in the reply or in the documents."""

from __future__ import annotations

from collections.abc import Sequence

from training.chat_format import Conversation, Document
from training.reading.checking import tell_prompt
from training.reading.requests import opening
from training.reading.writer import Writer
from training.real_documents import RealQuestion
from training.retelling import retold
from training.scene_replies import Judged, replied
from training.statements import Passage, alteration, read_passage, read_passages, read_sentence, stranger


def altered_sentence(writer: Writer, page: Passage, new_wording: bool = False) -> list[Judged]:
    """A sentence of a page told again, right and wrong, over the page as it is and over the page altered."""
    sentence = writer.random.choice(page.sentences)
    change = alteration(sentence, page, writer.data, writer.split, writer.random)
    if change is None:
        return []
    documents = _documents(writer, page)
    changed = change.in_documents(documents)
    shown = "\n".join(document.text for document in documents)
    if change.altered in shown or change.sentence in "\n".join(document.text for document in changed):
        return []  # the same is said in two ways, or too often
    versions = retold((change.sentence, change.altered), writer.random.getrandbits(32), new_wording)
    return _two_by_two(writer, documents, changed, versions, new_wording)


def strangers_sentence(writer: Writer, page: Passage, new_wording: bool = False) -> list[Judged]:
    """A sentence of a page, and one of another page, told again in the same way."""
    documents = _documents(writer, page)
    shown = "\n".join(document.text for document in documents)
    foreign = stranger(page, shown, writer.data, writer.split, writer.random)
    if foreign is None:
        return []
    versions = (writer.random.choice(page.sentences).text, foreign)
    own, wrong = retold(versions, writer.random.getrandbits(32), new_wording)
    conversation = _asked(writer, documents, new_wording)
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
    if change.old and changed.documents != conversation.documents:
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
    writer: Writer, documents: list[Document], changed: list[Document], versions: Sequence[str], new_wording: bool
) -> list[Judged]:
    own, altered = versions
    conversation = _asked(writer, documents, new_wording)
    other = Conversation(list(conversation.messages), changed)
    if any(own_d.title != new_d.title for own_d, new_d in zip(documents, changed, strict=True)):
        other = _asked(writer, changed, new_wording)
    judged = [(replied(conversation, own), True), (replied(conversation, altered), False)]
    judged += [(replied(other, altered), True), (replied(other, own), False)]
    return _either_half(writer, judged)


def _either_half(writer: Writer, judged: list[Judged]) -> list[Judged]:
    """Both halves of the four, in any order: what is cut off after two is as often the one as the other."""
    return judged[2:] + judged[:2] if len(judged) == 4 and writer.random.random() < 0.5 else judged


def _documents(writer: Writer, page: Passage) -> list[Document]:
    """The page, now and then with another one."""
    documents = [page.document]
    if writer.random.random() < 0.2:
        other = writer.random.choice(read_passages(writer.data, writer.split)).document
        if other != page.document:
            documents.insert(writer.random.randrange(2), other)
    return documents


def _asked(writer: Writer, documents: list[Document], new_wording: bool) -> Conversation:
    """Someone asks what the documents say."""
    conversation = opening(writer)
    conversation.documents = list(documents)
    return conversation.add("user", tell_prompt(writer.random, conversation, new_wording))
