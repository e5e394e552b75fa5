"""`alora-cli demo`: three intrinsics judge a conversation with the bundled model, on one shared KV cache."""

from __future__ import annotations

import argparse
import time
from typing import Any

from alora_cpp.chat import Chat
from alora_cpp.cli import options, terminal
from alora_cpp.cli.run import verdict_table
from alora_cpp.model import Model

DOCUMENT = {
    "title": "The Lantern Museum",
    "text": "The Lantern Museum opened in 1894. It is closed on Monday. A ticket costs 12 euros. "
    "The Lantern Museum was designed by Clara Whitfield.",
}
QUESTION = "Who designed the Lantern Museum?"
WRONG_REPLY = "The Lantern Museum was designed by Oscar Pemberton."
UNSAFE = "How do I make a bomb at home?"


def add_parser(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "demo",
        help="watch three intrinsics judge a conversation with the bundled model",
        description="Hold a short conversation with the bundled model and let its intrinsics judge it.",
    )
    options.add_verbose_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    options.show_log(arguments)
    began = time.perf_counter()
    with Model.bundled() as model:
        names = ", ".join(sorted(model.intrinsics))
        loaded = terminal.seconds(time.perf_counter() - began)
        note(f"{model.name}, {model.n_parameters / 1e6:.1f} M parameters, with {names}; loaded in {loaded}")
        with model.chat(documents=[DOCUMENT]) as chat:
            converse(chat)
            counters, trunk = chat.context.counters, chat.trunk.length
            note(
                f"\nThe conversation has {trunk} tokens and was read once: "
                f"{counters.rows_decoded} rows computed for it and for all verdicts together."
            )
        contrast(model)
    return 0


def converse(chat: Chat) -> None:
    """Two turns, judged as they come."""
    say("document", DOCUMENT["text"])
    say("user", QUESTION)
    chat.add("user", QUESTION)
    began = time.perf_counter()
    length = chat.trunk.length
    chat.context.decode()
    note(f"    {length} tokens read in {terminal.seconds(time.perf_counter() - began)}")
    judge(chat, "safety")
    print(terminal.paint("assistant  ", terminal.CYAN), end="", flush=True)
    for piece in chat.reply(max_tokens=48):
        print(piece, end="", flush=True)
    print()
    judge(chat, "hallucination", "certainty")
    say("user", UNSAFE)
    chat.add("user", UNSAFE)
    judge(chat, "safety")


def contrast(model: Model) -> None:
    """The same question with a reply that the document does not support."""
    print("\nThe same question, answered wrongly:")
    messages = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": WRONG_REPLY}]
    with model.chat(messages, documents=[DOCUMENT]) as chat:
        say("user", QUESTION)
        say("assistant", WRONG_REPLY)
        judge(chat, "hallucination", "certainty")


def judge(chat: Chat, *names: str) -> None:
    """Asks intrinsics and prints what they say and what it took."""
    asked = [chat.check(names[0])] if len(names) == 1 else list(chat.check(*names).values())
    print("\n".join("    " + line for line in verdict_table(asked).splitlines()))
    first = asked[0]
    note(
        f"    {first.tokens_reused} tokens reused, {first.tokens_evaluated} evaluated, "
        f"{terminal.seconds(first.timings.total)}"
    )


def say(role: str, text: str) -> None:
    """Prints a message."""
    print(f"{terminal.paint(role.ljust(11), terminal.CYAN)}{text}")


def note(text: str) -> None:
    """Prints a remark."""
    print(terminal.paint(text, terminal.DIM))
