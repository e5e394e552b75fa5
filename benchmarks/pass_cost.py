"""Bytes read and operations done by one pass through a model, counted from its shape.

What is counted is what every way to compute it must do: weights once, keys and values once, products. Activations,
norms and the softmax are left out; beside a billion weights they are small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.model_shape import Matrix, ModelShape

# What a context computes at a time, as `Model.context` has it on a processor.
UBATCH = 128
_PACKED_COLUMNS = 64  # `most_columns` in packed_attention.cpp


@dataclass(frozen=True)
class Pass:
    """Rows that are computed together.

    Attributes:
        context: Cells of the cache that are there before, seen by all rows.
        base: Rows of the base model, on one branch.
        adapted: Rows under adapters, for each of them a branch.
        wanted: Rows whose logits are read.
    """

    context: int
    base: int = 0
    adapted: tuple[int, ...] = ()
    wanted: int = 1

    @property
    def rows(self) -> int:
        """All of them."""
        return self.base + sum(self.adapted)


@dataclass(frozen=True)
class Cost:
    """What a part of a pass needs.

    Attributes:
        bytes: Read from memory, or written to it.
        operations: Multiplications and additions.
        rows: Rows that go through it at a time.
    """

    bytes: int
    operations: int
    rows: int


def pass_costs(model: ModelShape, adapter: Sequence[Matrix], one: Pass) -> dict[str, Cost]:
    """The parts of a pass: its `weights`, `attention`, `adapters` and `logits`.

    Args:
        model: The base.
        adapter: The A and B of every adapter that takes part; they are all of one shape.
        one: The pass.
    """
    # Each row with the cells before it and with its own.
    pairs = sum(n * one.context + n * (n + 1) // 2 for n in (one.base, *one.adapted))
    cells = one.context + 2 * one.rows  # what is new is written, then read
    return {
        "weights": _products(model, model.projections, one.rows, one.wanted),
        "attention": Cost(model.cell_bytes * cells, model.attention_operations * pairs, one.rows),
        "adapters": _adapters(model, adapter, one),
        "logits": Cost(model.head.bytes if one.wanted else 0, model.head.operations * one.wanted, one.wanted),
    }


def _adapters(model: ModelShape, adapter: Sequence[Matrix], one: Pass) -> Cost:
    costs = [_products(model, adapter, rows, min(rows, one.wanted)) for rows in one.adapted]
    return Cost(sum(cost.bytes for cost in costs), sum(cost.operations for cost in costs), max(one.adapted, default=0))


def _products(model: ModelShape, matrices: Sequence[Matrix], rows: int, wanted: int) -> Cost:
    seen = [(matrix, wanted if model.in_last_network(matrix) else rows) for matrix in matrices]
    return Cost(sum(matrix.bytes for matrix, n in seen if n), sum(matrix.operations * n for matrix, n in seen), rows)


def reading(rows: int, *, adapted: bool = False) -> list[Pass]:
    """The passes that read so many rows of an empty branch, of which the last one's logits are wanted.

    Args:
        rows: How many.
        adapted: Whether an adapter governs them.
    """
    passes = []
    for first in range(0, rows, UBATCH):
        n = min(UBATCH, rows - first)
        wanted = int(first + n == rows)
        passes.append(Pass(first, adapted=(n,), wanted=wanted) if adapted else Pass(first, n, wanted=wanted))
    return passes


def cache_walks(model: ModelShape, rows: int) -> dict[str, int]:
    """How often a pass goes over each key and value, by the way attention is computed.

    Returns:
        `packed`: The query heads of a group and all rows share one walk, up to 64 columns of them: the engine's own
        attention (`cpp/graph_patch/packed_attention.cpp`). `by heads`: Each query head walks by itself, with all its
        rows: llama.cpp without flash attention. `by rows`: Each row of each head walks by itself: its flash attention
        on a CPU below 64 rows.
    """
    rows_together = max(1, _PACKED_COLUMNS // model.group)
    packed = -(-rows // rows_together)
    return {"packed": packed, "by heads": model.group, "by rows": model.group * rows}
