"""Moves low-rank pairs from matrices that hold some parts to matrices that hold others.

Each part of a block keeps its A and its own rows of B. Where one matrix is cut into several, all of
them get the same A. Where several become one, their A's are stacked, and each B has columns of its
own: the rank is the sum of theirs, and rows of a part that no source has are zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .families import Part

Array = npt.NDArray[np.float32]


class Rows(NamedTuple):
    """One part's rows of B: where they are in a source and where they go."""

    part: Part
    start: int
    target_start: int
    height: int


@dataclass(frozen=True)
class Share:
    """What a target takes from one source."""

    source: str
    rows: tuple[Rows, ...]


def regroup(
    sources: Mapping[str, Sequence[Part]],
    targets: Mapping[str, Sequence[Part]],
    height: Callable[[Part], int],
) -> dict[str, tuple[Share, ...]]:
    """Says what each target of one block takes from which sources.

    Args:
        sources: The parts in each adapted matrix, from the top row down.
        targets: The parts in each matrix that may be adapted.
        height: How many rows a part has.

    Returns:
        The shares of every target that has any, from its top row down. A part of the sources that
        is in no target is in no share.
    """
    starts = {name: _starts(parts, height) for name, parts in sources.items()}
    result = {}
    for target, parts in targets.items():
        places = _starts(parts, height)
        shares = []
        for source, found in starts.items():
            rows = tuple(Rows(p, found[p], places[p], height(p)) for p in parts if p in found)
            if rows:
                shares.append(Share(source, rows))
        if shares:
            result[target] = tuple(sorted(shares, key=lambda share: share.rows[0].target_start))
    return result


def _starts(parts: Sequence[Part], height: Callable[[Part], int]) -> dict[Part, int]:
    starts, row = {}, 0
    for part in parts:
        starts[part] = row
        row += height(part)
    return starts


def join_a(matrices: Sequence[Array]) -> Array:
    """Stacks the A's of a target's shares, each [rank, in]."""
    return matrices[0] if len(matrices) == 1 else np.concatenate(matrices)


def join_b(
    shares: Sequence[Share], matrices: Sequence[Array], n_rows: int, reorder: Callable[[Part, Array], Array]
) -> Array:
    """Puts the B's of a target's shares together.

    Args:
        shares: The shares.
        matrices: The B of each share's source, [out, rank].
        n_rows: The rows of the target.
        reorder: Brings the rows of a part into the target's order.

    Returns:
        The target's B, [n_rows, sum of the ranks].
    """
    joined = np.zeros((n_rows, sum(matrix.shape[1] for matrix in matrices)), dtype=np.float32)
    column = 0
    for share, matrix in zip(shares, matrices, strict=True):
        columns = slice(column, column + matrix.shape[1])
        for part, start, target_start, n_part in share.rows:
            joined[target_start : target_start + n_part, columns] = reorder(part, matrix[start : start + n_part])
        column = columns.stop
    return joined
