"""A branch: one token sequence in a context, forked from another or begun empty."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from alora_cpp import _core
from alora_cpp.adapter import Adapter


class Branch:
    """One token sequence. Made by `Context.branch` and `Branch.fork`; gives its cells back when closed or dropped."""

    def __init__(self, core: _core.Branch, adapter: Adapter | None = None) -> None:
        self._core = core
        self._adapter = adapter

    def append(self, tokens: Sequence[int]) -> None:
        """Queues rows; `Context.decode` computes them.

        Raises:
            TokenError: A token is not in the vocabulary.
            ContextFullError: There are not enough free cells. Nothing is queued then.
            ClosedError: The branch or its context is closed.
        """
        self._core.append(list(tokens))

    def fork(self, at: int | None = None) -> Branch:
        """A new branch that shares this one's rows before a position, in constant time and without copying KV.

        A fork that shares rows governed by an adapter stays governed by it; one taken at or before the activation
        position is not.

        Args:
            at: The first position that is not shared; the branch's length if not given.

        Raises:
            PositionError: The branch has no such position; or the model has recurrent layers, which keep the state of
                a branch's last row alone, and the branch has gone on since.
            ContextFullError: Too many branches are open.
            ClosedError: The branch or its context is closed.
        """
        forked = self._core.fork(at)
        return Branch(forked, self._adapter if forked.activation_position is not None else None)

    def activate(self, adapter: Adapter, scale: float = 1.0) -> None:
        """Lets an adapter govern the rows from here on.

        Args:
            adapter: An adapter of the same model.
            scale: Multiplies the adapter's own scale.

        Raises:
            AdapterMismatchError: The adapter belongs to another model.
            AdapterError: Another adapter has governed rows of this branch already.
            ArgumentError: The scale is not a finite number.
            ClosedError: The branch or its context is closed.
        """
        self._core.activate(adapter._core, scale)
        self._adapter = adapter

    def logits(self, rows: int | None = None) -> NDArray[np.float32]:
        """Logits of the last row, or of the last rows.

        The last row's are kept from the decode that computed it. Earlier rows are computed again, on a fork that is
        gone afterwards.

        Args:
            rows: How many rows; the last one if not given.

        Returns:
            float32 of shape [n_vocab], or [rows, n_vocab] where `rows` is given.

        Raises:
            PositionError: Rows are queued still, or the branch has fewer rows.
            ContextFullError: There are no free cells to compute earlier rows again.
            ClosedError: The branch or its context is closed.
        """
        values = self._core.logits(1 if rows is None else rows)
        return values[0] if rows is None else values

    @property
    def length(self) -> int:
        """Rows, queued ones too: the position of the next token."""
        return self._core.length

    def __len__(self) -> int:
        return self._core.length

    @property
    def n_queued(self) -> int:
        """Rows that wait for `Context.decode`."""
        return self._core.n_queued

    @property
    def tokens(self) -> list[int]:
        """All tokens of the branch, shared ones too."""
        return self._core.tokens

    @property
    def adapter(self) -> Adapter | None:
        """The adapter that governs rows appended now."""
        return self._adapter

    @property
    def activation_position(self) -> int | None:
        """The first position that the adapter governs."""
        return self._core.activation_position

    def drop(self, begin: int, end: int) -> None:
        """Takes rows out; later ones move up, their keys turned to their new positions.

        What follows still holds what it once read of the rows that are gone: this saves the time of reading the rest
        again, and is not the same.

        Args:
            begin: The first row to go.
            end: The first row to stay after it.

        Raises:
            PositionError: There are no such rows, some are queued, or forks share the branch.
            AdapterError: An adapter governs the branch.
            BackendError: The model's positions cannot be moved.
            ClosedError: The branch or its context is closed.
        """
        self._core.drop(begin, end)

    def save(self) -> bytes:
        """Tokens and KV of all rows, shared ones too, for `Context.restore`.

        Raises:
            PositionError: Rows are queued.
            AdapterError: An adapter governs the branch.
            ClosedError: The branch or its context is closed.
        """
        return self._core.save()

    def kv_bytes(self) -> bytes:
        """The KV cells that the branch holds itself, without what it shares with its origin, in llama.cpp's format."""
        return self._core.kv_bytes()

    def close(self) -> None:
        """Gives its cells back, except those that forks of it still share. Closing twice is fine."""
        self._core.close()

    @property
    def closed(self) -> bool:
        """Whether the branch or its context is closed."""
        return self._core.closed

    def __enter__(self) -> Branch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self.closed:
            return "Branch(closed)"
        return f"Branch(length={self.length}, queued={self.n_queued}, adapter={self._adapter and self._adapter.name!r})"
