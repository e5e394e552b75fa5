"""Query rewrite: the user's last question, written so that it can be understood without the conversation."""

from __future__ import annotations

import random
from collections.abc import Iterator

from training.chat_format import Conversation
from training.reading.writer import Writer
from training.real_documents import Rewrite, rewrites
from training.rewriting import follow_up
from training.splits import Split
from training.tasks.example import Example, Sources

_REAL_SHARE = 0.15
# So many of a real conversation's questions are kept: the last ones, which a follow-up nearly always refers to.
_KEPT = 4


def training_examples(seed: str, sources: Sources) -> Iterator[Example]:
    """Endless examples, some of them real where there is real data."""
    writer = Writer(random.Random(f"query rewrite {seed}"), sources.data)
    items = rewrites(sources.data, "train")
    while True:
        if items and writer.random.random() < _REAL_SHARE:
            yield _real(writer.random.choice(items))
        else:
            yield Example(*follow_up(writer), "generated")


def measured_examples(split: Split, sources: Sources, generated: int) -> list[Example]:
    """So many generated examples, half of them in words that training never uses, and every real one."""
    writer = Writer(random.Random(f"query rewrite {split}"), sources.data, split)
    found = [Example(*follow_up(writer), "generated") for _ in range(generated // 2)]
    while len(found) < generated:
        found.append(Example(*follow_up(writer, new_wording=True), "generated, new wording"))
    return found + [_real(item) for item in rewrites(sources.data, split)]


def _real(item: Rewrite) -> Example:
    conversation = Conversation()
    for question in item.questions[-_KEPT:]:
        conversation.add("user", question)
    return Example(conversation, item.standalone, "real: mt-rag")
