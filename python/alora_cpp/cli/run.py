"""`alora-cli run`: asks intrinsics about a conversation."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

from alora_cpp.cli import options, terminal
from alora_cpp.cli.conversations import Conversation, read_conversations, read_documents
from alora_cpp.verdict import Verdict

if TYPE_CHECKING:
    from alora_cpp.model import Model


def add_parser(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "run",
        help="ask intrinsics about a conversation",
        description="Ask intrinsics about a conversation: it is read once, and all of them are asked in one pass.",
    )
    parser.add_argument("model", metavar="MODEL", help=options.MODEL_HELP)
    parser.add_argument("messages", metavar="MESSAGES", nargs="?", help="JSON or JSON lines file, '-' for stdin")
    parser.add_argument("--prompt", metavar="TEXT", help="a conversation of this one user message")
    parser.add_argument(
        "--intrinsic",
        metavar="NAME[,NAME]",
        required=True,
        type=options.names,
        help="which intrinsics to ask; 'alora-cli list MODEL' shows what there is",
    )
    options.add_conversation_options(parser)
    options.add_argument_option(parser)
    parser.add_argument("--json", action="store_true", help="verdicts as JSON, a line for each conversation")
    options.add_model_options(parser)
    parser.set_defaults(run=run, refuse=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    options.show_log(arguments)
    conversations = _conversations(arguments)
    began = time.perf_counter()
    with options.load_model(arguments.model, n_gpu_layers=arguments.gpu_layers) as model:
        options.load_intrinsics(model, arguments.intrinsic, arguments)
        loaded = time.perf_counter() - began
        for conversation in conversations:
            _judge(model, conversation, loaded, arguments)
    return 0


def _conversations(arguments: argparse.Namespace) -> list[Conversation]:
    if (arguments.messages is None) == (arguments.prompt is None):
        arguments.refuse("give either a MESSAGES file (or '-') or --prompt TEXT")
    if arguments.prompt is not None:
        conversations = [Conversation([{"role": "user", "content": arguments.prompt}])]
    else:
        conversations = read_conversations(arguments.messages)
    documents = read_documents(arguments.documents)
    for conversation in conversations:
        conversation.documents = [*conversation.documents, *documents]
    return conversations


def _judge(model: Model, conversation: Conversation, loaded: float, arguments: argparse.Namespace) -> None:
    names = arguments.intrinsic
    with model.chat(
        conversation.messages,
        documents=conversation.documents,
        n_ctx=arguments.ctx_size,
        n_threads=arguments.threads,
    ) as chat:
        began = time.perf_counter()
        with terminal.Progress("reading the conversation"):
            n_tokens = chat.trunk.length
            chat.context.decode()
        read = time.perf_counter() - began
        with terminal.Progress("asking"):
            verdicts = chat.check(*names, arguments=dict(arguments.argument))
    if isinstance(verdicts, Verdict):
        verdicts = {names[0]: verdicts}
    first = next(iter(verdicts.values()))
    if arguments.json:
        timings = {"load": loaded, "read": read, "check": first.timings.total}
        plain = {name: verdict.as_dict() for name, verdict in verdicts.items()}
        print(json.dumps({"verdicts": plain, "tokens": n_tokens, "seconds": timings}, ensure_ascii=False))
        return
    print(verdict_table(verdicts.values()))
    print(
        terminal.paint(
            f"{first.tokens_reused} tokens reused, {first.tokens_evaluated} evaluated for the verdicts; "
            f"model loaded in {terminal.seconds(loaded)}, conversation read in {terminal.seconds(read)}, "
            f"intrinsics asked in {terminal.seconds(first.timings.total)}",
            terminal.DIM,
        )
    )


def verdict_table(verdicts: Any) -> str:
    """Verdicts as a table."""
    rows = []
    for verdict in verdicts:
        probability = "" if verdict.probability is None else f"{verdict.probability:.3f}"
        value = "" if verdict.value is None else f"{verdict.value:.3f}"
        rows.append([verdict.intrinsic, terminal.printable(answer_of(verdict)), probability, value])
    return terminal.table(["intrinsic", "answer", "probability", "value"], rows)


def answer_of(verdict: Verdict) -> str:
    """A verdict's answer in one line: the label where it is all of the answer, else the result."""
    if verdict.label is not None and not isinstance(verdict.result, dict | list):
        return verdict.label
    return verdict.result if isinstance(verdict.result, str) else json.dumps(verdict.result, ensure_ascii=False)
