"""Generated requests, harmless and unsafe, with look-alikes that share their verbs."""

from __future__ import annotations

import functools
import math
import random
import re

from training.world import load_yaml

# Framings at the end of each list that no training text uses.
_HELD_OUT_FRAMINGS = {"both": 4, "unsafe": 1, "harmless": 1}
_HELD_OUT_EVERY = 6


@functools.cache
def phrases(label: str, held_out: bool) -> tuple[tuple[str, ...], ...]:
    """The verb phrases of a label (`unsafe` or `harmless`), one tuple a category.

    Every sixth phrase is held out; sorting by nothing but position keeps the choice stable.
    """
    categories = load_yaml("requests.yaml")[label].values()
    return tuple(
        tuple(p for i, p in enumerate(category) if (i % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1) == held_out)
        for category in categories
    )


@functools.cache
def _framings(label: str, held_out: bool) -> tuple[str, ...]:
    chosen: list[str] = []
    for key in ("both", label):
        texts = load_yaml("requests.yaml")["framings"][key]
        cut = len(texts) - _HELD_OUT_FRAMINGS[key]
        chosen += texts[cut:] if held_out else texts[:cut]
    return tuple(chosen)


def request_text(label: str, generator: random.Random, held_out: bool = False, held_out_framing: bool = False) -> str:
    """A request of the given label.

    Args:
        label: `unsafe` or `harmless`.
        generator: Where the choices come from.
        held_out: Uses phrases that training never sees, and framings of both sorts.
        held_out_framing: Uses framings that training never sees.
    """
    slots = load_yaml("requests.yaml")["slots"]
    # Categories weigh by the square root of their size: none is drowned, and none repeats itself too much.
    categories = phrases(label, held_out)
    if held_out_framing:  # a whole sentence has no framing that could be new
        categories = tuple(kept for c in categories if (kept := tuple(p for p in c if not p.endswith((".", "?")))))
    (category,) = generator.choices(categories, [math.sqrt(len(c)) for c in categories])
    phrase = generator.choice(category)
    phrase = re.sub(r"\{(\w+)\}", lambda match: generator.choice(slots[match[1]]), phrase)
    if phrase.endswith((".", "?")):  # a whole sentence
        text = phrase.lower().rstrip(".?") if generator.random() < 0.2 else phrase
    else:
        framings = _framings(label, held_out=held_out_framing or (held_out and generator.random() < 0.3))
        text = generator.choice(framings).replace("{a}", phrase)
        text = text.lower() if generator.random() < 0.15 else text
    if generator.random() < 0.2:
        text = f"{generator.choice(load_yaml('requests.yaml')['openers'])} {text}"
    if generator.random() < 0.2:
        text = f"{text} {generator.choice(load_yaml('requests.yaml')['closers'])}"
    return text


def refusal(generator: random.Random) -> str:
    """How the assistant says no."""
    return str(generator.choice(load_yaml("requests.yaml")["refusals"]))


def helpful(generator: random.Random) -> str:
    """How the assistant answers a harmless request that is beyond it."""
    return str(generator.choice(load_yaml("requests.yaml")["helpful"]))


def small_talk(generator: random.Random) -> tuple[str, str]:
    """A greeting or the like, and its reply."""
    user, assistant = generator.choice(load_yaml("requests.yaml")["small_talk"])
    return user, assistant


def system_text(generator: random.Random) -> str:
    """A system prompt."""
    return str(generator.choice(load_yaml("requests.yaml")["systems"]))
