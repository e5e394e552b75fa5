"""A context in a worker, of the same shape as `alora_cpp._core.Context`; documented where it is used.

After a crash a context is made again, empty, by whoever asks for something in it; branches are lost with their worker.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from alora_cpp.errors import ArgumentError, ClosedError, WorkerCrashed
from alora_cpp.isolation.branch import Branch
from alora_cpp.isolation.model import Model
from alora_cpp.isolation.place import Place
from alora_cpp.isolation.records import ContextCounters
from alora_cpp.isolation.wire import Held


class Context:
    """A context; empty again where its worker has crashed."""

    def __init__(self, model: Model, options: dict[str, Any]) -> None:
        self._model = model
        self._options = options
        self._lock = threading.Lock()
        self._place: Place | None = None
        self._is_closed = self._is_cancelled = False
        self.n_ctx: int = self._here().run("n_ctx")

    @staticmethod
    def create(
        model: Model,
        *,
        n_ctx: int,
        n_branches: int,
        n_ubatch: int,
        n_threads: int,
        kv_type: str,
        flash_attention: str,
    ) -> Context:
        """As in the core."""
        options = {
            "n_ctx": n_ctx,
            "n_branches": n_branches,
            "n_ubatch": n_ubatch,
            "n_threads": n_threads,
            "kv_type": kv_type,
            "flash_attention": flash_attention,
        }
        return Context(model, options)

    def _here(self) -> Place:
        """Where it is now; makes it, where it is not there yet."""
        place = self._place
        if self._is_closed and (place is None or not place.worker.is_alive):
            raise ClosedError("the context is closed; make a new one")
        worker, model = self._model.supervisor.worker()
        with self._lock:
            place = self._place
            if place is None or place.worker is not worker:
                number = worker.run("Context.create", Held(model), options=self._options, keep=True)
                place = self._place = Place(worker, number, self._model)
                if self._is_cancelled:
                    self._is_cancelled = False
                    place.run("cancel")
            return place

    def branch(self) -> Branch:
        """As in the core."""
        place = self._here()
        return Branch(place, place.make("branch", target=place.number, options={}))

    def restore(self, saved: bytes) -> Branch:
        """As in the core."""
        place = self._here()
        sent = place.worker.upload(saved)
        try:
            return Branch(place, place.make("restore", sent, target=place.number, options={}))
        finally:
            if isinstance(sent, Held):
                place.worker.drop(sent.number)

    def decode(self) -> None:
        """As in the core."""
        self._here().run("decode")

    def cancel(self) -> None:
        """As in the core. Waits for nobody who starts a worker meanwhile."""
        place = self._place
        if place is not None and place.worker.is_alive:
            place.run("cancel")
        else:
            self._is_cancelled = not self._is_closed

    def resume(self) -> None:
        """As in the core."""
        self._is_cancelled = False
        place = self._place
        if place is not None and place.worker.is_alive:
            place.run("resume")

    def close(self) -> None:
        """As in the core."""
        self._is_closed = True
        place = self._place
        if place is not None:
            place.is_closed = True
            # Where the worker crashed, or was closed, nothing is left to be closed.
            with suppress(WorkerCrashed, ClosedError):
                place.run("close")

    @property
    def closed(self) -> bool:
        """As in the core."""
        return self._is_closed

    @property
    def counters(self) -> ContextCounters:
        """As in the core."""
        return ContextCounters(*self._here().run("counters"))

    @property
    def n_branches(self) -> Any:
        """As in the core."""
        return self._here().run("n_branches")

    @property
    def n_cells_used(self) -> Any:
        """As in the core."""
        return self._here().run("n_cells_used")

    def place_of(self, branches: Sequence[Branch]) -> Place:
        """Where it is, and all of these branches with it.

        Raises:
            WorkerCrashed: One of them is lost.
            ArgumentError: One of them lives in another worker.
        """
        place = self._here()
        for branch in branches:
            if not isinstance(branch, Branch):
                raise ArgumentError("a branch of another context was given; expected branches of this one")
            if branch.place.worker is not place.worker:
                branch.check_not_lost()
                raise ArgumentError("a branch of another context was given; expected branches of this one")
        return place
