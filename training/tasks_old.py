"""Labelled examples for the intrinsics `safety` and `hallucination` (certainty.py makes those for `certainty`).

Held-out examples use reserved names, held-out phrases and wordings, and the held-out fifth of the real items.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from training import real_text
from training.chat_format import Conversation
from training.dialogues import Writer
from training.real_parts import RealParts
from training.requests import helpful, refusal, request_text, small_talk
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

INTRINSICS = ("safety", "hallucination", "certainty")
LABELS = {"safety": ("Y", "N"), "hallucination": ("Y", "N"), "certainty": tuple("0123456789")}


@dataclass(frozen=True)
class Example:
    """A conversation and the verdict on it.

    Attributes:
        conversation: What the intrinsic judges.
        label: What it should say.
        origin: The sort of example, such as `generated` or `real: advbench`; figures are told apart by it.
        right: For certainty, whether the reply is in fact right.
        weight: For certainty, how many measured answers this one stands for.
    """

    conversation: Conversation
    label: str
    origin: str
    right: bool | None = None
    weight: float = 1.0


def _copy(conversation: Conversation) -> Conversation:
    return Conversation(list(conversation.messages), list(conversation.documents))


class SafetyExamples:
    """Endless safety examples, half of them unsafe.

    The verdict is on the last request of the user; earlier turns may be of either sort.
    """

    def __init__(self, seed: str, data: Path | None, held_out: bool, new: str = "requests") -> None:
        """Makes examples from a seed.

        Args:
            seed: Which examples.
            data: The folder of real data, if there is one.
            held_out: Whether these are examples to measure on.
            new: What training never sees of held-out generated requests: the `requests` as a whole, or harder, their
                `framings`, or their `phrases`.
        """
        self._random = random.Random(f"safety {seed} {new}")
        self._real = RealParts.read(data, held_out)
        self._held_out = held_out
        self._new = new
        self._writer = Writer(self._random, self._real, held_out)

    def __iter__(self) -> Iterator[Example]:
        while True:
            yield self.generated()
            if self._real.unsafe:
                yield self.real()

    def _before(self) -> Conversation:
        """What was said before: usually nothing."""
        conversation = self._writer.opening()
        if self._random.random() < 0.12:
            conversation.documents = make_scene(self._writer.names, self._random).documents()
        while self._random.random() < 0.35:
            if self._random.random() < 0.5:
                self._writer.request_turn(conversation)
            else:
                self._writer.closed_book_turn(conversation, self._writer.familiar(), False)
        return conversation

    def _finish(self, conversation: Conversation, text: str, unsafe: bool, origin: str) -> Example:
        conversation.add("user", text)
        if self._random.random() < 0.15:
            conversation.add("assistant", refusal(self._random) if unsafe else helpful(self._random))
        return Example(conversation, "Y" if unsafe else "N", origin)

    def _request(self, label: str) -> str:
        while True:
            text = request_text(
                label,
                self._random,
                held_out=self._held_out and self._new == "phrases",
                held_out_framing=self._held_out and self._new == "framings",
            )
            reserved = zlib.crc32(text.lower().encode()) % 8 == 0
            if self._new != "requests" or reserved == self._held_out:
                return text

    def generated(self) -> Example:
        """A generated request."""
        conversation, roll = self._before(), self._random.random()
        if roll < 0.5:
            text = self._request("unsafe")
        elif roll < 0.85:
            text = self._request("harmless")
        elif roll < 0.88:
            text = small_talk(self._random)[0]
        else:
            scene = make_scene(self._writer.names, self._random)
            if self._random.random() < 0.7:
                conversation.documents = scene.documents()
            claim = true_claim(scene, 0, self._random.choice(scene.stated[0]))
            text = question_text(claim.entity, claim.attribute, self._random, self._held_out)
        origin = "generated" if self._new == "requests" else f"harder, new {self._new}"
        return self._finish(conversation, text, roll < 0.5, origin)

    def real(self) -> Example:
        """A real request."""
        unsafe = self._random.random() < 0.5
        text = self._random.choice(self._real.unsafe if unsafe else self._real.harmless)
        return self._finish(self._before(), text, unsafe, "real")


class HallucinationExamples:
    """Endless hallucination examples in pairs: one small change, in the reply or in a document, turns the verdict."""

    def __init__(self, seed: str, data: Path | None, held_out: bool, new_wording: bool = False) -> None:
        self._random = random.Random(f"hallucination {seed} {new_wording}")
        self._real = RealParts.read(data, held_out)
        self._held_out = held_out
        self._new_wording = new_wording
        self._writer = Writer(self._random, self._real, held_out)
        self._origin = "generated, new wording" if new_wording else "generated"

    def __iter__(self) -> Iterator[Example]:
        while True:
            yield from self.generated()
            if self._real.grounded and self._random.random() < 0.3:
                yield from self.real()

    def generated(self) -> list[Example]:
        """Two to four examples from one scene."""
        names, generator = self._writer.names, self._random
        scene = make_scene(names, generator)
        conversation = self._writer.opening()
        conversation.documents = scene.documents()
        index = generator.randrange(len(scene.entities))
        self._earlier_turns(conversation, scene, index)
        if generator.random() < 0.12:
            return self._about_unstated(conversation, scene, index)
        if generator.random() < 0.03:
            return self._no_claim(conversation)
        key = generator.choice(scene.stated[index])
        right = true_claim(scene, index, key)
        wrong = false_claim(scene, right, names, generator)
        pronoun = len(conversation.messages) > 1 and generator.random() < 0.3
        question = question_text(right.entity, right.attribute, generator, self._new_wording, pronoun)
        conversation.add("user", question)
        style = generator.random()
        others = [true_claim(scene, index, k) for k in scene.stated[index] if k != key]
        beside = [generator.choice(others)] if others and generator.random() < 0.2 else []
        pairs = [
            (conversation, self._reply(right, beside, style), "N"),
            (conversation, self._reply(wrong, beside, style), "Y"),
        ]
        if generator.random() < 0.35:
            changed = _copy(conversation)
            right.entity.facts[key] = wrong.value
            changed.documents = scene.documents()
            right.entity.facts[key] = right.value
            pairs.append((changed, pairs[1][1], "N"))
            pairs.append((changed, pairs[0][1], "Y"))
        elif generator.random() < 0.1:
            extra = unstated_claim(scene, index, names, generator)
            if extra:
                pairs.append((conversation, self._reply(right, [extra], style), "Y"))
                pairs.append((conversation, self._reply(right, others[:1], style), "N"))
        return [Example(_copy(c).add("assistant", text), label, self._origin) for c, text, label in pairs]

    def _reply(self, claim: Claim, beside: list[Claim], style: float) -> str:
        # The same style for both of a pair, so that nothing but the value tells them apart.
        generator = random.Random(style)
        return reply_text([claim, *beside], generator, self._new_wording)

    def _earlier_turns(self, conversation: Conversation, scene: Scene, index: int) -> None:
        """Earlier questions, also with wrong replies: the verdict is on the last one."""
        while self._random.random() < 0.3:
            claim = true_claim(scene, index, self._random.choice(scene.stated[index]))
            conversation.add("user", question_text(claim.entity, claim.attribute, self._random, False))
            if self._random.random() < 0.25:
                claim = false_claim(scene, claim, self._writer.names, self._random)
            conversation.add("assistant", reply_text([claim], self._random))

    def _about_unstated(self, conversation: Conversation, scene: Scene, index: int) -> list[Example]:
        claim = unstated_claim(scene, index, self._writer.names, self._random)
        if claim is None:
            return []
        question = question_text(claim.entity, claim.attribute, self._random, self._new_wording)
        conversation.add("user", question)
        replies = ((self._random.choice(NOT_STATED), "N"), (reply_text([claim], self._random, self._new_wording), "Y"))
        return [Example(_copy(conversation).add("assistant", text), label, self._origin) for text, label in replies]

    def _no_claim(self, conversation: Conversation) -> list[Example]:
        self._writer.small_talk_turn(conversation)
        return [Example(conversation, "N", self._origin)]

    def real(self) -> list[Example]:
        """A real reply, and one that the same documents do not support."""
        item = self._random.choice(self._real.grounded)
        others = [other for other in self._real.grounded if other.source == item.source]
        stranger = self._random.choice(others)
        while stranger.documents == item.documents:
            stranger = self._random.choice(others)
        altered = None
        if self._random.random() < 0.5:
            strangers = [other.reply for other in self._random.choices(others, k=20)]
            altered = real_text.altered_reply(item.reply, strangers, self._random)
        origin = "real, altered reply" if altered else "real, stranger's reply"
        base = Conversation(list(item.messages), list(item.documents))
        pairs = ((item.reply, "N"), (altered or stranger.reply, "Y"))
        return [Example(_copy(base).add("assistant", text), label, origin) for text, label in pairs]
