"""Patterns that stand for many sentences.

`(steal|take) {thing}` stands for two phrases, since alternatives in parentheses are written out when a pattern
is read; `{thing}` is a slot, and is filled anew whenever the phrase is used.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Callable, Mapping, Sequence

_ALTERNATIVES = re.compile(r"\(([^()]*)\)")
_SLOT = re.compile(r"\{(\w+)\}")

Slots = Mapping[str, Sequence[str] | Callable[[], str]]


@functools.cache
def expansions(pattern: str) -> tuple[str, ...]:
    """All phrases a pattern stands for, each once; slots stay as they are."""
    match = _ALTERNATIVES.search(pattern)
    if not match:
        return (" ".join(pattern.split()),)
    texts = (pattern[: match.start()] + choice + pattern[match.end() :] for choice in match[1].split("|"))
    return tuple(dict.fromkeys(phrase for text in texts for phrase in expansions(text)))


def alternatives(text: str) -> tuple[str, ...]:
    """The values of a slot, which are written in one string: `a car | (his|her) bike`."""
    return expansions(f"({text})")


def fill(phrase: str, slots: Slots, generator: random.Random) -> str:
    """The phrase with every slot filled; a slot's value may have slots of its own.

    Raises:
        KeyError: If there is no such slot.
    """

    def value(match: re.Match[str]) -> str:
        choices = slots[match[1]]
        return choices() if callable(choices) else generator.choice(choices)

    while "{" in phrase:
        phrase = _SLOT.sub(value, phrase)
    return phrase


_BEFORE_VOWEL = re.compile(r"\b([aA]) (?=[aeioAEIO](?!uro|ne\b)|u(?!ni|s[ei]))")


def with_articles(text: str) -> str:
    """`a app` as `an app`: a slot does not know what comes to stand in it."""
    return _BEFORE_VOWEL.sub(r"\1n ", text)


_DOUBLED = re.compile(r"[^aeiou]*[aeiou][bdgkmnprtz]|commit|kidnap|forget|begin|submit|transmit|unplug|quit|equip")
_ADVERB = re.compile(r"(?!(?:fly|rely|apply|supply|reply|multiply|bully|comply|imply)\b)\w+ly$")


def _inflect(phrase: str, inflected: Callable[[str], str]) -> str:
    """Changes the verb, which is the first word that is no adverb."""
    words = phrase.split(" ")
    place = 1 if _ADVERB.match(words[0]) and len(words) > 1 else 0
    words[place] = inflected(words[place])
    return " ".join(words)


def with_ing(phrase: str) -> str:
    """`rob a bank` as `robbing a bank`."""

    def inflected(verb: str) -> str:
        if verb.endswith("ie"):
            return verb[:-2] + "ying"
        if verb.endswith("e") and not verb.endswith(("ee", "ye", "oe")) and verb != "be":
            return verb[:-1] + "ing"
        return verb + (verb[-1] if _DOUBLED.fullmatch(verb) else "") + "ing"

    return _inflect(phrase, inflected)


def with_s(phrase: str) -> str:
    """`rob a bank` as `robs a bank`."""

    def inflected(verb: str) -> str:
        if verb in ("have", "be"):
            return {"have": "has", "be": "is"}[verb]
        if re.search(r"[^aeiou]y$", verb):
            return verb[:-1] + "ies"
        return verb + ("es" if verb.endswith(("s", "x", "z", "ch", "sh", "o")) else "s")

    return _inflect(phrase, inflected)
