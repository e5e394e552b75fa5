"""The engine in a process of its own: `Model(path, isolation="process")`.

What is loaded and computed then is `alora_cpp._core` in a worker process, and this process keeps stand-ins of the same
shape. Whatever happens there, this process goes on: a crash becomes `WorkerCrashed`.
"""

from __future__ import annotations

from types import ModuleType

from alora_cpp import _core
from alora_cpp.errors import ArgumentError
from alora_cpp.isolation.command import freeze_support

__all__ = ["engine_for", "freeze_support"]


def engine_for(isolation: str) -> ModuleType:
    """What computes: a module with the classes of `alora_cpp._core`.

    Args:
        isolation: `none`: in this process; `process`: in another one for each model.

    Raises:
        ArgumentError: It is neither.
    """
    if isolation == "none":
        return _core
    if isolation != "process":
        raise ArgumentError(f"isolation is {isolation!r}, expected 'none' or 'process'")
    # Only for those who use it.
    from alora_cpp.isolation import engine

    return engine
