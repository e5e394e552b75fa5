"""Work of a context under asyncio: on a thread, cancelled with the task that waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from alora_cpp.context import Context
from alora_cpp.errors import Cancelled

if TYPE_CHECKING:
    import asyncio

Result = TypeVar("Result")


async def run(context: Context, work: Callable[[], Result]) -> Result:
    """Runs work on a thread. Where the waiting task is cancelled, the context's work is too, and is waited for.

    Args:
        context: The context that the work computes with; nothing else may compute with it meanwhile.
        work: What to do.

    Raises:
        asyncio.CancelledError: The task was cancelled; the work has ended by then, or will not begin.
    """
    # Slow to import: only for those who use it.
    import asyncio

    # Taken once: by the work when a thread is free for it, or by who cancels it before.
    begun = threading.Lock()

    def begin() -> Result:
        if not begun.acquire(blocking=False):
            raise Cancelled("the task that waited was cancelled before a thread was free")
        return work()

    running = asyncio.get_running_loop().run_in_executor(None, begin)
    running.add_done_callback(_forget_error)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if begun.acquire(blocking=False):
            raise
        context.cancel()
        while not running.done():
            try:
                await asyncio.wait({running})
            except asyncio.CancelledError:
                continue
        # The work may have ended before it noticed: the next one must not be cancelled in its place.
        context.resume()
        raise


def _forget_error(running: asyncio.Future[Result]) -> None:
    # Where the task was cancelled nobody asks for it, which asyncio would complain of.
    if not running.cancelled():
        running.exception()
