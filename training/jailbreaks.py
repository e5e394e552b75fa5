"""Attempts to talk an assistant out of its rules, and ordinary talk that sounds a little like them."""

from __future__ import annotations

import base64
import codecs
import functools
import random

from training.grammar import Slots, alternatives, expansions, fill
from training.reading.writer import Writer
from training.requests import Request, careless, write_phrase, write_request
from training.splits import Split, items_of
from training.world import load_yaml

_LEET = str.maketrans("aeiost", "431057")
_NAMED = "an attempt to get round the rules"
_TECHNIQUES = (
    "roles",
    "commands",
    "developer",
    "fiction",
    "prefix",
    "refusing",
    "hidden",
    "fake",
    "authority",
    "pleading",
    "many",
)


@functools.cache
def _patterns(split: Split) -> dict[str, tuple[tuple[str, ...], ...]]:
    """The templates of one side by technique, and those of ordinary talk by its sort, pattern by pattern."""
    listed = load_yaml("grammars/jailbreaks.yaml")
    groups = {name: listed[name] for name in _TECHNIQUES} | {f"benign {k}": v for k, v in listed["benign"].items()}
    return {
        name: tuple(found for pattern in patterns if (found := tuple(items_of(expansions(pattern), split))))
        for name, patterns in groups.items()
    }


@functools.cache
def _slots() -> dict[str, tuple[str, ...]]:
    return {name: alternatives(text) for name, text in load_yaml("grammars/jailbreaks.yaml")["slots"].items()}


def unreadable(text: str, generator: random.Random) -> str:
    """The text in a code that hides its words from a careless filter."""
    roll = generator.randrange(6)
    if roll == 0:
        return base64.b64encode(text.encode()).decode()
    if roll == 1:
        return text.lower().translate(_LEET)
    if roll == 2:
        return " ".join(text.replace(" ", "_"))
    if roll == 3:
        return text[::-1]
    if roll == 4:
        return codecs.encode(text, "rot13")
    return text.replace(" ", generator.choice(("-", ".", "*", "|")))


def _parts(text: str) -> str:
    words = text.split()
    cuts = [" ".join(words[i : i + 2]) for i in range(0, len(words), 2)]
    return ", ".join(f'{"abcdefghijklmnopqrstuvwxyz"[i % 26]} = "{cut}"' for i, cut in enumerate(cuts))


def write_jailbreak(writer: Writer) -> Request:
    """An attempt to have an unsafe request answered in spite of the rules."""
    groups = _patterns(writer.split)
    template = writer.random.choice(writer.random.choice(groups[writer.random.choice(_TECHNIQUES)]))
    slots: Slots = {
        **_slots(),
        "core": lambda: write_request(writer, "unsafe", plain=True).text,
        "core2": lambda: write_request(writer, "unsafe", plain=True).text,
        "do": lambda: write_phrase(writer, "unsafe", ("do",))[1],
        "hidden": lambda: unreadable(write_request(writer, "unsafe", plain=True).text, writer.random),
        "parts": lambda: _parts(write_request(writer, "unsafe", plain=True).text),
    }
    text = fill(template, slots, writer.random)
    text = careless(text, writer.random) if writer.random.random() < 0.15 else text
    return Request(text, unsafe=True, named=_NAMED, jailbreak=True)


def write_ordinary(writer: Writer) -> Request:
    """A harmless request that plays a role, drops an instruction, tells a story or speaks of jailbreaks."""
    groups = {name: patterns for name, patterns in _patterns(writer.split).items() if name.startswith("benign")}
    template = writer.random.choice(writer.random.choice(groups[writer.random.choice(list(groups))]))
    slots: Slots = {
        **_slots(),
        "task": lambda: write_request(writer, "harmless", plain=True).text,
        "coded": lambda: unreadable(write_phrase(writer, "harmless", ("do",))[1], writer.random),
    }
    text = fill(template, slots, writer.random)
    text = careless(text, writer.random) if writer.random.random() < 0.15 else text
    return Request(text, unsafe=False)
