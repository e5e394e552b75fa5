"""Hallucination: whether the assistant's last reply says something that the documents do not support."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TypeVar

from training.reading.writer import Writer
from training.real_documents import RealQuestion, replied_questions
from training.real_replies import altered_reply, altered_sentence, strangers_reply, strangers_sentence
from training.scene_replies import Judged, scene_replies
from training.splits import Split
from training.statements import Passage, read_passages
from training.tasks.example import Example, Sources

_REAL_SHARE = 0.5
_REPLY_SHARE = 0.3
_ALTERED_SHARE = 0.75
# At most so many pages and replies of a side are measured, evenly from all of them; each gives two examples.
_MEASURED = 120

_Item = TypeVar("_Item")


def training_examples(seed: str, sources: Sources) -> Iterator[Example]:
    """Endless examples, half of them from real documents where there are any."""
    writer = Writer(random.Random(f"hallucination {seed}"), sources.data)
    pages = read_passages(sources.data, "train")
    items, cumulative = replied_questions(sources.data, "train")
    while True:
        if not pages or writer.random.random() > _REAL_SHARE:
            yield from _examples(scene_replies(writer), "generated")
        elif items and writer.random.random() < _REPLY_SHARE:
            (item,) = writer.random.choices(items, cum_weights=cumulative)
            yield from _of_reply(writer, item, items, writer.random.random() < _ALTERED_SHARE)
        else:
            yield from _of_page(writer, writer.random.choice(pages), writer.random.random() < _ALTERED_SHARE, False)


def measured_examples(split: Split, sources: Sources, generated: int) -> list[Example]:
    """So many generated examples, half of them in words that training never uses, and hundreds of real ones."""
    writer = Writer(random.Random(f"hallucination {split}"), sources.data, split)
    found: list[Example] = []
    while len(found) < generated // 2:
        found += _examples(scene_replies(writer), "generated")
    del found[generated // 2 :]
    while len(found) < generated:
        found += _examples(scene_replies(writer, new_wording=True), "generated, new wording")
    del found[generated:]
    items, _ = replied_questions(sources.data, split)
    pages = read_passages(sources.data, split)
    for altered in (True, False):
        for item in _spread(items):
            found += _of_reply(writer, item, items, altered)[:2]
        for place, page in enumerate(_spread(pages)):
            found += _of_page(writer, page, altered, new_wording=place % 2 == 0)[:2]
    return found


def _of_reply(writer: Writer, item: RealQuestion, items: Sequence[RealQuestion], altered: bool) -> list[Example]:
    """A data set's reply with a wrong one: itself altered, where it can be, or a stranger's."""
    made = altered_reply(writer, item) if altered else []
    if made:
        return _examples(made, "real: altered reply")
    return _examples(strangers_reply(writer, item, items), "real: stranger's reply")


def _of_page(writer: Writer, page: Passage, altered: bool, new_wording: bool) -> list[Example]:
    """A sentence of a page with a wrong one: itself altered, where it can be, or a stranger's."""
    made = altered_sentence(writer, page, new_wording) if altered else []
    if made:
        return _examples(made, "real: altered sentence")
    return _examples(strangers_sentence(writer, page, new_wording), "real: stranger's sentence")


def _examples(judged: list[Judged], origin: str) -> list[Example]:
    return [Example(conversation, "N" if supported else "Y", origin) for conversation, supported in judged]


def _spread(items: Sequence[_Item]) -> Sequence[_Item]:
    return [items[i * len(items) // _MEASURED] for i in range(_MEASURED)] if len(items) > _MEASURED else items
