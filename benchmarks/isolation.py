"""What `isolation="process"` adds to a check, to a token of a reply and to loading.

    python benchmarks/isolation.py [--checks 100] [--tokens 64] [--threads N] [--json]

The bundled model, in this process and in a worker, in turns: one intrinsic that answers with a label after a
conversation of about 500 tokens that was read before, a greedy reply, and loading without intrinsics. Medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

from alora_cpp import Chat, Model
from alora_cpp.bundled_model import BUNDLED

WAYS = ("none", "process")
MESSAGES = [
    {"role": role, "content": "The museum is closed on Monday, and a ticket costs 12 euros. " * 6}
    for role in ("user", "assistant") * 3
]


def check_seconds(chat: Chat) -> float:
    """Seconds of one check."""
    began = time.perf_counter()
    chat.check("safety")
    return time.perf_counter() - began


def token_seconds(chat: Chat, n_tokens: int) -> float:
    """Seconds of a token of a reply, which is taken back."""
    n_messages, n_before = len(chat.messages), len(chat.trunk)
    began = time.perf_counter()
    for _ in chat.reply(max_tokens=n_tokens):
        pass
    seconds = time.perf_counter() - began
    n_written = max(1, len(chat.trunk) - n_before)
    del chat.messages[n_messages:]
    return seconds / n_written


def load_seconds(isolation: str) -> float:
    """Seconds of loading the model."""
    began = time.perf_counter()
    with Model(BUNDLED, isolation="process" if isolation == "process" else "none"):
        return time.perf_counter() - began


def main() -> None:
    """Prints a table, or JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--checks", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with Model.bundled() as here, Model.bundled(isolation="process") as there:
        chats = {
            way: model.chat(MESSAGES, n_threads=options.threads) for way, model in zip(WAYS, (here, there), strict=True)
        }
        taken: dict[str, dict[str, list[float]]] = {
            what: {way: [] for way in WAYS} for what in ("check", "token", "load")
        }
        for chat in chats.values():
            check_seconds(chat)
        for number in range(options.checks):
            for way, chat in chats.items():
                taken["check"][way].append(check_seconds(chat))
                if number % 10 == 0:
                    taken["token"][way].append(token_seconds(chat, options.tokens))
                    taken["load"][way].append(load_seconds(way))
    medians = {
        what: {way: statistics.median(seconds) * 1e3 for way, seconds in ways.items()} for what, ways in taken.items()
    }
    if options.json:
        print(json.dumps({"milliseconds": medians}))
        return
    print("milliseconds      here   worker   more")
    for what, ways in medians.items():
        print(f"{what:<12}{ways['none']:>10.2f}{ways['process']:>9.2f}{ways['process'] - ways['none']:>7.2f}")


if __name__ == "__main__":
    main()
