"""Real documents, and real questions about them: ClapNQ, MT-RAG and Doc2Dial, side by side with a novel's pages.

Expects the folder layout that README.md lists; a data set that is missing is simply not used. Items that share
a document, a conversation or an opening question stand on the same side of the split, all of them.
"""

from __future__ import annotations

import ast
import csv
import functools
import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from training.chat_format import Document, Message
from training.splits import Split, split_of

# Documents of a conversation hold at most so many characters together: some 700 tokens.
ROOM = 2500
_WINDOW = 1200
_ROLES = {"user": "user", "agent": "assistant"}
_CONTENT_WORD = re.compile(r"[A-Za-z]{4,}|\d+")


@dataclass(frozen=True)
class RealQuestion:
    """A real question over documents.

    Attributes:
        source: The data set.
        documents: What the answer is looked for in; empty where the data set gives none.
        messages: The conversation, which ends in the user's question.
        answerable: Whether the documents answer the question.
        reply: A reply that the documents support, where there is one.
    """

    source: str
    documents: tuple[Document, ...]
    messages: tuple[Message, ...]
    answerable: bool
    reply: str | None = None


@dataclass(frozen=True)
class Rewrite:
    """The user's questions of a conversation, and the last one written so that it stands alone."""

    questions: tuple[str, ...]
    standalone: str


@dataclass(frozen=True)
class _Item:
    """A question or passage with all that it shares with others: document titles, conversation, opening question."""

    value: RealQuestion | Rewrite | Document
    source: str
    keys: tuple[str, ...]


def tidy(text: str) -> str:
    """Undoes the spaces that data sets leave around punctuation."""
    text = re.sub(r"\s+", " ", text).replace("`` ", '"').replace(" ''", '"')
    text = re.sub(r" ([,.;:?!)%])", r"\1", text)
    text = re.sub(r"([($]) | (?='s\b|n't\b)", lambda match: match[1] or "", text)
    return re.sub(r"(?<=[a-z]) - (?=[a-z])", "-", text).strip()


@functools.cache
def questions(data: Path | None, split: Split) -> tuple[RealQuestion, ...]:
    """The questions over documents of one side."""
    return tuple(v for v, _ in _of_side(data, split) if isinstance(v, RealQuestion)) if data else ()


@functools.cache
def replied_questions(data: Path | None, split: Split) -> tuple[tuple[RealQuestion, ...], tuple[float, ...]]:
    """The questions of one side that have a reply, and how often each is to be used, summed up as `choices` takes it.

    A data set counts by the square root of its size: none is drowned, and none repeats itself too much.
    """
    found = tuple(item for item in questions(data, split) if item.reply)
    sizes = Counter(item.source for item in found)
    return found, tuple(accumulate(sizes[item.source] ** -0.5 for item in found))


@functools.cache
def rewrites(data: Path | None, split: Split) -> tuple[Rewrite, ...]:
    """The rewritten questions of one side."""
    return tuple(v for v, _ in _of_side(data, split) if isinstance(v, Rewrite)) if data else ()


@functools.cache
def passages(data: Path | None, split: Split) -> tuple[tuple[Document, str], ...]:
    """Every document of one side, cut to about a page, each with its data set; a novel's pages only train."""
    if data is None:
        return ()
    found: dict[Document, str] = {}
    for value, source in _of_side(data, split):
        for document in value.documents if isinstance(value, RealQuestion) else ():
            found.setdefault(document, source)
        if isinstance(value, Document):
            found.setdefault(value, source)
    if split == "train":
        found.update((Document("", page), "novel") for page in novel_pages(data))
    return tuple(found.items())


@functools.cache
def novel_pages(data: Path, size: int = _WINDOW) -> tuple[str, ...]:
    """The pages of "War and Peace", about `size` characters each."""
    path = data / "text/war-and-peace.txt"
    if not path.exists():
        return ()
    paragraphs = re.split(r"\n\s*\n", path.read_text(encoding="utf-8"))
    pages, page = [], ""
    for paragraph in paragraphs:
        page += " ".join(paragraph.split()) + "\n"
        if len(page) > size:
            pages.append(_cut(page.strip(), ROOM))
            page = ""
    return (*pages, page.strip()) if page.strip() else tuple(pages)


def _of_side(data: Path, split: Split) -> Iterator[tuple[RealQuestion | Rewrite | Document, str]]:
    items, groups = _items(data)
    return ((item.value, item.source) for item in items if split_of(groups[item.keys[0]]) == split)


@functools.cache
def _items(data: Path) -> tuple[list[_Item], dict[str, str]]:
    """All items, and for every key the group that it belongs to."""
    items = [*_clapnq(data), *_mt_rag(data), *_mt_rag_human(data), *_doc2dial(data), *_rewrites(data)]
    return items, _groups(item.keys for item in items)


def _groups(all_keys: Iterable[tuple[str, ...]]) -> dict[str, str]:
    """For every key the first, in alphabetical order, of those that it hangs together with."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = key = parent[parent[key]]
        return key

    for first, *others in all_keys:
        root(first)
        for other in others:
            low, high = sorted((root(first), root(other)))
            parent[high] = low
    return {key: root(key) for key in parent}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def _document_key(title: str, text: str) -> str:
    return "document " + " ".join((title or text[:80]).lower().split())


def _question_key(text: str) -> str:
    return "question " + " ".join(text.lower().split())


def _clapnq(data: Path) -> Iterator[_Item]:
    for answerable, name in ((True, "answerable"), (False, "unanswerable")):
        for row in _lines(data / f"clapnq/annotated_data/dev/clapnq_dev_{name}.jsonl"):
            documents = tuple(Document(tidy(p["title"]), _cut(tidy(p["text"]), ROOM)) for p in row["passages"])
            reply = tidy(row["output"][0]["answer"])
            kept = reply if answerable and _is_supported(reply, documents) else None
            question = RealQuestion("clapnq", documents, (Message("user", row["input"]),), answerable, kept)
            keys = [_document_key(d.title, d.text) for d in documents]
            yield _Item(question, "clapnq", (*keys, _question_key(row["input"])))


def _mt_rag(data: Path) -> Iterator[_Item]:
    for row in _lines(data / "mt-rag/mtragun-human/generation_tasks/reference.jsonl"):
        yield from _mt_rag_task(row, row["answerability"], row["contexts"])


def _mt_rag_human(data: Path) -> Iterator[_Item]:
    path = data / "mt-rag/mtrag-human/evaluations/reference_subset_with_human_evaluations.json"
    whole = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"documents": [], "tasks": []}
    documents = {d["document_id"]: d for d in whole["documents"]}
    for task in whole["tasks"]:
        yield from _mt_rag_task(task, task["Answerability"], [documents[c["document_id"]] for c in task["contexts"]])


def _mt_rag_task(row: dict[str, Any], answerability: list[str], contexts: list[dict[str, Any]]) -> Iterator[_Item]:
    pages = [Document(tidy(c.get("title") or ""), _cut(_body(c), ROOM)) for c in contexts]
    turns = row["input"]
    conversation = f"conversation {row['task_id'].split('<')[0]}"
    keys = (conversation, _question_key(turns[0]["text"]), *(_document_key(d.title, d.text) for d in pages))
    for page in pages:
        yield _Item(page, "mt-rag", keys)
    if answerability not in (["ANSWERABLE"], ["UNANSWERABLE"]):
        return  # underspecified or partly answered: neither label would be fair
    answerable = answerability == ["ANSWERABLE"]
    documents = _fitting(pages)
    messages = tuple(Message(_ROLES[turn["speaker"]], _cut(tidy(turn["text"]), 400)) for turn in turns[-3:])
    while messages and messages[0].role != "user":
        messages = messages[1:]
    reply = tidy(row["targets"][0]["text"])
    kept = reply if answerable and _is_supported(reply, documents) else None
    # An answer may stand in a passage that had no room: whether it does is only known where the reply is supported.
    if messages and (kept or (not answerable and len(documents) == len(pages))):
        yield _Item(RealQuestion("mt-rag", documents, messages, answerable, kept), "mt-rag", keys)


def _body(context: dict[str, Any]) -> str:
    """A context's text without the title that some repeat at its start."""
    title = context.get("title") or ""
    return tidy(context["text"]).removeprefix(tidy(title)).strip()


def _doc2dial(data: Path) -> Iterator[_Item]:
    path = data / "doc2dial/v1.0.1/doc2dial_rc_val.csv.zip"
    if not path.exists():
        return
    csv.field_size_limit(2**30)
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as raw:
        for row in csv.DictReader(io.TextIOWrapper(raw, "utf-8")):
            title, context = tidy(row["title"].split("#")[0]), row["context"]
            keys = (_document_key(title, ""),)
            answers = ast.literal_eval(row["answers"])
            start = max(0, int(answers["answer_start"][0]) - _WINDOW // 3)
            start = context.rfind(". ", 0, start) + 2 if start else 0
            document = Document(title, _cut(tidy(context[start : start + 2 * _WINDOW]), _WINDOW))
            yield _Item(document, "doc2dial", keys)
            reply = tidy(answers["text"][0])
            question = tidy(row["question"].split("\tagent:")[0].removeprefix("user:"))
            if question.endswith("?") and len(question) > 15 and _is_supported(reply, (document,)):
                message = Message("user", question)
                yield _Item(RealQuestion("doc2dial", (document,), (message,), True, reply), "doc2dial", keys)


def _rewrites(data: Path) -> Iterator[_Item]:
    for path in sorted(data.glob("mt-rag/mtrag-human/retrieval_tasks/*/*_rewrite.jsonl")):
        asked = {row["_id"]: row["text"] for row in _lines(Path(str(path).replace("_rewrite", "_questions")))}
        for row in _lines(path):
            if row["_id"] not in asked:
                continue
            turns = tuple(tidy(text) for text in asked[row["_id"]].split("|user|:") if text.strip())
            keys = (f"conversation {row['_id'].split('<')[0]}", _question_key(turns[0]))
            rewrite = Rewrite(turns, tidy(row["text"].replace("|user|:", "")))
            yield _Item(rewrite, "mt-rag", keys)


def _cut(text: str, room: int) -> str:
    """The text's beginning, whole sentences where that is possible, in so many characters."""
    if len(text) <= room:
        return text
    end = text.rfind(". ", 0, room)
    return text[: end + 1] if end > room // 2 else text[: text.rfind(" ", 0, room)]


def _fitting(documents: list[Document]) -> tuple[Document, ...]:
    """The first documents that have room together; at least one."""
    kept: list[Document] = []
    for document in documents:
        if kept and sum(len(d.text) for d in kept) + len(document.text) > ROOM:
            break
        kept.append(document)
    return tuple(kept)


def _is_supported(reply: str, documents: tuple[Document, ...]) -> bool:
    """Whether a reply of the data set is short enough to learn from and is found, word for word, in what is shown."""
    if not 10 < len(reply) < 500:
        return False
    shown = set(_CONTENT_WORD.findall(" ".join(f"{d.title} {d.text}" for d in documents).lower()))
    words = _CONTENT_WORD.findall(reply.lower())
    figures = [word for word in words if word.isdigit()]
    return bool(words) and set(figures) <= shown and sum(w in shown for w in words) >= 0.7 * len(words)
