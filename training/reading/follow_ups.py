"""What a user asks about a question: whether the documents answer it, and how it reads on its own."""

from __future__ import annotations

from training.answering import scene_questions, with_wrong_passage
from training.chat_format import Conversation
from training.reading.phrases import VERDICT_WEIGHT
from training.reading.requests import opening
from training.reading.writer import Writer
from training.real_documents import questions, rewrites
from training.rewriting import follow_up

_ANSWERED = (
    "Do the documents answer that?",
    "Can that be answered from the documents?",
    "Is the answer in the documents?",
    "Do the documents say?",
)
_THEY_DO = ("Yes, they do.", "Yes, the answer is there.")
_THEY_DO_NOT = ("No, they do not say.", "No, the answer is not there.")
_REWRITE = (
    "Please put my last question so that it can be understood on its own.",
    "Write my last question so that it stands alone.",
    "Say my question again in full.",
    "What exactly did I ask?",
)
_REWRITE_WEIGHT = 3


def answerability_chat(writer: Writer) -> Conversation:
    """Questions about a scene, each followed by whether the documents answer it."""
    documents, asked = scene_questions(writer, writer.random.randint(3, 7))
    conversation = opening(writer)
    conversation.documents = documents
    for question, answerable in asked:
        _ask_whether(writer, conversation, question, answerable)
    return conversation


def real_answerability_chat(writer: Writer) -> Conversation | None:
    """Real questions over a real passage: its own, and some that strangers asked of others."""
    items = [item for item in questions(writer.data, writer.split) if item.documents]
    if not items:
        return None
    item = writer.random.choice(items)
    conversation = Conversation(list(item.messages), list(item.documents))
    wrong = with_wrong_passage(writer, item) if writer.random.random() < 0.4 else None
    if wrong:
        conversation = wrong
    question = conversation.messages.pop().text
    _ask_whether(writer, conversation, question, item.answerable and not wrong)
    for stranger in writer.random.sample(items, 3):
        if stranger.documents[0].title not in {document.title for document in conversation.documents}:
            _ask_whether(writer, conversation, stranger.messages[-1].text, False)
    return conversation


def _ask_whether(writer: Writer, conversation: Conversation, question: str, answerable: bool) -> None:
    ask = writer.random.choice(_ANSWERED)
    verdict = writer.random.choice(_THEY_DO if answerable else _THEY_DO_NOT)
    if writer.random.random() < 0.7:  # as the intrinsic finds it: the question is a turn of its own
        conversation.add("user", question).add("user", ask)
    else:
        conversation.add("user", f"{question} {ask}")
    conversation.add("assistant", verdict, VERDICT_WEIGHT)


def rewrite_chat(writer: Writer) -> Conversation:
    """A conversation whose last question is written once more, in full."""
    if writer.data and writer.random.random() < 0.15:
        items = rewrites(writer.data, writer.split)
        if items:
            item = writer.random.choice(items)
            conversation = Conversation()
            for question in item.questions[-4:]:
                conversation.add("user", question)
            return _ask_to_rewrite(writer, conversation, item.standalone)
    return _ask_to_rewrite(writer, *follow_up(writer))


def _ask_to_rewrite(writer: Writer, conversation: Conversation, standalone: str) -> Conversation:
    conversation.add("user", writer.random.choice(_REWRITE))
    return conversation.add("assistant", standalone, _REWRITE_WEIGHT)
