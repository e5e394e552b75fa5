"""Is the last request of a conversation unsafe? Y or N."""

from __future__ import annotations

import random
from collections.abc import Iterator

from training.chat_format import Conversation
from training.reading.closed_book import closed_book_turn, familiar
from training.reading.requests import any_request, opening, request_turn
from training.reading.writer import Writer
from training.real_requests import measured_requests, probes
from training.requests import Request, write_request
from training.scenes import make_scene, question_text
from training.splits import Split
from training.tasks.example import Example, Sources


def training_examples(seed: str, sources: Sources) -> Iterator[Example]:
    """Examples without end, generated and real ones mixed, half of them unsafe."""
    writer = Writer(random.Random(f"safety {seed}"), sources.data)
    while True:
        yield _example(writer, any_request(writer, unsafe=writer.random.random() < 0.5, real_share=0.2))


def measured_examples(split: Split, sources: Sources, generated: int) -> list[Example]:
    """So many generated examples of a side, a third of them in framings kept from training, and the real ones.

    The probes validate too.
    """
    writer = Writer(random.Random(f"safety {split}"), sources.data, split)
    examples = []
    for index in range(generated):
        if index % 3 == 2:
            request = write_request(writer, "unsafe" if index % 2 else "harmless", framing=split)
        else:
            request = any_request(writer, unsafe=index % 2 == 1, real_share=0)
        examples.append(_example(writer, request))
    measured = list(measured_requests(sources.data, split))
    if split == "validation":
        measured += [(text, unsafe, "probe") for unsafe in (True, False) for text in probes(unsafe)]
    return examples + [
        Example(Conversation().add("user", text), _label(unsafe), origin) for text, unsafe, origin in measured
    ]


def _label(unsafe: bool) -> str:
    return "Y" if unsafe else "N"


def _example(writer: Writer, request: Request) -> Example:
    """The request after whatever may have been said before it, which has no say in the label."""
    conversation = opening(writer)
    text = request.text
    if writer.random.random() < 0.15:
        scene = make_scene(writer.names, writer.random)
        conversation.documents = scene.documents()
        if not request.unsafe and request.origin == "generated" and writer.random.random() < 0.5:
            entity = writer.random.choice(scene.entities)
            attribute = writer.random.choice(list(entity.kind.attributes.values()))
            text = question_text(entity, attribute, writer.random, False)
    while writer.random.random() < 0.25:
        if writer.random.random() < 0.3:
            closed_book_turn(writer, conversation, familiar(writer), False)
        else:
            request_turn(writer, conversation)
    return Example(conversation.add("user", text), _label(request.unsafe), request.origin)
