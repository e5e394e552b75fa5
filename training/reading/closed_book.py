"""The closed book: facts that the base model has to remember."""

from __future__ import annotations

def familiar(writer: Writer) -> Entity:
    """A closed-book entity, those spoken of more often more likely."""
    return writer.random.choices(self.book.entities, self.book.weights)[0]


def article(writer: Writer) -> str:
    """Plain text that states facts of one closed-book entity."""
    entity = familiar(writer)
    keys = writer.random.sample(list(entity.kind.attributes), writer.random.randint(2, len(entity.kind.attributes)))
    sentences = [
        fill(writer.random.choice(entity.kind.attributes[key].statements), entity, entity.facts[key]) for key in keys
    ]
    return " ".join(sentences)


def closed_book_chat(writer: Writer) -> Conversation:
    """Questions about closed-book entities."""
    conversation = opening(writer)
    entity = familiar(writer)
    for turn in range(writer.random.choice((1, 1, 2, 3, 4))):
        stay = turn > 0 and writer.random.random() < 0.5
        entity = entity if stay else familiar(writer)
        closed_book_turn(writer, conversation, entity, stay and writer.random.random() < 0.6)
        aside_turn(writer, conversation)
    return conversation


def closed_book_turn(writer: Writer, conversation: Conversation, entity: Entity, pronoun: bool) -> None:
    """Appends a question about a closed-book entity, and its answer."""
    attribute = writer.random.choice(list(entity.kind.attributes.values()))
    right = Claim(entity, attribute, entity.facts[attribute.key])
    conversation.add("user", question_text(entity, attribute, writer.random, False, pronoun))
    if writer.random.random() < 0.06:
        wrong = Claim(entity, attribute, other_value(attribute, right.value, writer.names, writer.random))
        conversation.add("assistant", reply_text([wrong], writer.random), weight=0)
        conversation.add("user", writer.random.choice(_OBJECT[1:]))
        conversation.add("assistant", writer.random.choice(_SORRY) + reply_text([right], writer.random))
    else:
        conversation.add("assistant", reply_text([right], writer.random))


def choice_chat(writer: Writer) -> Conversation:
    """A real question with its right reply."""
    item = writer.random.choice(self.real.choices)
    return Conversation().add("user", choice_question(item, writer.random)).add("assistant", item.replies[item.right])
