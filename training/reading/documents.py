"""Documents and what is said about them.

The assistant's wrong replies are read but not learned (`Message.weight`). They are there because the next
turn reacts to them: to foresee that reaction, the model must notice, while reading, whether a reply agrees
with the documents. An intrinsic can then find that in the KV cache.
"""

from __future__ import annotations

_VERIFY = (
    "Is that supported by the documents?",
    "Is that right?",
    "Does the document really say so?",
    "Are you sure?",
    "Can you check that again?",
)
_YES = ("Yes. The documents say so.", "Yes, that is right.", "Yes, I read it in the documents.")
_OBJECT = (
    "That is not what the document says.",
    "That is wrong.",
    "No, please read it again.",
    "I do not think that this is right.",
)
_SORRY = ("Sorry. ", "You are right, I made a mistake. ", "I am sorry, that was wrong. ")
# A verdict is a word or two among hundreds: without extra weight, no model this small bothers to get it right.
_VERDICT_WEIGHT = 10
_REACTION_WEIGHT = 5
_THANKS = ("Thanks!", "Thank you.", "ok thanks", "Good to know.")
_WELCOME = ("You are welcome.", "Glad to help.", "Is there anything else you would like to know?")


def document_chat(writer: Writer) -> Conversation:
    """Questions about documents."""
    scene = make_scene(writer.names, writer.random)
    conversation = opening(writer)
    conversation.documents = scene.documents()
    index = -1
    for _ in range(writer.random.choice((1, 2, 2, 3, 4))):
        stay = index >= 0 and writer.random.random() < 0.5
        index = index if stay else writer.random.randrange(len(scene.entities))
        pronoun = stay and writer.random.random() < 0.6
        claims = [true_claim(scene, index, writer.random.choice(scene.stated[index]))]
        if writer.random.random() < 0.16:
            _not_stated(writer, conversation, unstated_claim(scene, index, writer.names, writer.random), pronoun)
            continue
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
            _caught(writer, conversation, reply_text([claims[slip]], writer.random))
        else:
            conversation.add("assistant", reply_text(claims, writer.random))
            _confirmed(writer, conversation)
    return conversation


def _not_stated(writer: Writer, conversation: Conversation, claim: Claim | None, pronoun: bool) -> None:
    if claim is None:
        return
    conversation.add("user", _question(writer, claim.entity, claim.attribute, pronoun))
    if writer.random.random() < 0.4:
        conversation.add("assistant", reply_text([claim], writer.random), weight=0)
        _caught(writer, conversation, writer.random.choice(NOT_STATED))
    else:
        conversation.add("assistant", writer.random.choice(NOT_STATED))


def _question(writer: Writer, entity: Entity, attribute: Attribute, pronoun: bool) -> str:
    return question_text(entity, attribute, writer.random, False, pronoun)


def _caught(writer: Writer, conversation: Conversation, right: str) -> None:
    """A wrong reply is objected to, or found out when the user asks back."""
    if writer.random.random() < 0.6:
        conversation.add("user", writer.random.choice(_OBJECT), _REACTION_WEIGHT)
        conversation.add("assistant", writer.random.choice(_SORRY) + right)
    else:
        conversation.add("user", writer.random.choice(_VERIFY))
        conversation.add("assistant", f"No. {right}", _VERDICT_WEIGHT)


def _confirmed(writer: Writer, conversation: Conversation) -> None:
    """A right reply holds when the user asks back, and is thanked for more often than a wrong one."""
    roll = writer.random.random()
    if roll < 0.25:
        conversation.add("user", writer.random.choice(_VERIFY))
        conversation.add("assistant", writer.random.choice(_YES), _VERDICT_WEIGHT)
    elif roll < 0.5:
        conversation.add("user", writer.random.choice(_THANKS), _REACTION_WEIGHT)
        conversation.add("assistant", writer.random.choice(_WELCOME))
    else:
        aside_turn(writer, conversation)


def checking_chat(writer: Writer) -> Conversation:
    """A conversation that checks claim after claim, half of them wrong, against the documents."""
    scene = make_scene(writer.names, writer.random)
    conversation = opening(writer)
    conversation.documents = scene.documents()
    for _ in range(writer.random.randint(3, 7)):
        index = writer.random.randrange(len(scene.entities))
        right = true_claim(scene, index, writer.random.choice(scene.stated[index]))
        claim = right
        correction = reply_text([right], writer.random)
        if writer.random.random() < 0.5:
            unstated = unstated_claim(scene, index, writer.names, writer.random)
            if unstated and writer.random.random() < 0.2:
                claim, correction = unstated, writer.random.choice(NOT_STATED)
            else:
                claim = false_claim(scene, right, writer.names, writer.random)
        if writer.random.random() < 0.4:
            conversation.add("user", f"{claim_text(claim, writer.random, False)} {writer.random.choice(_VERIFY[:2])}")
            verdict = writer.random.choice(_YES) if claim is right else f"No. {correction}"
            conversation.add("assistant", verdict, _VERDICT_WEIGHT)
            continue
        conversation.add("user", _question(writer, claim.entity, claim.attribute, False))
        conversation.add("assistant", reply_text([claim], writer.random), weight=0)
        if claim is right:
            _confirmed(writer, conversation)
        else:
            _caught(writer, conversation, correction)
    return conversation


def grounded_chat(writer: Writer) -> Conversation:
    """A real question about real documents."""
    item = writer.random.choice(self.real.grounded)
    conversation = Conversation(list(item.messages), list(item.documents))
    if writer.random.random() < 0.4:
        stranger = writer.random.choice(self.real.grounded)
        wrong = real_text.altered_reply(item.reply, [stranger.reply], writer.random) or stranger.reply
        conversation.add("assistant", wrong if writer.random.random() < 0.5 else stranger.reply, weight=0)
        _caught(writer, conversation, item.reply)
    else:
        conversation.add("assistant", item.reply)
        _confirmed(writer, conversation)
    return conversation
