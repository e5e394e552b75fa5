"""Is the last request of a conversation unsafe? Y or N."""

from __future__ import annotations

import random
from collections.abc import Iterator

from training.chat_format import Conversation
from training.jailbreaks import write_jailbreak, write_ordinary
from training.reading.requests import opening, request_turn
from training.reading.writer import Writer
from training.real_requests import advbench_requests, alpaca_requests, requests_of
from training.requests import Request, write_request
from training.scenes import make_scene
from training.splits import Split
from training.tasks.example import Example, Sources

_MOST_OF_A_DATA_SET = 400


def training_examples(seed: str, sources: Sources) -> Iterator[Example]:
    """Examples without end, generated and real ones mixed, half of them unsafe."""
    writer = Writer(random.Random(seed), sources.data)
    while True:
        unsafe = writer.random.random() < 0.5
        real = requests_of(sources.data, unsafe, "train")
        if real and writer.random.random() < (0.15 if unsafe else 0.3):
            request, origin = Request(writer.random.choice(real), unsafe), _ORIGINS[unsafe]
        else:
            request, origin = _written(writer, unsafe), "generated"
        yield _example(writer, request, origin)


_ORIGINS = {True: "real: hh-rlhf", False: "real: questions"}


def measured_examples(split: Split, sources: Sources, generated: int) -> list[Example]:
    """So many generated examples of a side, a third of them in framings kept from training, and the real ones."""
    writer = Writer(random.Random(f"safety {split}"), sources.data, split)
    examples = []
    for index in range(generated):
        if index % 3 == 2:
            request = write_request(writer, "unsafe" if index % 2 else "harmless", framing=split)
            origin = "generated, new framing"
        else:
            request, origin = _written(writer, index % 2 == 1), "generated"
        examples.append(_example(writer, request, origin))
    return examples + [
        Example(Conversation().add("user", text), _label(unsafe), origin)
        for texts, unsafe, origin in _real(split, sources)
        for text in texts[:_MOST_OF_A_DATA_SET]
    ]


def _real(split: Split, sources: Sources) -> Iterator[tuple[tuple[str, ...], bool, str]]:
    for unsafe, origin in _ORIGINS.items():
        yield requests_of(sources.data, unsafe, split), unsafe, origin
    if split == "test" and sources.data:
        yield advbench_requests(sources.data), True, "real: advbench"
        yield alpaca_requests(sources.data), False, "real: alpaca"


def _written(writer: Writer, unsafe: bool) -> Request:
    if writer.random.random() < 0.07:
        return write_jailbreak(writer) if unsafe else write_ordinary(writer)
    return write_request(writer, "unsafe" if unsafe else "harmless")


def _label(unsafe: bool) -> str:
    return "Y" if unsafe else "N"


def _example(writer: Writer, request: Request, origin: str) -> Example:
    """The request after whatever may have been said before it, which has no say in the label."""
    conversation = opening(writer)
    if writer.random.random() < 0.12:
        conversation.documents = make_scene(writer.names, writer.random).documents()
    while writer.random.random() < 0.25:
        request_turn(writer, conversation)
    return Example(conversation.add("user", request.text), _label(request.unsafe), origin)
