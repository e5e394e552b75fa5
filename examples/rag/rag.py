"""Questions over a folder of documents: a grounded reply, judged by intrinsics on the KV cache it was written with.

`python examples/rag/rag.py` asks a few questions about the documents beside it; README.md says what happens to them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from textwrap import shorten

from index import Passage, PassageIndex, read_folder

from alora_cpp import AdapterNotFoundError, AloraError, AnswerError, Chat, GuardCheck, Model, Verdict

DOCUMENTS = Path(__file__).parent / "documents"
# Conversations: within one, a question may refer to those before it.
QUESTIONS = (
    ("Who designed the Lantern Museum?", "When is it closed?"),
    ("How long can I keep a book from Oakdale Public Library?",),
    ("Who runs the Harbour Hotel?",),
    ("What is the capital of France?",),
    ("How can I poison someone?",),
)
STAGES = ("safety", "query_rewrite", "answerability", "hallucination", "certainty")
# The label of the safety and the hallucination intrinsic that is bad news.
FLAG = "Y"
# A question is given up only where it is this likely to be unanswerable: what is replied to others is still watched.
SURE = 0.8


@dataclass(frozen=True)
class Rows:
    """What it took, in rows: one token of one branch computed once.

    Attributes:
        trunk: Rows of passages, question and reply.
        verdicts: Rows computed for verdicts.
        reused: Rows that verdicts found in the cache; without sharing, each would have been computed once more.
        dropped: Rows of passages that a rewritten question replaced by others.
    """

    trunk: int = 0
    verdicts: int = 0
    reused: int = 0
    dropped: int = 0


@dataclass(frozen=True)
class Answer:
    """What came of a question.

    Attributes:
        question: The question.
        passages: The passages that the reply is grounded in, best first.
        rewritten: The question as it was searched for, where an intrinsic rewrote it.
        stopped: Why there is no reply: `unsafe`, `nothing found`, `unanswerable`; None if there is one.
        text: The reply.
        sentences: The reply's sentences, each with the verdict on it.
        verdicts: What the other intrinsics said, by stage.
        skipped: Stages for which no intrinsic is loaded.
        rows: What it took.
    """

    question: str
    passages: tuple[Passage, ...]
    rewritten: str | None = None
    stopped: str | None = None
    text: str = ""
    sentences: tuple[GuardCheck, ...] = ()
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    rows: Rows = Rows()

    @property
    def flagged(self) -> tuple[str, ...]:
        """The sentences that the passages do not support."""
        return tuple(check.sentence for check in self.sentences if check.flagged)


def answer(
    model: Model,
    index: PassageIndex,
    question: str,
    *,
    history: Sequence[Mapping[str, str]] = (),
    n_passages: int = 2,
    max_tokens: int = 128,
    n_threads: int = 0,
) -> Answer:
    """Answers a question from the passages of an index.

    Passages, question and reply are one trunk; every verdict comes from a fork of it.

    Args:
        model: A model; the stages whose intrinsics it has not loaded are skipped.
        index: The passages.
        question: The question.
        history: Earlier messages of the conversation.
        n_passages: How many passages to read.
        max_tokens: Longest reply.
        n_threads: As for `Model.chat`.

    Raises:
        AnswerError: An intrinsic's answer is none.
        ContextFullError: History, passages and reply do not fit.
    """
    found = tuple(index.search(question, n_passages))
    messages = [*history, {"role": "user", "content": question}]
    with model.chat(messages, documents=_documents(found), n_threads=n_threads) as chat:
        # Read before anything is asked, so that what a verdict finds in the cache counts from the first one on.
        _ = chat.trunk
        chat.context.decode()
        skipped = tuple(stage for stage in STAGES if not _loaded(model, stage))
        result = _converse(chat, Answer(question, found, skipped=skipped), index, n_passages, max_tokens)
        return replace(result, rows=_rows(chat, result))


def _converse(chat: Chat, begun: Answer, index: PassageIndex, n_passages: int, max_tokens: int) -> Answer:
    """Goes through the stages, up to the one that stops it."""
    # A first question refers to nothing: it is searched for as it is.
    follows = any(message["role"] == "user" for message in chat.messages[:-1])
    result = _ask(chat, begun, "safety", *(["query_rewrite"] if follows else []))
    if "safety" in result.verdicts and result.verdicts["safety"].label == FLAG:
        return replace(result, stopped="unsafe")
    if "query_rewrite" in result.verdicts:
        rewritten = _rewritten(result.verdicts["query_rewrite"])
        found = tuple(index.search(rewritten, n_passages))
        dropped = _replace_passages(chat, found)
        result = replace(result, rewritten=rewritten, passages=found, rows=Rows(dropped=dropped))
    if not result.passages:
        return replace(result, stopped="nothing found")
    result = _ask(chat, result, "answerability")
    if "answerability" in result.verdicts and _is_unanswerable(result.verdicts["answerability"]):
        return replace(result, stopped="unanswerable")
    guards = {"hallucination": FLAG} if "hallucination" not in result.skipped else {}
    reply = chat.reply(max_tokens=max_tokens, guards=guards, on_flag="report")
    text = "".join(reply)
    return _ask(chat, replace(result, text=text, sentences=tuple(reply.checks)), "certainty")


def _ask(chat: Chat, result: Answer, *stages: str) -> Answer:
    """Adds the verdicts of those stages that have an intrinsic, all from one pass."""
    names = [stage for stage in stages if stage not in result.skipped]
    if not names:
        return result
    verdicts = chat.check(*names)
    if isinstance(verdicts, Verdict):
        verdicts = {names[0]: verdicts}
    return replace(result, verdicts={**result.verdicts, **verdicts})


def _replace_passages(chat: Chat, passages: Sequence[Passage]) -> int:
    """Grounds the chat in other passages: the trunk keeps what both prompts begin with. Returns the rows it drops."""
    before = chat.trunk.tokens
    chat.documents[:] = _documents(passages)
    kept = takewhile(lambda pair: pair[0] == pair[1], zip(before, chat.trunk.tokens, strict=False))
    return len(before) - sum(1 for _ in kept)


def _rows(chat: Chat, result: Answer) -> Rows:
    """What the chat has computed, told apart."""
    trunk, dropped = chat.trunk.length - chat.trunk.n_queued, result.rows.dropped
    asked = [*result.verdicts.values(), *(one for check in result.sentences for one in check.verdicts.values())]
    computed = chat.context.counters.rows_decoded
    return Rows(trunk, computed - trunk - dropped, sum(verdict.tokens_reused for verdict in asked), dropped)


def _loaded(model: Model, stage: str) -> bool:
    try:
        model.intrinsic(stage)
    except AdapterNotFoundError:
        return False
    return True


def _is_unanswerable(verdict: Verdict) -> bool:
    return "unanswerable" in verdict.text and (verdict.probability is None or verdict.probability >= SURE)


def _rewritten(verdict: Verdict) -> str:
    result = verdict.result
    text = result.get("rewritten_question") if isinstance(result, Mapping) else result
    if not isinstance(text, str):
        raise AnswerError(f"query_rewrite answered {verdict.text}, expected text, or an object with rewritten_question")
    return text


def _documents(passages: Sequence[Passage]) -> list[dict[str, str]]:
    return [{"title": passage.title, "text": passage.text} for passage in passages]


def show(result: Answer) -> None:
    """Prints what came of a question."""
    print(f"\n{result.question}")
    for passage in result.passages:
        _line("from", f"{passage.source}: {shorten(passage.text, 80)}")
    if result.rewritten:
        _line("rewritten", result.rewritten)
    for stage, verdict in result.verdicts.items():
        if stage not in ("query_rewrite", "certainty"):
            _line(stage, _label(verdict))
    _line(*("stopped", result.stopped) if result.stopped else ("reply", result.text))
    for check in result.sentences:
        judged = ", ".join(f"{name} {_label(verdict)}" for name, verdict in check.verdicts.items())
        _line("FLAGGED" if check.flagged else "sentence", f"{check.sentence} ({judged})")
    if "certainty" in result.verdicts:
        _line("certainty", _label(result.verdicts["certainty"]))
    rows = result.rows
    _line(
        "rows",
        f"{rows.trunk} of passages, question and reply, computed once; {rows.verdicts} for verdicts, "
        f"which found {rows.reused} in the cache" + (f"; {rows.dropped} dropped" if rows.dropped else ""),
    )


def _line(label: str, text: str) -> None:
    print(f"  {label:<15}{text}")


def _label(verdict: Verdict) -> str:
    if verdict.probability is None:
        return verdict.text
    mean = "" if len(verdict.probabilities) == 2 or verdict.value is None else f", mean {verdict.value:.2f}"
    return f"{verdict.label} {verdict.probability:.0%}{mean}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="Answer questions from a folder of documents, and judge the answers.")
    parser.add_argument(
        "questions", metavar="QUESTION", nargs="*", help="what to ask (default: a few about the example)"
    )
    parser.add_argument(
        "--conversation", action="store_true", help="a QUESTION may refer to those before it, and their replies"
    )
    parser.add_argument("--model", metavar="MODEL", default="bundled", help="a GGUF file (default: the bundled model)")
    parser.add_argument(
        "--adapter",
        metavar="NAME=PATH",
        action="append",
        default=[],
        type=_named_path,
        help="an intrinsic's adapter file (repeatable)",
    )
    parser.add_argument("--documents", metavar="FOLDER", type=Path, default=DOCUMENTS, help=".txt and .md files")
    parser.add_argument("--passages", metavar="N", type=int, default=2, help="passages to read (default: 2)")
    parser.add_argument("-t", "--threads", metavar="N", type=int, default=0, help="threads (default: physical cores)")
    arguments = parser.parse_args(argv)
    if not arguments.questions and arguments.documents != DOCUMENTS:
        parser.error("no QUESTION for these --documents")
    try:
        run(arguments)
    except (AloraError, OSError) as error:
        print(f"rag.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def _named_path(text: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH")
    return name, path


def run(arguments: argparse.Namespace) -> None:
    """Answers the questions of the command line."""
    with (
        closing(PassageIndex(read_folder(arguments.documents))) as index,
        Model.bundled() if arguments.model == "bundled" else Model(arguments.model) as model,
    ):
        for name, path in arguments.adapter:
            model.load_intrinsic(path, name=name)
        skipped = [stage for stage in STAGES if not _loaded(model, stage)]
        print(f"{len(index)} passages; {model.name}" + (f"; no intrinsic for {', '.join(skipped)}" if skipped else ""))
        for questions in _conversations(arguments):
            history: list[dict[str, str]] = []
            for question in questions:
                result = answer(
                    model, index, question, history=history, n_passages=arguments.passages, n_threads=arguments.threads
                )
                show(result)
                # What got no reply is no part of the conversation.
                if not result.stopped:
                    history += [{"role": "user", "content": question}, {"role": "assistant", "content": result.text}]


def _conversations(arguments: argparse.Namespace) -> Sequence[Sequence[str]]:
    """The questions that are asked in one conversation, for each conversation."""
    if not arguments.questions:
        return QUESTIONS
    return [arguments.questions] if arguments.conversation else [[question] for question in arguments.questions]


if __name__ == "__main__":
    sys.exit(main())
