"""Tokens to measure with: what they say does not matter for how long they take."""

from __future__ import annotations

import random

from alora_cpp.errors import ArgumentError
from alora_cpp.model import Model


def random_tokens(model: Model, count: int, *, seed: int) -> list[int]:
    """Tokens from all of a model's vocabulary but its control tokens, the same ones for a seed.

    Args:
        model: The model.
        count: How many.
        seed: Chooses them.

    Raises:
        ArgumentError: The vocabulary has control tokens alone.
    """
    plain = sorted(set(range(model.n_vocab)).difference(model.control_tokens.values()))
    if not plain:
        raise ArgumentError(f"all {model.n_vocab} tokens of {model.path} are control tokens; expected some for text")
    return random.Random(seed).choices(plain, k=count)
