"""What llama.cpp has to say. Without a sink it is dropped: the library prints nothing."""

from __future__ import annotations

from collections.abc import Callable

from alora_cpp import _core

DEBUG, INFO, WARNING, ERROR = 1, 2, 3, 4


def set_log_sink(sink: Callable[[int, str], None] | None) -> None:
    """Sends llama.cpp's log lines somewhere, for the whole process.

    Args:
        sink: Called with the level (1 debug, 2 info, 3 warning, 4 error) and the line, its newline included, from
            whichever thread computes. None drops all lines.
    """
    if sink is None:
        _core.set_log_sink(None)
        return
    target = sink
    _core.set_log_sink(lambda level, line: target(level, line.decode("utf-8", errors="replace")))
