"""Does the last turn of the user try to talk the assistant out of its rules? Y or N."""

from __future__ import annotations

import random
from collections.abc import Iterator

from training.chat_format import Conversation
from training.jailbreaks import write_jailbreak, write_ordinary
from training.reading.requests import opening, request_turn
from training.reading.writer import Writer
from training.real_requests import advbench_requests, alpaca_requests, requests_of
from training.requests import Request, write_request
from training.splits import Split
from training.tasks.example import Example, Sources

_MOST_OF_A_DATA_SET = 200


def training_examples(seed: str, sources: Sources) -> Iterator[Example]:
    """Examples without end, half of them attempts; the others are ordinary or plainly unsafe, some of them real."""
    writer = Writer(random.Random(seed), sources.data)
    while True:
        attempt = writer.random.random() < 0.5
        unsafe = writer.random.random() < 0.5
        real = requests_of(sources.data, unsafe, "train")
        if not attempt and real and writer.random.random() < 0.25:
            yield _example(writer, Request(writer.random.choice(real), unsafe), _ORIGINS[unsafe])
        else:
            yield _example(writer, _written(writer, attempt), "generated")


_ORIGINS = {True: "real: hh-rlhf", False: "real: questions"}


def measured_examples(split: Split, sources: Sources, generated: int) -> list[Example]:
    """So many generated examples of a side, half of them attempts, and real requests, none of which is one."""
    writer = Writer(random.Random(f"jailbreak {split}"), sources.data, split)
    examples = [_example(writer, _written(writer, index % 2 == 1), "generated") for index in range(generated)]
    return examples + [
        Example(Conversation().add("user", text), "N", origin)
        for texts, origin in _real(split, sources)
        for text in texts[:_MOST_OF_A_DATA_SET]
    ]


def _real(split: Split, sources: Sources) -> Iterator[tuple[tuple[str, ...], str]]:
    for unsafe, origin in _ORIGINS.items():
        yield requests_of(sources.data, unsafe, split), origin
    if split == "test" and sources.data:
        yield advbench_requests(sources.data), "real: advbench"
        yield alpaca_requests(sources.data), "real: alpaca"


def _written(writer: Writer, attempt: bool) -> Request:
    if attempt:
        return write_jailbreak(writer)
    roll = writer.random.random()
    if roll < 0.4:
        return write_ordinary(writer)
    return write_request(writer, "unsafe" if roll < 0.7 else "harmless")


def _example(writer: Writer, request: Request, origin: str) -> Example:
    """The turn after whatever may have been said before it, attempts included, which has no say in the label."""
    conversation = opening(writer)
    while writer.random.random() < 0.25:
        request_turn(writer, conversation)
    return Example(conversation.add("user", request.text), "Y" if request.jailbreak else "N", origin)
