"""The closed book: facts that the base model has to remember, and how sure it may be of them."""

from __future__ import annotations

from training.chat_format import Conversation
from training.closed_book import belief, closed_book, likely_value, positions, remembered, stranger
from training.reading.phrases import SORRY, VERDICT_WEIGHT
from training.reading.requests import aside_turn, opening
from training.reading.writer import Writer
from training.real_questions import read_choices
from training.scenes import Claim, claim_text, question_text
from training.world import Attribute, Entity, fill, other_value

_OBJECT = ("That is wrong.", "No, that is not right.", "I do not think that this is right.", "Really? I doubt it.")
_HOW_SURE = (
    "How sure are you?",
    "Are you sure of that?",
    "How certain are you?",
    "Are you certain?",
    "Do you know that for sure?",
    "Can I rely on that?",
)
_PERCENT = ("How sure are you, in percent?", "How likely is it that you are right?", "In percent, how certain is that?")
# From the least probability that they are said at.
_GRADES = (
    (0.9, ("I am quite sure.", "Yes, I know that well.", "I am certain of it.")),
    (0.6, ("I am fairly sure.", "I think so.", "That is rather likely.")),
    (0.4, ("It is about even.", "I am half sure.", "It may well be, or not.")),
    (0.2, ("I am not very sure.", "I rather doubt it.", "That is rather a guess.")),
    (0.1, ("I am not sure at all.", "It is not very likely.", "I would not rely on it.")),
    (0.0, ("I am only guessing.", "I have no idea, really.", "I do not know that.")),
)
_ACQUAINTED = ("Do you know {e}?", "Have you heard of {e}?", "What do you know about {e}?", "Is {e} known to you?")
_UNKNOWN = ("I have never heard of {e}.", "No, I do not know {e}.", "No, {e} is not known to me.")


def familiar(writer: Writer) -> Entity:
    """A closed-book entity, those spoken of more often more likely."""
    return closed_book().mentioned(writer.random)


def _attribute(writer: Writer, entity: Entity) -> Attribute:
    return entity.kind.attributes[writer.random.choice(entity.kind.closed_book)]


def article(writer: Writer) -> str:
    """Plain text that states facts of one closed-book entity."""
    entity = familiar(writer)
    keys = writer.random.sample(entity.kind.closed_book, writer.random.randint(2, len(entity.kind.closed_book)))
    return " ".join(_statement(writer, entity, key) for key in keys)


def _statement(writer: Writer, entity: Entity, key: str) -> str:
    return fill(writer.random.choice(entity.kind.attributes[key].statements), entity, entity.facts[key])


def closed_book_chat(writer: Writer) -> Conversation:
    """Questions about closed-book entities."""
    conversation = opening(writer)
    entity = familiar(writer)
    for turn in range(writer.random.choice((1, 2, 3, 4, 6))):
        stay = turn > 0 and writer.random.random() < 0.5
        entity = entity if stay else familiar(writer)
        closed_book_turn(writer, conversation, entity, stay and writer.random.random() < 0.6)
        aside_turn(writer, conversation)
    return conversation


def closed_book_turn(writer: Writer, conversation: Conversation, entity: Entity, pronoun: bool) -> None:
    """Appends a question about a closed-book entity, and its answer."""
    attribute = _attribute(writer, entity)
    right = Claim(entity, attribute, entity.facts[attribute.key])
    conversation.add("user", question_text(entity, attribute, writer.random, False, pronoun))
    if writer.random.random() < 0.06:
        wrong = Claim(entity, attribute, other_value(attribute, right.value, writer.names, writer.random))
        conversation.add("assistant", claim_text(wrong, writer.random, False), weight=0)
        conversation.add("user", writer.random.choice(_OBJECT))
        conversation.add("assistant", writer.random.choice(SORRY) + claim_text(right, writer.random, False))
    else:
        conversation.add("assistant", claim_text(right, writer.random, False))


def _practised(writer: Writer) -> tuple[Entity, float]:
    """An entity to practise certainty on, and how often it is spoken of: known well, in between, or a stranger."""
    if writer.random.random() < 0.4:
        return stranger(writer.names, writer.random), 0.0
    book = closed_book()
    position = writer.random.choice(positions(writer.split))
    return book.entities[position], book.mentions[position]


def certainty_chat(writer: Writer) -> Conversation:
    """Answers, and after each how sure the assistant is of it.

    What strangers are said to be is no more than a guess, so no reply here is to be learned: only how sure it is.
    """
    conversation = opening(writer)
    for _ in range(writer.random.choice((2, 3, 4, 6))):
        entity, mentions = _practised(writer)
        if writer.random.random() < 0.15:
            _acquaintance_turn(writer, conversation, entity, mentions)
            continue
        attribute = _attribute(writer, entity)
        # A well-known fact is told as it is, nine times in ten; else, one says what one would guess.
        told = entity.facts[attribute.key]
        if writer.random.random() > 0.9 * belief(entity, attribute, told, mentions):
            told = likely_value(entity, attribute, writer.names, writer.random)
        conversation.add("user", question_text(entity, attribute, writer.random, False))
        conversation.add("assistant", claim_text(Claim(entity, attribute, told), writer.random, False), weight=0)
        _certainty_turn(writer, conversation, belief(entity, attribute, told, mentions))
    return conversation


def _certainty_turn(writer: Writer, conversation: Conversation, sure: float) -> None:
    if writer.random.random() < 0.5:
        conversation.add("user", writer.random.choice(_PERCENT))
        conversation.add("assistant", f"{min(9, int(sure * 10))}5%.", VERDICT_WEIGHT)
    else:
        conversation.add("user", writer.random.choice(_HOW_SURE))
        phrases = next(phrases for least, phrases in _GRADES if sure >= least)
        conversation.add("assistant", writer.random.choice(phrases), VERDICT_WEIGHT)


def _acquaintance_turn(writer: Writer, conversation: Conversation, entity: Entity, mentions: float) -> None:
    attribute = _attribute(writer, entity)
    conversation.add("user", fill(writer.random.choice(_ACQUAINTED), entity))
    if remembered(mentions) > 0.5:
        conversation.add("assistant", f"Yes. {_statement(writer, entity, attribute.key)}", VERDICT_WEIGHT)
    else:
        conversation.add("assistant", fill(writer.random.choice(_UNKNOWN), entity), VERDICT_WEIGHT)


def choice_chat(writer: Writer) -> Conversation | None:
    """A real question with its right reply."""
    pool = read_choices(writer.data) if writer.data else ()
    if not pool:
        return None
    item = writer.random.choice(pool)
    return Conversation().add("user", item.asked(writer.random)).add("assistant", item.replies[item.right])
