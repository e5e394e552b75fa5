"""Reads the real data sets. One item in five, by a hash of its text, is held out from every training.

Expects the folder layout that README.md lists; a data set that is missing is simply not used.
"""

from __future__ import annotations

import ast
import csv
import functools
import gzip
import io
import json
import random
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from training.chat_format import Document, Message

_UNSAFE_WORDS = re.compile(
    r"\b(kill|murder|bomb|weapon|gun|shoot|stab|poison|steal|stole|rob|robbery|shoplift|hack|drugs?|meth|cocaine"
    r"|heroin|weed|rape|sex|porn|nude|naked|torture|kidnap|blackmail|threaten|stalk|burn down|arson|explosive"
    r"|launder|counterfeit|fraud|scam|forge|fake id|smuggle|bully|beat up|hurt|punch|suicide|assault|terroris\w*"
    r"|break into|pick a lock|identity|credit card|home address|phone number|prank|revenge|n[i1]gg\w*|fag\w*"
    r"|bitch|retard\w*|slut|cunt|dick|pussy|racist|poop|illegal\w*|get away with|cheat|vandal\w*|spy)\b",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"(not comfortable|can.t help|cannot help|won.t help|illegal|against the law|immoral|unethical"
    r"|not okay|not ok\b|dangerous|harmful|hurtful|wouldn.t recommend|please don.t|not appropriate"
    r"|offensive|is wrong\b|a crime|not a good idea|don.t think (you|that) should)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Grounded:
    """A real reply that its documents support."""

    documents: tuple[Document, ...]
    messages: tuple[Message, ...]
    reply: str
    source: str


@dataclass(frozen=True)
class Choice:
    """A real question with a few possible replies, one of them right."""

    question: str
    replies: tuple[str, ...]
    right: int


def is_held_out(text: str) -> bool:
    """Whether an item belongs to the held-out fifth."""
    return zlib.crc32(" ".join(text.split()).encode()) % 5 == 0


def split(items: Iterable[str], held_out: bool) -> list[str]:
    """The held-out items, or the others, each once."""
    return [item for item in dict.fromkeys(items) if is_held_out(item) == held_out]


def _lines(path: Path) -> Iterator[dict[str, object]]:
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


@functools.cache
def unsafe_requests(data: Path) -> tuple[str, ...]:
    """AdvBench's behaviours, and the first turns of red-team dialogues that are plainly unsafe.

    Not every red-team dialogue opens badly; only those are taken that use an unsafe word or are refused.
    """
    found: list[str] = []
    path = data / "advbench/harmful_behaviors.csv"
    if path.exists():
        found += [row["goal"] for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))]
    return tuple(found) + _red_team(data)


def _red_team(data: Path) -> tuple[str, ...]:
    path = data / "hh-rlhf/harmless-base/test.jsonl.gz"
    if not path.exists():
        return ()
    found = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            turns = re.split(r"\n\n(?:Human|Assistant): ", json.loads(line)["chosen"])
            request, reply = turns[1].strip(), turns[2] if len(turns) > 2 else ""
            if len(request) < 400 and (_UNSAFE_WORDS.search(request) or _REFUSAL.search(reply)):
                found.append(request)
    return tuple(found)


@functools.cache
def harmless_requests(data: Path) -> tuple[str, ...]:
    """Questions that people asked of search engines, documents and exams."""
    found = [str(row["input"]) for name in ("answerable", "unanswerable") for row in _clapnq(data, name)]
    found += [question for question, _ in yes_no_questions(data, "train")]
    found += [choice.question for choice in exam_questions(data)]
    for path in sorted(data.glob("mt-rag/mtrag-human/retrieval_tasks/*/*_lastturn.jsonl")):
        found += [str(row["text"]).replace("|user|:", "").strip() for row in _lines(path)]
    # Exams and encyclopedias ask about crimes and wars, too: what could be read either way is left out.
    return tuple(text for text in found if 8 < len(text) < 400 and not _UNSAFE_WORDS.search(text))


def alpaca_requests(data: Path) -> list[str]:
    """Harmless seed tasks. Their licence forbids commercial use: measured, never trained on."""
    return [str(row["instruction"]) for row in _lines(data / "alpaca-seed/seed_tasks.jsonl")]


@functools.cache
def yes_no_questions(data: Path, part: str) -> tuple[tuple[str, bool], ...]:
    """BoolQ's questions with their answers."""
    path = data / f"commonsense/boolq/{part}.json"
    if not path.exists():
        return ()
    rows = json.loads(path.read_text(encoding="utf-8"))
    pattern = re.compile(r"question: (.*?)\n", re.DOTALL)
    found = [(pattern.search(row["instruction"]), row["answer"] == "true") for row in rows]
    return tuple((match[1].strip(), answer) for match, answer in found if match)


@functools.cache
def exam_questions(data: Path) -> tuple[Choice, ...]:
    """OpenBookQA's and ARC's multiple-choice questions."""
    found = []
    for name in ("openbookqa", "ARC-Easy", "ARC-Challenge"):
        path = data / f"commonsense/{name}/train.json"
        for row in json.loads(path.read_text(encoding="utf-8")) if path.exists() else []:
            body = row["instruction"].split("to the question: ", 1)[-1].split("\n\nAnswer format")[0]
            question, *answers = re.split(r"\s*Answer\d: ", body)
            right = int(row["answer"][-1]) - 1
            if 2 <= len(answers) <= 5 and right < len(answers):
                found.append(Choice(question.strip(), tuple(a.strip() for a in answers), right))
    return tuple(found)


_TRUE_OR_FALSE = " True or false?"


@functools.cache
def choices(data: Path) -> tuple[Choice, ...]:
    """All questions with a closed set of replies; BoolQ's become true-or-false questions."""
    yes_no = (
        Choice(f"{question.rstrip('?')}?{_TRUE_OR_FALSE}", ("True.", "False."), int(not answer))
        for question, answer in yes_no_questions(data, "train")
    )
    return (*exam_questions(data), *yes_no)


def _clapnq(data: Path, name: str) -> Iterator[dict[str, object]]:
    return _lines(data / f"clapnq/annotated_data/dev/clapnq_dev_{name}.jsonl")


def _tidy(text: str) -> str:
    """Undoes the spaces that data sets leave around punctuation."""
    text = re.sub(r"\s+", " ", text).replace("`` ", '"').replace(" ''", '"')
    text = re.sub(r" ([,.;:?!)%])", r"\1", text)
    return re.sub(r"([($]) | (?='s\b|n't\b)", lambda match: match[1] or "", text).strip()


@functools.cache
def grounded_replies(data: Path) -> tuple[Grounded, ...]:
    """Replies with the documents that support them, from ClapNQ, MT-RAG and Doc2Dial."""
    return (*_clapnq_grounded(data), *_mt_rag_grounded(data), *_doc2dial_grounded(data))


def _clapnq_grounded(data: Path) -> Iterator[Grounded]:
    for row in _clapnq(data, "answerable"):
        passages, outputs = row["passages"], row["output"]
        assert isinstance(passages, list)
        assert isinstance(outputs, list)
        documents = tuple(Document(p["title"], _tidy(p["text"])[:2500]) for p in passages)
        reply = _tidy(outputs[0]["answer"])
        if 10 < len(reply) < 500:
            yield Grounded(documents, (Message("user", str(row["input"])),), reply, "clapnq")


def _mt_rag_grounded(data: Path) -> Iterator[Grounded]:
    roles = {"user": "user", "agent": "assistant"}
    for row in _lines(data / "mt-rag/mtragun-human/generation_tasks/reference.jsonl"):
        contexts, turns, targets = row["contexts"], row["input"], row["targets"]
        assert isinstance(contexts, list)
        assert isinstance(turns, list)
        assert isinstance(targets, list)
        if "ANSWERABLE" not in row["answerability"] or not contexts:  # type: ignore[operator]
            continue
        documents = tuple(Document(c.get("title") or "", _tidy(c["text"])[:1000]) for c in contexts[:3])
        messages = tuple(Message(roles[t["speaker"]], _tidy(t["text"])[:400]) for t in turns[-3:])
        if messages[0].role == "user" and 10 < len(targets[0]["text"]) < 700:
            yield Grounded(documents, messages, _tidy(targets[0]["text"]), "mt-rag")


def _doc2dial_grounded(data: Path) -> Iterator[Grounded]:
    path = data / "doc2dial/v1.0.1/doc2dial_rc_val.csv.zip"
    if not path.exists():
        return
    csv.field_size_limit(2**30)
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as raw:
        for row in csv.DictReader(io.TextIOWrapper(raw, "utf-8")):
            answers = ast.literal_eval(row["answers"])
            reply, start = _tidy(answers["text"][0]), max(0, int(answers["answer_start"][0]) - 500)
            question = row["question"].split("\tagent:")[0].removeprefix("user:").strip()
            if 20 < len(reply) < 400 and len(question) > 8:
                passage = _tidy(row["context"][start : start + 1500])
                document = Document(row["title"].split("#")[0], passage)
                yield Grounded((document,), (Message("user", _tidy(question)),), reply, "doc2dial")


def is_held_out_choice(choice: Choice) -> bool:
    """Whether a question with choices is held out, by its bare text, as `harmless_requests` has it."""
    return is_held_out(choice.question.removesuffix(_TRUE_OR_FALSE))


def is_held_out_grounded(item: Grounded) -> bool:
    """Grounded replies are held out by the title or opening of their document, so that no document leaks."""
    return is_held_out(item.documents[0].title or item.documents[0].text[:80])


def prose(data: Path) -> list[str]:
    """Running text for language modelling, in pieces of about a page; nothing of it is held-out text."""
    pieces: list[str] = []
    novel = data / "text/war-and-peace.txt"
    if novel.exists():
        paragraphs = re.split(r"\n\s*\n", novel.read_text(encoding="utf-8"))
        pieces += _pages(" ".join(p.split()) for p in paragraphs if p.strip())
    documents = {
        f"{document.title}\n{document.text}"
        for item in grounded_replies(data)
        if not is_held_out_grounded(item)
        for document in item.documents
    }
    return pieces + sorted(documents)


def _pages(paragraphs: Iterable[str], size: int = 3000) -> list[str]:
    pages, page = [], ""
    for paragraph in paragraphs:
        page += paragraph + "\n"
        if len(page) > size:
            pages.append(page)
            page = ""
    return [*pages, page]


_NUMBER_OR_NAME = re.compile(r"\d[\d,.]*\d|\d|(?<=[a-z,] )[A-Z][a-z]{2,}")


def altered_reply(reply: str, strangers: list[str], generator: random.Random) -> str | None:
    """The reply with a number or a name exchanged for one that other replies use, if it has any."""
    matches = list(_NUMBER_OR_NAME.finditer(reply))
    if not matches:
        return None
    match = generator.choice(matches)
    numeric = match[0][0].isdigit()
    pool = [
        m[0]
        for text in strangers
        for m in _NUMBER_OR_NAME.finditer(text)
        if m[0][0].isdigit() == numeric and m[0] not in reply
    ]
    return reply[: match.start()] + generator.choice(pool) + reply[match.end() :] if pool else None
