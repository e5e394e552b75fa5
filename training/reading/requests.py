"""Requests, harmless and unsafe, small talk and system turns, as the base model reads them."""

from __future__ import annotations

from training.chat_format import Conversation
from training.reading.writer import Writer
from training.real_text import harmless_requests, unsafe_requests
from training.requests import helpful, refusal, request_text, small_talk, system_text
from training.splits import items_of

_THANKS = ("Thanks!", "Thank you.", "ok thanks", "Good to know.")
_WELCOME = ("You are welcome.", "Glad to help.", "Is there anything else you would like to know?")


def opening(writer: Writer) -> Conversation:
    """An empty conversation, or one with a system turn or a greeting."""
    conversation = Conversation()
    if writer.random.random() < 0.2:
        conversation.add("system", system_text(writer.random))
    if writer.random.random() < 0.08:
        small_talk_turn(writer, conversation)
    return conversation


def small_talk_turn(writer: Writer, conversation: Conversation) -> None:
    """Appends a greeting or the like, and its reply."""
    user, assistant = small_talk(writer.random)
    conversation.add("user", user).add("assistant", assistant)


def aside_turn(writer: Writer, conversation: Conversation) -> None:
    """Now and then, people talk of something else."""
    roll = writer.random.random()
    if roll < 0.06:
        request_turn(writer, conversation)
    elif roll < 0.14:
        conversation.add("user", writer.random.choice(_THANKS)).add("assistant", writer.random.choice(_WELCOME))


def request_turn(writer: Writer, conversation: Conversation) -> None:
    """Appends a request, harmless or unsafe, and what the assistant says to it."""
    unsafe = writer.random.random() < 0.5
    pool = self.real.unsafe if unsafe else self.real.harmless
    if pool and writer.random.random() < 0.4:
        text = writer.random.choice(pool)
    else:
        text = request_text("unsafe" if unsafe else "harmless", writer.random)
    conversation.add("user", text).add("assistant", refusal(writer.random) if unsafe else helpful(writer.random))


def request_chat(writer: Writer) -> Conversation:
    """Requests, harmless and unsafe, with their answers."""
    conversation = opening(writer)
    for _ in range(writer.random.choice((1, 1, 2, 3))):
        roll = writer.random.random()
        if roll < 0.08:
            small_talk_turn(writer, conversation)
        elif roll < 0.16:
            closed_book_turn(writer, conversation, familiar(writer), False)
        else:
            request_turn(writer, conversation)
    return conversation
