"""A branch in a worker, of the same shape as `alora_cpp._core.Branch`; documented where it is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from alora_cpp.errors import AdapterMismatchError
from alora_cpp.isolation.model import Adapter
from alora_cpp.isolation.place import Place, Resident
from alora_cpp.isolation.wire import Held, tokens

_STATE = ("length", "n_queued", "activation_position")


class Branch(Resident):
    """A branch."""

    def __init__(self, place: Place, number: int) -> None:
        super().__init__(place, number)
        self._is_closed = False
        self._known: dict[str, Any] = {}
        self._known_at = -1

    def check_not_lost(self) -> None:
        """Raises what there is to say where the worker has ended."""
        self.place.worker.check_alive()

    def append(self, values: Sequence[int]) -> None:
        """As in the core."""
        self._run("append", tokens(values))

    def fork(self, at: int | None = None) -> Branch:
        """As in the core."""
        return Branch(self.place, self.place.make("fork", at, target=self.number, options={}))

    def activate(self, adapter: Adapter, scale: float = 1.0) -> None:
        """As in the core."""
        self.check_not_lost()
        mine = self.place.model
        if not isinstance(adapter, Adapter) or adapter.model is not mine:
            other = f"the model {adapter.model.path}" if isinstance(adapter, Adapter) else "a model in another process"
            raise AdapterMismatchError(
                f"adapter '{adapter.name}' was loaded for {other}, the branch belongs to {mine.path}; load it for "
                "that one"
            )
        _, number = adapter.here()
        self._run("activate", Held(number), scale)

    def drop(self, begin: int, end: int) -> None:
        """As in the core."""
        self._run("drop", begin, end)

    def logits(self, rows: int = 1) -> npt.NDArray[np.float32]:
        """As in the core."""
        values: npt.NDArray[np.float32] = self._run("logits", rows)
        return values

    def save(self) -> Any:
        """As in the core."""
        return self._run("save")

    def kv_bytes(self) -> Any:
        """As in the core."""
        return self._run("kv_bytes")

    def close(self) -> None:
        """As in the core; the worker hears of it with the context's next call."""
        if not self._is_closed:
            self._is_closed = True
            self.place.leavings.close(self.number)

    @property
    def closed(self) -> bool:
        """As in the core; and whether it is lost."""
        return self._is_closed or self.place.is_closed or not self.place.worker.is_alive

    @property
    def length(self) -> Any:
        """As in the core."""
        return self._read("length")

    @property
    def n_queued(self) -> Any:
        """As in the core."""
        return self._read("n_queued")

    @property
    def tokens(self) -> Any:
        """As in the core."""
        return self._run("tokens")

    @property
    def activation_position(self) -> Any:
        """As in the core."""
        return self._read("activation_position")

    def _read(self, name: str) -> Any:
        # These are asked for again and again: all of them come with one message, and hold until something happens.
        if self.closed:
            return self._run(name)
        moment = self.place.moment
        if self._known_at != moment:
            self._known = self.place.worker.facts(self.number, _STATE)
            self._known_at = moment
        return self._known[name]
