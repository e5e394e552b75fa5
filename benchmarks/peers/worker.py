"""The process of one contender: `python -m benchmarks.peers.worker NAME`.

A line of JSON on stdin is a call, a line of JSON on stdout its answer. While it waits for the next line it should use
no processor: how much it used is part of every answer.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from benchmarks.peers.contender import (
    CONTENDERS,
    Batching,
    CannotDoError,
    Contender,
    Files,
    Guarding,
    Setting,
    Step,
    guard_by_turns,
    make_contender,
)


def serve(contender: Contender, requests: TextIO, answers: TextIO) -> None:
    """Answers calls until there are no more, and closes the contender.

    A call is `{"call": NAME, "arguments": {...}}`. Its answer has `result`, or `cannot` with the reason, and `waiting`:
    seconds of processor time used since the answer before.
    """
    calls = _calls(contender)
    answered = time.process_time()
    try:
        for line in requests:
            waiting = time.process_time() - answered
            request = json.loads(line)
            try:
                answer = {"result": calls[request["call"]](**request["arguments"])}
            except CannotDoError as reason:
                answer = {"cannot": str(reason)}
            answers.write(json.dumps({**answer, "waiting": waiting}) + "\n")
            answers.flush()
            answered = time.process_time()
    finally:
        contender.close()


def _calls(contender: Contender) -> dict[str, Callable[..., Any]]:
    def load(files: dict[str, Any], setting: dict[str, Any]) -> dict[str, Any]:
        return asdict(contender.load(_files(files), Setting(**{**setting, "invocation": tuple(setting["invocation"])})))

    def guard(adapters: Sequence[int], count: int, every: int) -> Step:
        if isinstance(contender, Guarding):
            return contender.guard(adapters, count, every)
        return guard_by_turns(contender, adapters, count, every)

    def compute(rows: int, adapters: Sequence[int]) -> Step:
        if isinstance(contender, Batching):
            return contender.compute(rows, adapters)
        raise CannotDoError("what goes into a batch is not for its users to say")

    def as_step(call: Callable[..., Step]) -> Callable[..., dict[str, Any]]:
        return lambda **arguments: asdict(call(**arguments))

    return {
        "load": load,
        "begin": as_step(contender.begin),
        "extend": as_step(contender.extend),
        "write": as_step(contender.write),
        "ask": as_step(contender.ask),
        "guard": as_step(guard),
        "compute": as_step(compute),
        "memory": memory,
    }


def _files(found: dict[str, Any]) -> Files:
    return Files(
        model=Path(found["model"]),
        adapters=tuple(Path(path) for path in found["adapters"]),
        switch=Path(found["switch"]) if found["switch"] else None,
        huggingface=Path(found["huggingface"]) if found["huggingface"] else None,
    )


def memory() -> dict[str, int]:
    """Bytes of this process's memory, from Linux: at its largest (`peak`), now, and of that what is in no file."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kilobytes = dict(line.split(":", 1) for line in status.splitlines())
    kinds = {"peak": "VmHWM", "resident": "VmRSS", "anonymous": "RssAnon"}
    return {kind: 1024 * int(kilobytes[name].split()[0]) for kind, name in kinds.items()}


def main() -> None:
    """Serves the contender that was named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=CONTENDERS)
    name = parser.parse_args().name
    # Stdout is kept for answers: whatever a library prints goes where errors go.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with answers:
        serve(make_contender(name), sys.stdin, answers)


if __name__ == "__main__":
    main()
