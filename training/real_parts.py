"""The real items of one side of the split into training and held-out."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from training import real_text


@dataclass(frozen=True)
class RealParts:
    """The real items of one side of the split."""

    unsafe: list[str]
    harmless: list[str]
    grounded: list[real_text.Grounded]
    choices: list[real_text.Choice]
    prose: list[str]

    @staticmethod
    def read(data: Path | None, held_out: bool = False) -> RealParts:
        """Reads everything but the held-out fifth, or that fifth; without a data folder, there is nothing."""
        if data is None:
            return RealParts([], [], [], [], [])
        grounded = real_text.grounded_replies(data)
        return RealParts(
            unsafe=real_text.split(real_text.unsafe_requests(data), held_out),
            harmless=real_text.split(real_text.harmless_requests(data), held_out),
            grounded=[g for g in grounded if real_text.is_held_out_grounded(g) == held_out],
            choices=[c for c in real_text.choices(data) if real_text.is_held_out_choice(c) == held_out],
            prose=[] if held_out else real_text.prose(data),
        )


def choice_question(item: real_text.Choice, generator: random.Random) -> str:
    """The question with the possible replies, in any order."""
    if len(item.replies) == 2:
        return item.question
    replies = list(item.replies)
    generator.shuffle(replies)
    return f"{item.question} {'; '.join(replies)}?"
