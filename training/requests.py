"""Generated requests, unsafe and harmless, written from the grammars in `grammars/`.

A phrase says what is wanted ("rob a bank"), a framing makes a request of it ("How do I rob a bank?"). Phrases and
framings are split apart: whole phrases, and whole framings, of the test side never occur in anything trained on.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from training.grammar import Slots, alternatives, expansions, fill, with_articles, with_ing, with_s
from training.reading.writer import Writer
from training.real_requests import is_measured
from training.scenes import make_scene, question_text
from training.splits import Split, items_of
from training.world import load_yaml

Kind = Literal["unsafe", "harmless"]
Form = Literal["do", "make", "say"]
_FOLDER = Path(__file__).parent / "grammars"
_FORMS: tuple[Form, ...] = ("do", "make", "say")
_PLAINEST_SHARE = 0.35


@dataclass(frozen=True)
class Request:
    """What a user asks for.

    Attributes:
        named: What an unsafe request is about, as one would name it ("violence"); nothing where that is not known.
        jailbreak: Whether it tries to talk the assistant out of its rules.
        origin: The sort it is, for figures.
    """

    text: str
    unsafe: bool
    named: str = ""
    jailbreak: bool = False
    origin: str = "generated"


@dataclass(frozen=True)
class _Topic:
    """The phrases of one side that a category of a grammar has in one form, pattern by pattern."""

    form: Form
    named: str
    slots: Mapping[str, Sequence[str]]
    patterns: tuple[tuple[str, ...], ...]
    cumulative: tuple[float, ...]


def talk(key: str) -> list[Any]:
    """What is said around requests, such as `openers`."""
    entries: list[Any] = load_yaml("grammars/talk.yaml")[key]
    return entries


def wording(generator: random.Random, key: str) -> str:
    """One of the wordings of `talk`, with its alternatives settled."""
    return generator.choice(expansions(generator.choice(talk(key))))


@functools.cache
def _shared_slots() -> dict[str, tuple[str, ...]]:
    return {name: alternatives(text) for name, text in load_yaml("grammars/slots.yaml").items()}


@functools.cache
def _topics(kind: Kind, split: Split) -> tuple[tuple[_Topic, ...], tuple[float, ...]]:
    """The topics of one side, and how often each is to be written."""
    topics, weights = [], []
    for path in sorted((_FOLDER / kind).glob("*.yaml")):
        category = load_yaml(f"grammars/{kind}/{path.name}")
        slots = _shared_slots() | {name: alternatives(text) for name, text in category.get("slots", {}).items()}
        for form in _FORMS:
            phrases = [tuple(items_of(expansions(pattern), split)) for pattern in category.get(form, ())]
            patterns = tuple(found for found in phrases if found)
            if patterns:
                # A pattern of a thousand phrases deserves more than one of ten, but not a hundred times as much.
                sums, total = [], 0.0
                for found in patterns:
                    total += 1 + math.log(len(found))
                    sums.append(total)
                topics.append(_Topic(form, category.get("named", ""), slots, patterns, tuple(sums)))
                weights.append(math.sqrt(total))
    return tuple(topics), tuple(weights)


@functools.cache
def _framings(kind: Kind, form: Form, split: Split, plainest: bool) -> tuple[tuple[str, ...], ...]:
    """The framings of one side that fit a form, pattern by pattern: the plainest ones, or all others."""
    listed = load_yaml("grammars/framings.yaml")
    patterns = (pattern for key in (("plainest",) if plainest else ("both", kind)) for pattern in listed[key])
    fitting = (pattern for pattern in patterns if ("{make}" in pattern) == (form == "make"))
    return tuple(found for pattern in fitting if (found := tuple(items_of(expansions(pattern), split))))


def _name_slots(writer: Writer) -> Slots:
    return {"person": writer.names.person, "town": writer.names.town, "company": writer.names.company}


def filled(phrase: str, writer: Writer) -> str:
    """A phrase with its slots filled from those that all grammars share."""
    return fill(phrase, {**_shared_slots(), **_name_slots(writer)}, writer.random)


def write_phrase(writer: Writer, kind: Kind, forms: Sequence[Form] = _FORMS) -> tuple[Form, str, str]:
    """A phrase of the writer's side: its form, its text, and what it is about."""
    topics, weights = _topics(kind, writer.split)
    while True:
        (topic,) = writer.random.choices(topics, weights)
        if topic.form in forms:
            break
    (phrases,) = writer.random.choices(topic.patterns, cum_weights=topic.cumulative)
    phrase = fill(writer.random.choice(phrases), {**topic.slots, **_name_slots(writer)}, writer.random)
    return topic.form, phrase, topic.named


def write_request(writer: Writer, kind: Kind, framing: Split = "train", plain: bool = False) -> Request:
    """A request with a phrase of the writer's side.

    Args:
        writer: Who writes; a `train` writer never writes what is measured.
        kind: What is asked for.
        framing: The side of the framing. Whole sentences have none, so other sides than `train` leave them out.
        plain: Writes the request alone: no greeting, no context, no careless typing.
    """
    forms: Sequence[Form] = _FORMS if framing == "train" else ("do", "make")
    while True:
        form, phrase, named = write_phrase(writer, kind, forms)
        text = phrase if form == "say" else _framed(writer, kind, form, phrase, framing)
        text = with_articles(text[0].upper() + text[1:] if form == "say" else text)
        if writer.split != "train" or not is_measured(text, writer.data):
            break
    origin = "generated" if framing == "train" else "generated, new framing"
    return Request(text if plain else _around(writer, text), kind == "unsafe", named, origin=origin)


def _framed(writer: Writer, kind: Kind, form: Form, phrase: str, split: Split) -> str:
    framings = _framings(kind, form, split, writer.random.random() < _PLAINEST_SHARE)
    framing = writer.random.choice(writer.random.choice(framings))
    for slot, inflected in (("{do}", str), ("{make}", str), ("{ing}", with_ing), ("{s}", with_s)):
        if slot in framing:
            framing = framing.replace(slot, inflected(phrase))
    return framing


def _around(writer: Writer, text: str) -> str:
    """The request as people type it: with greetings, a story before it, a word after it, and careless."""
    generator = writer.random
    if generator.random() < 0.12:
        contexts = [wording(generator, "contexts") for _ in range(_few(generator))]
        text = f"{filled(' '.join(contexts), writer)} {text}"
    if generator.random() < 0.15:
        text = f"{generator.choice(talk('openers'))} {text}"
    if generator.random() < 0.15:
        text = f"{text if text[-1] in '.?!' else text + '.'} {generator.choice(talk('closers'))}"
    return careless(text, generator) if generator.random() < 0.2 else text


def _few(generator: random.Random) -> int:
    return generator.choice((1, 1, 2, 3, 5))


def careless(text: str, generator: random.Random) -> str:
    """The text typed carelessly: lower case, no full stop at the end, a slip of the finger."""
    if generator.random() < 0.7:
        text = text.lower()
    if generator.random() < 0.6:
        text = text.rstrip(".?!")
    if generator.random() < 0.3 and len(text) > 12:
        place = generator.randrange(3, len(text) - 3)
        here, there = text[place], text[place + 1]
        text = text[:place] + generator.choice((here, there + here, here + here + there)) + text[place + 2 :]
    return text


def write_question(writer: Writer) -> Request:
    """A question about something of the invented world, without any document."""
    (entity,) = make_scene(writer.names, writer.random, documents=1).entities[:1]
    attribute = writer.random.choice(list(entity.kind.attributes.values()))
    return Request(question_text(entity, attribute, writer.random, False), unsafe=False)


def refusal(request: Request, generator: random.Random) -> str:
    """How the assistant says no, often naming what the request is about."""
    texts = [text for text in talk("refusals") if request.named or "{named}" not in text]
    return str(generator.choice(texts)).replace("{named}", request.named)


def helpful(generator: random.Random) -> str:
    """How the assistant answers a harmless request that is beyond it."""
    return str(generator.choice(talk("helpful")))


def verdict(request: Request, generator: random.Random) -> str:
    """What the assistant says when it is asked whether a request is safe."""
    if not request.unsafe:
        return str(generator.choice(talk("safe_verdicts")))
    named = request.named or "something that would harm people"
    return str(generator.choice(talk("unsafe_verdicts"))).replace("{named}", named)


def small_talk(generator: random.Random) -> tuple[str, str]:
    """A greeting or the like, and its reply."""
    user, assistant = generator.choice(talk("small_talk"))
    return user, assistant


def system_text(writer: Writer) -> str:
    """A system prompt."""
    return filled(wording(writer.random, "systems"), writer)
