"""How a sentence of a document is told again: a clause left out, reported, or with another sentence beside it."""

from __future__ import annotations

import random
import re

_REPORTS = (
    "According to the documents, {s}",
    "The text says that {s}",
    "As the document puts it, {s}",
    "It says that {s}",
    "I read that {s}",
    "Yes, {s}",
)
_NEW_REPORTS = ("What I found is that {s}", "In short, {s}", "The passage tells us that {s}")
_GAPS = ("Fill the gap: {s}", "What belongs in the gap? {s}", "What is missing here? {s}")
_NEW_GAPS = ("Complete this with words from the text: {s}",)
# Words that lose their capital where they no longer begin a sentence.
_LOWERED = re.compile(
    r"(?:The|An?|In|On|At|It|This|These|There|They|He|She|We|For|To|As|When|If|Some|Many|Most|All|By)\b"
)
_TRAILING = re.compile(r", (?:which|who|where|although|though|while|but|so|because|including|such as|with) [^,]*\.$")
_LEADING = re.compile(r"^(?:In|On|At|By|During|For|However|Also|Today|Then|Finally)\b[^,]{2,60}, ")
_PARENTHESIS = re.compile(r" \([^()]*\)")


def retold(texts: tuple[str, ...], style: int, new_wording: bool = False) -> tuple[str, ...]:
    """Versions of a sentence, all told in the same way, so that only what they say tells them apart.

    Args:
        texts: The versions; they stay different from each other.
        style: Chooses the way.
        new_wording: Tells in words that no training text uses.
    """
    generator = random.Random(style)
    for cut in generator.sample((_TRAILING, _LEADING, _PARENTHESIS), 3):
        if generator.random() < 0.6:
            shorter = tuple(_shortened(text, cut) for text in texts)
            if len(set(shorter)) == len(set(texts)) and min(map(len, shorter)) > 25:
                texts = shorter
    if not new_wording and generator.random() < 0.6:
        return texts
    report = generator.choice(_NEW_REPORTS if new_wording else _REPORTS)
    return tuple(report.replace("{s}", _lowered(text)) for text in texts)


def gap_question(sentence: str, generator: random.Random, new_wording: bool = False) -> str:
    """How a user asks for the words that a sentence lacks."""
    return generator.choice(_NEW_GAPS if new_wording else _GAPS).replace("{s}", sentence)


def beside(texts: tuple[str, ...], other: str, generator: random.Random) -> tuple[str, ...]:
    """The versions with another sentence before or after them."""
    first = generator.random() < 0.5
    return tuple(f"{other} {text}" if first else f"{text} {other}" for text in texts)


def _shortened(text: str, cut: re.Pattern[str]) -> str:
    text = cut.sub("." if cut is _TRAILING else "", text)
    return text[0].upper() + text[1:]


def _lowered(text: str) -> str:
    return text[0].lower() + text[1:] if _LOWERED.match(text) else text
