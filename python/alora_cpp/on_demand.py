"""Packages whose names are imported when they are first asked for, so that importing the package takes no time."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

# Threads that import a package and a module of it at once can find each other's half made: so one at a time. While it
# is imported, no module of ours asks a package for such a name, so none waits here for another.
_one_at_a_time = threading.RLock()


def on_demand(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package (PEP 562).

    Args:
        package: The package's name.
        modules: For each public name, the module that defines it.

    Returns:
        Functions for the package's own namespace. The first one keeps what it imports there, so that it is asked
        once a name; it raises AttributeError for names that are in no module.
    """
    namespace = vars(sys.modules[package])

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with _one_at_a_time:
            value = namespace[name] = getattr(import_module(modules[name]), name)
        return value

    def names() -> list[str]:
        return sorted({*namespace, *modules})

    return get, names
