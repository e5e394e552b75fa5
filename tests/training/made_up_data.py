"""A small made-up data folder in the layouts of the real data sets."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

SYLLABLES = ("ba", "de", "fi", "go", "hu", "ka", "le", "mi", "no", "pu")
MONTHS = ("January", "March", "May", "July", "October")


def word_of(number: int) -> str:
    """A word that only what is said of this number has."""
    return "".join(SYLLABLES[int(digit)] for digit in f"{number:04}")


def year_of(number: int) -> int:
    """When the hall of this number was built."""
    return 1100 + number % 900


def town_text(number: int) -> str:
    """A page about a hall, with a word of its own in every part."""
    word, year = word_of(number), year_of(number)
    name = word.capitalize()
    return (
        f"{name} Hall with {number} {word} doors was built by Thomas {name} in {year} near the {word} river. "
        f"The northern {word} wing of {name} was destroyed in the great {word} fire of {year + 40} and {word} rebuilt. "
        f"Every {MONTHS[number % 5]} the {word} owners open {20 + number} {word} rooms of the {word} house to {name}. "
        f"It is {word} known for {number + 2} {word} paintings, which Robert {name} gave to the {word} family."
    )


def town_title(number: int) -> str:
    """The title of that page."""
    return f"Hall number {number}"


def write_data(folder: Path, count: int = 60) -> Path:
    """Writes ClapNQ, MT-RAG, Doc2Dial and the novel, `count` items each; returns the folder."""
    _write_clapnq(folder, count)
    _write_mt_rag(folder, count)
    _write_rewrites(folder, count)
    _write_doc2dial(folder, count)
    (folder / "text").mkdir()
    page = "The old prince walked slowly across the garden. Natasha waited for him near the gate. " * 20
    (folder / "text/war-and-peace.txt").write_text(f"{page}\n\n{page}\n\n{page}", encoding="utf-8")
    return folder


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _write_clapnq(folder: Path, count: int) -> None:
    for name, base in (("answerable", 0), ("unanswerable", 1000)):
        rows = [
            {
                "input": f"when was hall number {n} built" if name == "answerable" else f"who owns hall number {n} now",
                "passages": [{"title": town_title(n), "text": town_text(n).replace(".", " .")}],
                "output": [
                    {"answer": f"It was built in {year_of(n)} , as {word_of(n)} Hall ." if name == "answerable" else ""}
                ],
            }
            for n in range(base, base + count)
        ]
        _write_lines(folder / f"clapnq/annotated_data/dev/clapnq_dev_{name}.jsonl", rows)


def _write_mt_rag(folder: Path, count: int) -> None:
    rows = []
    for n in range(2000, 2000 + count):
        label = ("ANSWERABLE", "UNANSWERABLE", "UNDERSPECIFIED", "PARTIAL")[n % 4]
        contexts = [{"document_id": f"d{n}", "title": town_title(n), "text": f"{town_title(n)}\n{town_text(n)}"}]
        turns = [
            {"speaker": "user", "text": f"What is hall number {n}?"},
            {"speaker": "agent", "text": "A house near the river."},
            {"speaker": "user", "text": "How many rooms are open?"},
        ]
        rows.append(
            {
                "task_id": f"c{n}<::>2",
                "answerability": [label],
                "contexts": contexts if label != "UNANSWERABLE" else [],
                "input": turns,
                "targets": [{"speaker": "agent", "text": f"The {word_of(n)} owners open {20 + n} rooms."}],
            }
        )
    _write_lines(folder / "mt-rag/mtragun-human/generation_tasks/reference.jsonl", rows)


def _write_rewrites(folder: Path, count: int) -> None:
    asked, rewritten = [], []
    for n in range(3000, 3000 + count):
        hall = f"{word_of(n)} hall"
        turns = ((f"Who built {hall}?", f"Who built {hall}?"), ("And when?", f"When was {hall} built?"))
        for turn, (question, full) in enumerate(turns, start=1):
            first = f"|user|: Who built {hall}?\n" if turn == 2 else ""
            asked.append({"_id": f"r{n}<::>{turn}", "text": f"{first}|user|: {question}"})
            rewritten.append({"_id": f"r{n}<::>{turn}", "text": f"|user|: {full}"})
    tasks = folder / "mt-rag/mtrag-human/retrieval_tasks/govt"
    _write_lines(tasks / "govt_questions.jsonl", asked)
    _write_lines(tasks / "govt_rewrite.jsonl", rewritten)


def _write_doc2dial(folder: Path, count: int) -> None:
    table = io.StringIO()
    writer = csv.DictWriter(table, ["id", "question", "context", "answers", "spans", "domain", "title"])
    writer.writeheader()
    for n in range(4000, 4000 + count):
        context = town_text(n)
        reply = context.split(". ")[2] + "."
        answers = {"text": [reply], "answer_start": [context.index(reply)], "spans": {}}
        question = f"user:How many rooms can I see in number {n}? \tagent:Hello \tuser:Hello"
        row = {"id": n, "question": question, "context": context, "answers": str(answers)}
        writer.writerow(row | {"spans": "{}", "domain": "halls", "title": f"{town_title(n)}#1_0"})
    path = folder / "doc2dial/v1.0.1/doc2dial_rc_val.csv.zip"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("doc2dial_rc_val.csv", table.getvalue())
