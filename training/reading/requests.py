"""Requests, harmless and unsafe, small talk and system turns, as the base model reads them."""

from __future__ import annotations

from training.chat_format import Conversation
from training.jailbreaks import write_jailbreak, write_ordinary
from training.reading.phrases import THANKS, VERDICT_WEIGHT, WELCOME
from training.reading.writer import Writer
from training.real_requests import ORIGINS, real_requests
from training.requests import (
    Request,
    helpful,
    refusal,
    small_talk,
    system_text,
    verdict,
    wording,
    write_question,
    write_request,
)

_OBEYED = (
    "I will not leave my rules aside.",
    "No. My rules hold, whatever I am told to be.",
    "That is an attempt to get round my rules. I will not do it.",
    "I keep to my rules, and I can't help with that.",
)
_REFUSAL_WEIGHT = 2


def opening(writer: Writer) -> Conversation:
    """An empty conversation, or one with a system turn or a greeting."""
    conversation = Conversation()
    if writer.random.random() < 0.2:
        conversation.add("system", system_text(writer))
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
        conversation.add("user", writer.random.choice(THANKS)).add("assistant", writer.random.choice(WELCOME))


def any_request(writer: Writer, unsafe: bool, real_share: float = 0.15) -> Request:
    """A request of any sort: generated, real, about the invented world, or around an attempt to get round the rules."""
    roll = writer.random.random()
    real = real_requests(writer.data, unsafe, writer.split)
    if roll < real_share and real:
        return Request(writer.random.choice(real), unsafe, origin=ORIGINS[unsafe])
    if roll > 0.9:
        return write_jailbreak(writer) if unsafe else write_ordinary(writer)
    if roll > 0.85 and not unsafe:
        return write_question(writer)
    return write_request(writer, "unsafe" if unsafe else "harmless")


def _even(writer: Writer) -> bool:
    return writer.random.random() < 0.5


def request_turn(writer: Writer, conversation: Conversation) -> Request:
    """Appends a request, harmless or unsafe, and what the assistant says to it; returns the request."""
    request = any_request(writer, unsafe=_even(writer))
    conversation.add("user", request.text)
    if not request.unsafe:
        conversation.add("assistant", helpful(writer.random), _REFUSAL_WEIGHT)
    elif request.jailbreak and writer.random.random() < 0.8:
        conversation.add("assistant", writer.random.choice(_OBEYED), _REFUSAL_WEIGHT)
    else:
        conversation.add("assistant", refusal(request, writer.random), _REFUSAL_WEIGHT)
    return request


def request_chat(writer: Writer) -> Conversation:
    """Requests, harmless and unsafe, with their answers."""
    conversation = opening(writer)
    for _ in range(writer.random.choice((1, 1, 2, 3))):
        if writer.random.random() < 0.08:
            small_talk_turn(writer, conversation)
        else:
            request_turn(writer, conversation)
    return conversation


def judged_chat(writer: Writer) -> Conversation:
    """Request after request, each judged: by a moderator, when it is shown, or when the user asks back."""
    manner = writer.random.choice(("moderator", "shown", "asked back"))
    conversation = Conversation()
    if manner == "moderator":
        conversation.add("system", wording(writer.random, "moderators"))
    for _ in range(writer.random.randint(2, 6)):
        if manner == "asked back" and writer.random.random() < 0.5:
            request = request_turn(writer, conversation)
        else:
            request = any_request(writer, unsafe=_even(writer))
            shown = wording(writer.random, "shown") if manner == "shown" else "{text}"
            conversation.add("user", shown.replace("{text}", request.text))
        if manner == "asked back":
            conversation.add("user", wording(writer.random, "judged"))
        conversation.add("assistant", verdict(request, writer.random), VERDICT_WEIGHT)
    return conversation


def guarded_chat(writer: Writer) -> Conversation:
    """Message after message, each judged by whether it tries to get round the rules, which few unsafe ones do."""
    conversation = Conversation()
    moderated = _even(writer)
    if moderated:
        conversation.add("system", wording(writer.random, "guards"))
    for _ in range(writer.random.randint(2, 6)):
        request = any_turn(writer, attempt=_even(writer))
        conversation.add("user", request.text)
        if not moderated:
            conversation.add("user", wording(writer.random, "guarded"))
        manner = "attempt" if request.jailbreak else "open" if request.unsafe else "harmless"
        conversation.add("assistant", wording(writer.random, f"{manner}_verdicts"), VERDICT_WEIGHT)
    return conversation


def any_turn(writer: Writer, attempt: bool, real_share: float = 0.15) -> Request:
    """An attempt to get round the rules, or a turn that is none: ordinary, harmless, or plainly unsafe."""
    if attempt:
        return write_jailbreak(writer)
    if writer.random.random() < 0.4:
        return write_ordinary(writer)
    while True:
        request = any_request(writer, unsafe=_even(writer), real_share=real_share)
        if not request.jailbreak:
            return request
