"""Writes labelled conversations for an intrinsic that says whether the last message asks something.

    python examples/train/make_data.py 300 > train.jsonl
    python examples/train/make_data.py 200 --held-out > test.jsonl

Half of the messages are questions, and half of all lack the mark at their end, so that it takes more than a look at
that. The held-out ones are about other things.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

THINGS = (
    "garden",
    "boat",
    "river",
    "teacher",
    "apple",
    "machine",
    "window",
    "letter",
    "song",
    "forest",
    "engine",
    "dog",
)
OTHER_THINGS = ("kitchen", "train", "island", "doctor", "lemon", "clock", "door", "parcel", "poem", "valley", "wheel")
QUESTIONS = (
    "where is the {}",
    "is the {} blue",
    "can you find my {}",
    "how old is this {}",
    "who has seen the {}",
    "why do you like the {}",
    "do we need another {}",
    "what happened to the {}",
)
STATEMENTS = (
    "the {} is blue",
    "i have found my {}",
    "this {} is very old",
    "we saw the {} yesterday",
    "you like the {}",
    "they do not need another {}",
    "nobody knows where the {} is",
    "something happened to the {}",
)


def message(draw: random.Random, things: Sequence[str], *, asks: bool) -> str:
    """A question or a statement, with or without the mark at its end."""
    text = draw.choice(QUESTIONS if asks else STATEMENTS).format(draw.choice(things))
    return text[0].upper() + text[1:] + draw.choice(("", "?" if asks else "."))


def conversations(count: int, things: Sequence[str], seed: int) -> Iterator[dict[str, Any]]:
    """Conversations with their labels; one in three has turns before the message that is asked about."""
    draw = random.Random(seed)
    for number in range(count):
        messages = []
        if draw.random() < 1 / 3:
            messages.append({"role": "user", "content": message(draw, things, asks=draw.random() < 0.5)})
            messages.append({"role": "assistant", "content": message(draw, things, asks=draw.random() < 0.5)})
        asks = number % 2 == 0
        messages.append({"role": "user", "content": message(draw, things, asks=asks)})
        yield {"messages": messages, "completion": "Y" if asks else "N"}


def main() -> None:
    """Writes the lines to standard output."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, help="how many conversations")
    parser.add_argument("--held-out", action="store_true", help="conversations about other things")
    arguments = parser.parse_args()
    things = OTHER_THINGS if arguments.held_out else THINGS
    for conversation in conversations(arguments.count, things, seed=int(arguments.held_out)):
        print(json.dumps(conversation))


if __name__ == "__main__":
    main()
