"""A context in one worker, and what lives in it."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from alora_cpp.isolation.model import Model
from alora_cpp.isolation.process import Leavings, Worker


@dataclass(eq=False)
class Place:
    """A context in one worker.

    Attributes:
        worker: The worker.
        number: The context's number there.
        model: Its model.
        leavings: What nobody needs any more of what lives there.
        is_closed: Whether it was closed.
        moment: Another one after each call that may change something; what was read at the same moment still holds.
    """

    worker: Worker
    number: int
    model: Model
    leavings: Leavings = field(default_factory=Leavings)
    is_closed: bool = False
    moment: int = 0
    _moments: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.worker.drop_with(self, self.number, self.leavings)

    @contextmanager
    def _call(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.moment = next(self._moments)

    def run(self, name: str, *arguments: Any, target: int | None = None) -> Any:
        """Runs a method of the context, or of what lives there."""
        number = self.number if target is None else target
        with self._call():
            return self.worker.run(name, *arguments, target=number, leavings=self.leavings, context=self.number)

    def make(self, name: str, *arguments: Any, target: int | None = None, options: dict[str, Any]) -> int:
        """Like `run`, for what is kept; returns its number."""
        with self._call():
            made: int = self.worker.run(
                name,
                *arguments,
                target=target,
                options=options,
                keep=True,
                leavings=self.leavings,
                context=self.number,
            )
        return made


class Resident:
    """Something that lives in a context, in one worker, and is lost with it.

    Attributes:
        place: Where.
        number: Its number there.
    """

    def __init__(self, place: Place, number: int) -> None:
        self.place = place
        self.number = number
        weakref.finalize(self, place.leavings.drop, number).atexit = False

    def _run(self, name: str, *arguments: Any) -> Any:
        return self.place.run(name, *arguments, target=self.number)
