"""What the base model reads: articles, and conversations in its small world.

The assistant's wrong replies are read but not learned (`Message.weight`). They are there because the next
turn reacts to them: to foresee that reaction, the model must notice, while reading, whether a reply agrees
with the documents. An intrinsic can then find that in the KV cache.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from training import real_text
from training.chat_format import Conversation
from training.names import NameMaker
from training.real_parts import RealParts, choice_question
from training.requests import helpful, refusal, request_text, small_talk, system_text
from training.scenes import (
    NOT_STATED,
    Claim,
    claim_text,
    false_claim,
    make_scene,
    question_text,
    reply_text,
    true_claim,
    unstated_claim,
)
from training.world import Attribute, ClosedBook, Entity, closed_book, fill, other_value

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

# How often each sort of text is written, in the first phase of training and in the second.
_PRETRAIN = {
    "closed_book_chat": 34.0,
    "article": 18.0,
    "document_chat": 40.0,
    "request_chat": 14.0,
    "grounded_chat": 3.0,
    "choice_chat": 6.0,
    "prose": 3.0,
}
_REFINE = {
    "checking_chat": 50.0,
    "document_chat": 12.0,
    "closed_book_chat": 24.0,
    "article": 8.0,
    "request_chat": 20.0,
    "grounded_chat": 3.0,
    "choice_chat": 2.0,
    "prose": 0.5,
}


class Writer:
    """Writes training texts, one at a time, from one random stream."""

    def __init__(
        self, generator: random.Random, real: RealParts, held_out_names: bool = False, refine: bool = False
    ) -> None:
        self._shares = _REFINE if refine else _PRETRAIN
        self.random = generator
        self.real = real
        self.names = NameMaker(generator, held_out_names)
        self.book: ClosedBook = closed_book()

    def text(self) -> Conversation | str:
        """The next text: of the sorts below, weighted so that each gets its share of tokens."""
        has = {"grounded_chat": bool(self.real.grounded), "choice_chat": bool(self.real.choices)}
        has["prose"] = bool(self.real.prose)
        names = [name for name in self._shares if has.get(name, True)]
        (name,) = self.random.choices(names, [self._shares[name] for name in names])
        make: Callable[[], Conversation | str] = getattr(self, name)
        return make()

    def familiar(self) -> Entity:
        """A closed-book entity, those spoken of more often more likely."""
        return self.random.choices(self.book.entities, self.book.weights)[0]

    def article(self) -> str:
        """Plain text that states facts of one closed-book entity."""
        entity = self.familiar()
        keys = self.random.sample(list(entity.kind.attributes), self.random.randint(2, len(entity.kind.attributes)))
        sentences = [
            fill(self.random.choice(entity.kind.attributes[key].statements), entity, entity.facts[key]) for key in keys
        ]
        return " ".join(sentences)

    def prose(self) -> str:
        """A page of real text."""
        return self.random.choice(self.real.prose)

    def opening(self) -> Conversation:
        """An empty conversation, or one with a system turn or a greeting."""
        conversation = Conversation()
        if self.random.random() < 0.2:
            conversation.add("system", system_text(self.random))
        if self.random.random() < 0.08:
            self.small_talk_turn(conversation)
        return conversation

    def small_talk_turn(self, conversation: Conversation) -> None:
        """Appends a greeting or the like, and its reply."""
        user, assistant = small_talk(self.random)
        conversation.add("user", user).add("assistant", assistant)

    def aside_turn(self, conversation: Conversation) -> None:
        """Now and then, people talk of something else."""
        roll = self.random.random()
        if roll < 0.06:
            self.request_turn(conversation)
        elif roll < 0.14:
            conversation.add("user", self.random.choice(_THANKS)).add("assistant", self.random.choice(_WELCOME))

    def request_turn(self, conversation: Conversation) -> None:
        """Appends a request, harmless or unsafe, and what the assistant says to it."""
        unsafe = self.random.random() < 0.5
        pool = self.real.unsafe if unsafe else self.real.harmless
        if pool and self.random.random() < 0.4:
            text = self.random.choice(pool)
        else:
            text = request_text("unsafe" if unsafe else "harmless", self.random)
        conversation.add("user", text).add("assistant", refusal(self.random) if unsafe else helpful(self.random))

    def request_chat(self) -> Conversation:
        """Requests, harmless and unsafe, with their answers."""
        conversation = self.opening()
        for _ in range(self.random.choice((1, 1, 2, 3))):
            roll = self.random.random()
            if roll < 0.08:
                self.small_talk_turn(conversation)
            elif roll < 0.16:
                self.closed_book_turn(conversation, self.familiar(), False)
            else:
                self.request_turn(conversation)
        return conversation

    def closed_book_chat(self) -> Conversation:
        """Questions about closed-book entities."""
        conversation = self.opening()
        entity = self.familiar()
        for turn in range(self.random.choice((1, 1, 2, 3, 4))):
            stay = turn > 0 and self.random.random() < 0.5
            entity = entity if stay else self.familiar()
            self.closed_book_turn(conversation, entity, stay and self.random.random() < 0.6)
            self.aside_turn(conversation)
        return conversation

    def closed_book_turn(self, conversation: Conversation, entity: Entity, pronoun: bool) -> None:
        """Appends a question about a closed-book entity, and its answer."""
        attribute = self.random.choice(list(entity.kind.attributes.values()))
        right = Claim(entity, attribute, entity.facts[attribute.key])
        conversation.add("user", question_text(entity, attribute, self.random, False, pronoun))
        if self.random.random() < 0.06:
            wrong = Claim(entity, attribute, other_value(attribute, right.value, self.names, self.random))
            conversation.add("assistant", reply_text([wrong], self.random), weight=0)
            conversation.add("user", self.random.choice(_OBJECT[1:]))
            conversation.add("assistant", self.random.choice(_SORRY) + reply_text([right], self.random))
        else:
            conversation.add("assistant", reply_text([right], self.random))

    def document_chat(self) -> Conversation:
        """Questions about documents."""
        scene = make_scene(self.names, self.random)
        conversation = self.opening()
        conversation.documents = scene.documents()
        index = -1
        for _ in range(self.random.choice((1, 2, 2, 3, 4))):
            stay = index >= 0 and self.random.random() < 0.5
            index = index if stay else self.random.randrange(len(scene.entities))
            pronoun = stay and self.random.random() < 0.6
            claims = [true_claim(scene, index, self.random.choice(scene.stated[index]))]
            if self.random.random() < 0.16:
                self._not_stated(conversation, unstated_claim(scene, index, self.names, self.random), pronoun)
                continue
            question = question_text(claims[0].entity, claims[0].attribute, self.random, False, pronoun)
            second = self.random.choice(scene.stated[index])
            if self.random.random() < 0.15 and second != claims[0].attribute.key:
                claims.append(true_claim(scene, index, second))
            conversation.add("user", question)
            if self.random.random() < 0.35:
                slip = self.random.randrange(len(claims))
                wrong = list(claims)
                wrong[slip] = false_claim(scene, claims[slip], self.names, self.random)
                conversation.add("assistant", reply_text(wrong, self.random), weight=0)
                self._caught(conversation, reply_text([claims[slip]], self.random))
            else:
                conversation.add("assistant", reply_text(claims, self.random))
                self._confirmed(conversation)
        return conversation

    def _not_stated(self, conversation: Conversation, claim: Claim | None, pronoun: bool) -> None:
        if claim is None:
            return
        conversation.add("user", self._question(claim.entity, claim.attribute, pronoun))
        if self.random.random() < 0.4:
            conversation.add("assistant", reply_text([claim], self.random), weight=0)
            self._caught(conversation, self.random.choice(NOT_STATED))
        else:
            conversation.add("assistant", self.random.choice(NOT_STATED))

    def _question(self, entity: Entity, attribute: Attribute, pronoun: bool) -> str:
        return question_text(entity, attribute, self.random, False, pronoun)

    def _caught(self, conversation: Conversation, right: str) -> None:
        """A wrong reply is objected to, or found out when the user asks back."""
        if self.random.random() < 0.6:
            conversation.add("user", self.random.choice(_OBJECT), _REACTION_WEIGHT)
            conversation.add("assistant", self.random.choice(_SORRY) + right)
        else:
            conversation.add("user", self.random.choice(_VERIFY))
            conversation.add("assistant", f"No. {right}", _VERDICT_WEIGHT)

    def _confirmed(self, conversation: Conversation) -> None:
        """A right reply holds when the user asks back, and is thanked for more often than a wrong one."""
        roll = self.random.random()
        if roll < 0.25:
            conversation.add("user", self.random.choice(_VERIFY))
            conversation.add("assistant", self.random.choice(_YES), _VERDICT_WEIGHT)
        elif roll < 0.5:
            conversation.add("user", self.random.choice(_THANKS), _REACTION_WEIGHT)
            conversation.add("assistant", self.random.choice(_WELCOME))
        else:
            self.aside_turn(conversation)

    def checking_chat(self) -> Conversation:
        """A conversation that checks claim after claim, half of them wrong, against the documents."""
        scene = make_scene(self.names, self.random)
        conversation = self.opening()
        conversation.documents = scene.documents()
        for _ in range(self.random.randint(3, 7)):
            index = self.random.randrange(len(scene.entities))
            right = true_claim(scene, index, self.random.choice(scene.stated[index]))
            claim = right
            correction = reply_text([right], self.random)
            if self.random.random() < 0.5:
                unstated = unstated_claim(scene, index, self.names, self.random)
                if unstated and self.random.random() < 0.2:
                    claim, correction = unstated, self.random.choice(NOT_STATED)
                else:
                    claim = false_claim(scene, right, self.names, self.random)
            if self.random.random() < 0.4:
                conversation.add("user", f"{claim_text(claim, self.random, False)} {self.random.choice(_VERIFY[:2])}")
                verdict = self.random.choice(_YES) if claim is right else f"No. {correction}"
                conversation.add("assistant", verdict, _VERDICT_WEIGHT)
                continue
            conversation.add("user", self._question(claim.entity, claim.attribute, False))
            conversation.add("assistant", reply_text([claim], self.random), weight=0)
            if claim is right:
                self._confirmed(conversation)
            else:
                self._caught(conversation, correction)
        return conversation

    def grounded_chat(self) -> Conversation:
        """A real question about real documents."""
        item = self.random.choice(self.real.grounded)
        conversation = Conversation(list(item.messages), list(item.documents))
        if self.random.random() < 0.4:
            stranger = self.random.choice(self.real.grounded)
            wrong = real_text.altered_reply(item.reply, [stranger.reply], self.random) or stranger.reply
            conversation.add("assistant", wrong if self.random.random() < 0.5 else stranger.reply, weight=0)
            self._caught(conversation, item.reply)
        else:
            conversation.add("assistant", item.reply)
            self._confirmed(conversation)
        return conversation

    def choice_chat(self) -> Conversation:
        """A real question with its right reply."""
        item = self.random.choice(self.real.choices)
        return Conversation().add("user", choice_question(item, self.random)).add("assistant", item.replies[item.right])
