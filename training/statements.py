"""Statements about any passage of real text: a sentence of it told again, or told wrong in one place.

To learn from the statement alone whether it is wrong must be impossible, so every alteration can be made in
the documents, too: then the altered statement is the true one.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from training.chat_format import Document
from training.names import NameMaker
from training.real_documents import passages
from training.splits import Split

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')]?\s+(?=[\"'(]?[A-Z0-9])")
_UNFIT = re.compile(r"[|#\[\]{}<>*_=\\]|http|www\.|\.\.")
_WORD = re.compile(r"[A-Z][\w'-]*")
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_DAYS = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
_COUNTS = "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|fifty|hundred|thousand"
_CAPITAL = r"[A-Z][\w'-]*[a-z]"
_SITE = re.compile(
    rf"(?P<month>\b(?:{_MONTHS})\b)|(?P<day>\b(?:{_DAYS})\b)|(?P<year>\b(?:1[0-9]|20)\d\d\b)"
    rf"|(?P<number>(?<![\w.,])\d[\d,.]*\d(?![\w])|(?<![\w.,])\d(?![\w]))|(?P<count>\b(?:{_COUNTS})\b)"
    rf"|(?P<name>\b{_CAPITAL}(?: (?:of |the |de )?{_CAPITAL})*)|(?P<word>\b[a-z]{{4,}}\b)"
)
# How often each sort is altered, where a sentence offers it.
_SHARES = {"year": 4.0, "number": 4.0, "month": 4.0, "day": 4.0, "count": 3.0, "opposite": 3.0, "not": 0.8}
_NAME_SHARE, _WORD_SHARE = 3.0, 0.5


def _words(text: str) -> list[str]:
    return text.split()


# Pairs, first by second: long lists read better as running words.
_PAIRS = _words(
    "before after more less first last north south east west northern southern eastern western increase decrease "
    "increased decreased increases decreases always never largest smallest large small larger smaller high low "
    "higher lower highest lowest early late earlier later older younger oldest youngest best worst better worse "
    "above below inside outside begin end begins ends began ended start stop started stopped open closed "
    "winter summer spring autumn morning evening public private male female men women mother father "
    "son daughter brother sister husband wife king queen left right former latter many few most least "
    "legal illegal possible impossible common rare often rarely maximum minimum positive negative strong weak "
    "long short longer shorter fast slow rich poor hot cold allowed forbidden required optional accept reject "
    "accepted rejected include exclude includes excludes won lost win lose buy sell bought sold import export "
    "gain cost increasing decreasing free paid full empty"
)
_OPPOSITES = dict(zip(_PAIRS[::2], _PAIRS[1::2], strict=True)) | dict(zip(_PAIRS[1::2], _PAIRS[::2], strict=True))
_NOT_PLACE = re.compile(r"\b(is|are|was|were|can|will|could|should|must|would)( not)?\b(?! only)")
_EVERYDAY = frozenset(
    _words(
        "this that these those with from into onto upon over under about they them their there then than when "
        "where which while what whose whom were been being have having does doing will would shall should "
        "could might must also only even just very much such some other others another each every both either "
        "neither your yours ours hers him himself itself themselves because since until during between among "
        "through within without against toward towards along across after before again further once here same "
        "cannot said like well still though although however therefore thus perhaps more most less least many "
        "known called used made using make"
    )
)
_ENDINGS = ("ing", "ed", "ly", "tion", "ment", "ness", "ity", "ies", "er", "al", "ive", "ous", "ful", "ic", "s")
_PLAIN_SHORTEST = 5


@dataclass(frozen=True)
class Site:
    """A place in a sentence where another word of the same sort could stand."""

    start: int
    end: int
    sort: str


@dataclass(frozen=True)
class Sentence:
    """A sentence of a passage and the places where it can be altered."""

    text: str
    sites: tuple[Site, ...]


@dataclass(frozen=True)
class Passage:
    """A page of real text, its sentences, and its words by sort."""

    document: Document
    source: str
    sentences: tuple[Sentence, ...]
    words: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Alteration:
    """One exchange of words in a sentence.

    Attributes:
        sentence: The sentence as its passage has it.
        site: Where in the sentence the words stand.
        new: What takes their place.
    """

    sentence: str
    site: Site
    new: str

    @property
    def old(self) -> str:
        """The words that are exchanged."""
        return self.sentence[self.site.start : self.site.end]

    @property
    def altered(self) -> str:
        """The sentence with the exchange made."""
        return self.with_gap(self.new)

    def with_gap(self, filled: str) -> str:
        """The sentence with something else in the words' place."""
        return self.sentence[: self.site.start] + filled + self.sentence[self.site.end :]

    @property
    def is_fact(self) -> bool:
        """Whether a name or a figure changes: then it changes wherever documents have it."""
        return self.site.sort.split(" ")[0] not in ("word", "opposite", "not")

    def in_text(self, text: str) -> str:
        """A document's text with the exchange made."""
        text = text.replace(self.sentence, self.altered)
        return re.sub(rf"\b{re.escape(self.old)}\b", lambda _: self.new, text) if self.is_fact else text

    def in_documents(self, documents: Sequence[Document]) -> list[Document]:
        """The documents with the exchange made."""
        return [Document(self.in_text(d.title), self.in_text(d.text)) for d in documents]


@functools.cache
def read_passages(data: Path | None, split: Split) -> tuple[Passage, ...]:
    """The passages of one side that have at least two sentences to speak of.

    Pages repeat each other's standing phrases: on the measured sides, nothing is said that training pages say, too.
    """
    known = set() if split == "train" else {s for page in read_passages(data, "train") for s in page.sentences}
    found = (read_passage(document, source) for document, source in passages(data, split))
    kept = (replace(page, sentences=tuple(s for s in page.sentences if s not in known)) for page in found)
    return tuple(page for page in kept if len(page.sentences) > 1)


def read_passage(document: Document, source: str) -> Passage:
    """Finds a document's sentences and what could be altered in them."""
    texts = [text.strip() for text in _SENTENCE_END.split(document.text)]
    sentences = tuple(read_sentence(text) for text in dict.fromkeys(texts) if _is_fit(text))
    words: dict[str, dict[str, None]] = {}
    for sentence in sentences:
        for site in sentence.sites:
            words.setdefault(site.sort, {})[sentence.text[site.start : site.end]] = None
    return Passage(document, source, sentences, {sort: tuple(texts) for sort, texts in words.items()})


def disguised(page: Passage, names: NameMaker) -> Passage:
    """The page with made-up words for the words of its names, so that only reading tells what it says."""
    found = {word for sort, texts in page.words.items() if sort.startswith("name") for t in texts for word in t.split()}
    made_up = {word: names.word() for word in sorted(found) if word[0].isupper()}

    def text(original: str) -> str:
        return _WORD.sub(lambda match: made_up.get(match[0], match[0]), original)

    return read_passage(Document(text(page.document.title), text(page.document.text)), page.source)


def _is_fit(text: str) -> bool:
    whole = text.endswith(".") and text.count('"') % 2 == 0 and text.count("(") == text.count(")")
    return whole and 30 <= len(text) <= 240 and text.count(" ") >= 5 and not _UNFIT.search(text)


def read_sentence(text: str) -> Sentence:
    """Finds the places of a text where it can be altered."""
    sites = []
    for match in _SITE.finditer(text):
        sort, found = str(match.lastgroup), match[0]
        if sort == "name":
            opens = match.start() == 0 or not text[match.start() - 2 : match.start()].strip(" \"'").isalnum()
            if (opens and " " not in found) or found.split()[0].lower() in _EVERYDAY or "'" in found:
                continue  # the first word of a sentence is capitalised, whatever it is
            sort = f"name {min(found.count(' '), 2)}"
        elif sort == "number":
            sort = f"number {len(found)}"
        elif sort == "word":
            if found in _OPPOSITES:
                sort = "opposite"
            elif found in _EVERYDAY or (class_ := _word_class(found)) is None:
                continue
            else:
                sort = class_
        sites.append(Site(match.start(), match.end(), sort))
    place = _NOT_PLACE.search(text)
    if place:
        sites.append(Site(place.start(), place.end(), "not"))
    return Sentence(text, tuple(sites))


def _word_class(word: str) -> str | None:
    """Words of a class can stand in each other's place, mostly."""
    ending = next((e for e in _ENDINGS if word.endswith(e) and len(word) > len(e) + 2), None)
    if ending is None and len(word) < _PLAIN_SHORTEST:
        return None
    return f"word -{ending or ''}"


@functools.cache
def _pools(data: Path | None, split: Split) -> dict[tuple[str, str], tuple[str, ...]]:
    """By data set and sort, the words of its passages."""
    pools: dict[tuple[str, str], dict[str, None]] = {}
    for passage in read_passages(data, split):
        for sort, words in passage.words.items():
            pools.setdefault((passage.source, sort), {}).update(dict.fromkeys(words))
    return {key: tuple(words) for key, words in pools.items()}


def alteration(
    sentence: Sentence, passage: Passage, data: Path | None, split: Split, generator: random.Random
) -> Alteration | None:
    """Something else that the sentence could say: with another number, date, name or word, or with a "not".

    Half of the words that take another's place come from the same passage, which is harder to see.
    """
    for _ in range(3):
        if not sentence.sites:
            return None
        (site,) = generator.choices(sentence.sites, [_share(site.sort) for site in sentence.sites])
        made = _altered_at(site, sentence.text, passage, data, split, generator)
        if made:
            return made
    return None


def stranger(page: Passage, text: str, data: Path | None, split: Split, generator: random.Random) -> str | None:
    """A sentence of another passage, often one of the same document, that `text` does not have."""
    all_pages = read_passages(data, split)
    start = _places(data, split).get(page.document, 0)
    for _ in range(4):
        # Neighbours in the list are mostly from the same document or conversation.
        near = generator.random() < 0.5
        place = start + generator.choice((-2, -1, 1, 2)) if near else generator.randrange(len(all_pages))
        other = all_pages[place % len(all_pages)]
        sentence = generator.choice(other.sentences).text
        if other.source == page.source and sentence not in text:
            return sentence
    return None


@functools.cache
def _places(data: Path | None, split: Split) -> dict[Document, int]:
    """Where in the list of passages a document is."""
    return {page.document: place for place, page in enumerate(read_passages(data, split))}


def _share(sort: str) -> float:
    kind = sort.split(" ", 1)[0]
    return _NAME_SHARE if kind == "name" else _WORD_SHARE if kind == "word" else _SHARES[kind]


def _altered_at(
    site: Site, text: str, passage: Passage, data: Path | None, split: Split, generator: random.Random
) -> Alteration | None:
    old = text[site.start : site.end]
    if site.sort == "not":
        return Alteration(text, site, old.removesuffix(" not") if old.endswith(" not") else f"{old} not")
    if site.sort == "opposite":
        return Alteration(text, site, _OPPOSITES[old])
    other = _another(old, site.sort, passage, data, split, generator)
    if other is None or re.search(rf"\b{re.escape(other)}\b", text):
        return None
    return Alteration(text, site, other)


def _another(
    old: str, sort: str, passage: Passage, data: Path | None, split: Split, generator: random.Random
) -> str | None:
    """Another word of the sort: a number near by, one of the same passage, or one of the same data set."""
    if sort.startswith(("year", "number")) and generator.random() < 0.4:
        return _near(old, generator)
    here = passage.words.get(sort, ())
    pool = here if len(here) > 1 and generator.random() < 0.5 else _pools(data, split).get((passage.source, sort), here)
    parts = set(old.lower().split())
    for new in generator.choices(pool, k=3) if pool else ():
        if new[:4].lower() != old[:4].lower() if sort.startswith("word") else not parts & set(new.lower().split()):
            return new
    return None


def _near(number: str, generator: random.Random) -> str:
    """The number with one digit changed, which is not the first unless there is no other."""
    places = [i for i, c in enumerate(number) if c.isdigit()]
    place = generator.choice(places[1:] or places)
    digit = generator.choice([d for d in "123456789" if d != number[place]])
    return number[:place] + digit + number[place + 1 :]
