"""Work of a context under asyncio: on a thread, cancelled with the task that waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from alora_cpp.context import Context

Result = TypeVar("Result")


async def run(context: Context, work: Callable[[], Result]) -> Result:
    """Runs work on a thread. Where the waiting task is cancelled, the context's work is too, and is waited for.

    Args:
        context: The context that the work computes with; nothing else may compute with it meanwhile.
        work: What to do.

    Raises:
        asyncio.CancelledError: The task was cancelled; the work has ended by then.
    """
    running = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        context.cancel()
        while not running.done():
            try:
                await asyncio.wait({running})
            except asyncio.CancelledError:
                continue
        # The work may have ended before it noticed: the next one must not be cancelled in its place.
        context.resume()
        running.exception()
        raise
