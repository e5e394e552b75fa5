"""Questions that need the conversation before them, and the same questions written so that they stand alone."""

from __future__ import annotations

from training.chat_format import Conversation
from training.reading.requests import opening
from training.reading.writer import Writer
from training.scenes import Scene, make_scene, near_name, pronoun_in, reply_text, true_claim
from training.world import Attribute, Entity, fill, make_entity

_AND_THIS = ("And the {n}?", "What about the {n}?", "and the {n}", "And {its} {n}?", "What is {its} {n}?", "{n}?")
_NEW_AND_THIS = ("How about the {n}, then?", "Now the {n}, please.")
_AND_THAT = ("And {e}?", "What about {e}?", "and {e}", "The same for {e}?", "And for {e}?")
_NEW_AND_THAT = ("How is it with {e}?", "Now {e}, please.")
_OTHER = ("What about the other one?", "And the other one?", "and the other {w}?", "What about the other {w}?")
_STANDALONE_NOUN = "What is the {noun} of {e}?"
_POSSESSIVES = {"it": "its", "he": "his", "she": "her"}


def follow_up(writer: Writer, new_wording: bool = False) -> tuple[Conversation, str]:
    """A conversation that ends in a question of the user, and that question so that it stands alone.

    A question that stands alone already stays as it is, to the letter.
    """
    scene = make_scene(writer.names, writer.random)
    conversation = opening(writer)
    if writer.random.random() < 0.6:
        conversation.documents = scene.documents()
    index = writer.random.randrange(len(scene.entities))
    entity = scene.entities[index]
    attributes = list(entity.kind.attributes.values())
    asked, *rest = writer.random.sample(attributes, len(attributes))
    question = writer.random.choice(asked.wordings("questions", False))
    if writer.random.random() < 0.2:
        return conversation.add("user", question_of(question, entity, writer)), conversation.messages[-1].text
    conversation.add("user", question_of(question, entity, writer))
    _answer(writer, conversation, scene, index, asked)
    while rest[1:] and writer.random.random() < 0.3:
        asked = rest.pop()
        question = writer.random.choice(asked.wordings("questions", False))
        conversation.add("user", fill(question, entity, name=pronoun_in(question, entity)))
        _answer(writer, conversation, scene, index, asked)
    roll = writer.random.random()
    if roll < 0.5:
        return _pronoun(writer, conversation, entity, rest[0], new_wording)
    by_noun = _STANDALONE_NOUN.replace("{noun}", rest[0].noun)
    # Said so, some questions are worded as only tests may word them.
    if roll < 0.7 and (new_wording or by_noun not in rest[0].wordings("questions", True)):
        pattern = writer.random.choice(_NEW_AND_THIS if new_wording else _AND_THIS)
        text = pattern.replace("{n}", rest[0].noun).replace("{its}", _POSSESSIVES[entity.pronoun])
        return conversation.add("user", text), fill(by_noun, entity)
    if roll < 0.9:
        return _another(writer, conversation, scene, entity, question, new_wording)
    other = make_entity(entity.kind, writer.names, writer.random)
    text = question_of(writer.random.choice(rest[0].wordings("questions", new_wording)), other, writer)
    return conversation.add("user", text), text


def question_of(template: str, entity: Entity, writer: Writer) -> str:
    """A question about an entity by its name, now and then without its question mark."""
    text = fill(template, entity)
    return text.rstrip("?") if writer.random.random() < 0.1 else text


def _answer(writer: Writer, conversation: Conversation, scene: Scene, index: int, attribute: Attribute) -> None:
    # The documents need not state it: such a reply is to be read, not to be learned.
    conversation.add("assistant", reply_text([true_claim(scene, index, attribute.key)], writer.random), weight=0)


def _pronoun(
    writer: Writer, conversation: Conversation, entity: Entity, attribute: Attribute, new_wording: bool
) -> tuple[Conversation, str]:
    """The entity is called by a pronoun or by what it is."""
    template = writer.random.choice(attribute.wordings("questions", new_wording))
    stand_in = pronoun_in(template, entity) if writer.random.random() < 0.7 else f"the {entity.kind.words[0]}"
    short, full = fill(template, entity, name=stand_in), fill(template, entity)
    if writer.random.random() < 0.3 and not new_wording:
        short = f"And {short[0].lower()}{short[1:]}"
    return conversation.add("user", short), full


def _another(
    writer: Writer, conversation: Conversation, scene: Scene, entity: Entity, question: str, new_wording: bool
) -> tuple[Conversation, str]:
    """The last question again, for another entity: a named one, or the only other one there is."""
    others = [other for other in scene.entities if other.kind is entity.kind and other is not entity]
    if len(others) == 1 and conversation.documents and writer.random.random() < 0.5 and not new_wording:
        text = writer.random.choice(_OTHER).replace("{w}", entity.kind.words[0])
        return conversation.add("user", text), fill(question, others[0])
    if others:
        other = writer.random.choice(others)
    else:
        other = make_entity(entity.kind, writer.names, writer.random)
        if writer.random.random() < 0.2:
            other.name = near_name(entity.name, writer.names, writer.random)
    pattern = writer.random.choice(_NEW_AND_THAT if new_wording else _AND_THAT)
    return conversation.add("user", fill(pattern, other)), fill(question, other)
