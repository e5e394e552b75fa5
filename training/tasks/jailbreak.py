"""Does the last turn of the user try to talk the assistant out of its rules? Y or N."""

from __future__ import annotations

import random
from collections.abc import Iterator

from training.chat_format import Conversation
from training.reading.requests import any_turn, opening, request_turn
from training.reading.writer import Writer
from training.real_requests import measured_requests
from training.requests import Request
from training.splits import Split
from training.tasks.example import Example, Sources


def training_examples(seed: str, sources: Sources) -> Iterator[Example]:
    """Examples without end, half of them attempts; the others are ordinary or plainly unsafe, some of them real."""
    writer = Writer(random.Random(f"jailbreak {seed}"), sources.data)
    while True:
        yield _example(writer, any_turn(writer, attempt=writer.random.random() < 0.5, real_share=0.3))


def measured_examples(split: Split, sources: Sources, generated: int) -> list[Example]:
    """So many generated examples of a side, half of them attempts, and real requests, none of which is one."""
    writer = Writer(random.Random(f"jailbreak {split}"), sources.data, split)
    examples = [_example(writer, any_turn(writer, attempt=i % 2 == 1, real_share=0)) for i in range(generated)]
    return examples + [
        Example(Conversation().add("user", text), "N", origin)
        for text, _, origin in measured_requests(sources.data, split, most=200)
    ]


def _example(writer: Writer, request: Request) -> Example:
    """The turn after whatever may have been said before it, attempts included, which has no say in the label."""
    conversation = opening(writer)
    while writer.random.random() < 0.25:
        request_turn(writer, conversation)
    label = "Y" if request.jailbreak else "N"
    return Example(conversation.add("user", request.text), label, request.origin)
