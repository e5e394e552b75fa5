"""What people see: tables, colour on a terminal, progress for what takes over a second."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TextIO

BOLD, DIM, RED, GREEN, YELLOW, CYAN = "1", "2", "31", "32", "33", "36"

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def in_colour(stream: TextIO) -> bool:
    """Whether to colour what goes to a stream (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, *styles: str) -> str:
    """Text for stdout, in colour where that is wanted."""
    return f"\x1b[{';'.join(styles)}m{text}\x1b[0m" if in_colour(sys.stdout) else text


def printable(text: str) -> str:
    """A model's text, on a terminal without the control characters that would change how it works."""
    return _CONTROL_CHARACTERS.sub("\N{REPLACEMENT CHARACTER}", text) if sys.stdout.isatty() else text


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their longest cell, the header bold."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()

    return "\n".join([paint(line(header), BOLD), *(line(row) for row in rows)])


class Progress:
    """A line on stderr while something takes long: shown after a second, on a terminal only, and gone afterwards."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._fraction: float | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True) if sys.stderr.isatty() else None

    def update(self, fraction: float) -> bool:
        """Tells how much is done. Returns True, as a load's callback must to go on."""
        self._fraction = fraction
        return True

    def _show(self) -> None:
        began = time.monotonic()
        shown = False
        while not self._done.wait(0.2 if shown else 1.0):
            shown = True
            share = "" if self._fraction is None else f" {self._fraction:.0%}"
            sys.stderr.write(f"\r\x1b[K{self._what}{share} ({time.monotonic() - began:.0f} s)")
            sys.stderr.flush()
        if shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def __enter__(self) -> Progress:
        if self._thread:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._thread:
            self._thread.join()


def seconds(duration: float) -> str:
    """A duration as people read it."""
    return f"{duration * 1000:.1f} ms" if duration < 1 else f"{duration:.2f} s"
