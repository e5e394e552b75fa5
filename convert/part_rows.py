"""How the rows of an adapter's B belong to the parts of its base, and in which order they stand.

A base at hand says so. Else the adapter's own weights do, together with the numbers of heads in
`alora.base.head_count` and `alora.base.head_count_kv`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alora_cpp.errors import ConversionError

from .adapter_file import GGUFAdapter
from .base_sizes import Base
from .families import GATE, KEY, MODULES, QUERY, UP, VALUE, Part

Array = npt.NDArray[np.float32]

# Parts whose rows are in fixed proportion: heads are of one size, and so are the gate and what it gates.
_PROPORTIONAL = ((QUERY, KEY, VALUE), (GATE, UP))


@dataclass(frozen=True)
class PartRows:
    """The rows of a base's parts.

    Attributes:
        counts: How many rows each part has; a part of which nothing is known is missing.
        interleaved: The numbers of heads of the parts whose rows GGUF has in another order.
    """

    counts: Mapping[Part, int]
    interleaved: Mapping[Part, int]

    def count(self, part: Part) -> int:
        """Gives the rows of a part that is known."""
        return self.counts[part]

    def restore(self, part: Part, rows: Array) -> Array:
        """Brings a part's rows from GGUF's order into Hugging Face's.

        Where a part is interleaved, each head's rows 0, h, 1, h+1, ... become 0, 1, 2, ..., h being half of the head.
        """
        if part not in self.interleaved:
            return rows
        heads = rows.reshape(self.interleaved[part], -1, 2, rows.shape[1])
        return heads.swapaxes(1, 2).reshape(rows.shape)


def part_rows(adapter: GGUFAdapter, base: Base | None) -> PartRows:
    """Finds the rows of each part.

    Args:
        adapter: The adapter.
        base: Its base, where it is at hand.

    Raises:
        ConversionError: They depend on what is not known without the base, or do not fit its heads.
    """
    n_head, n_head_kv = (
        (base.n_head, base.n_head_kv)
        if base is not None
        else (adapter.header.count("alora.base.head_count"), adapter.header.count("alora.base.head_count_kv"))
    )
    counts = _of_base(base) if base is not None else _of_adapter(adapter, n_head, n_head_kv)
    interleaved = {}
    if adapter.family.interleaved_rotary:
        for part, heads in ((QUERY, n_head), (KEY, n_head_kv)):
            if not any(part in pair.parts for pair in adapter.pairs.values()):
                continue
            if not heads:
                raise unknown_base(adapter, f"how many heads its base has, and so the order of {part.name}'s rows")
            if counts[part] % (2 * heads):
                raise ConversionError(
                    f"{adapter.path} has {counts[part]} rows for the {heads} heads of {part.name}; expected the same"
                    " even number for each: it is damaged, or was trained on another base"
                )
            interleaved[part] = heads
    return PartRows(counts, interleaved)


def unknown_base(adapter: GGUFAdapter, what: str) -> ConversionError:
    """Makes the error for something that only the base says."""
    return ConversionError(
        f"{adapter.path} does not say {what}; give the base (--base), a GGUF or a folder with config.json"
    )


def _of_base(base: Base) -> dict[Part, int]:
    parts = {part for parts in MODULES.values() for part in parts}
    return {part: base.height(part) for part in parts if part.outputs in base.widths}


def _of_adapter(adapter: GGUFAdapter, n_head: int | None, n_head_kv: int | None) -> dict[Part, int]:
    shares = {GATE: 1, UP: 1}
    if n_head and n_head_kv:
        shares |= {QUERY: n_head, KEY: n_head_kv, VALUE: n_head_kv}
    counts: dict[Part, int] = {}
    for weight, pair in adapter.pairs.items():
        n_rows = pair.b.shape[0]
        if len(pair.parts) == 1:
            counts.setdefault(pair.parts[0], n_rows)
            continue
        if not all(part in shares for part in pair.parts):
            raise unknown_base(adapter, f"how many heads its base has, and so which rows of {weight} are whose")
        unit, rest = divmod(n_rows, sum(shares[part] for part in pair.parts))
        if rest:
            raise ConversionError(
                f"{adapter.path} has {n_rows} rows for {weight}, which its {n_head} and {n_head_kv} heads cannot share"
                " evenly; it is damaged, or was trained on another base"
            )
        for part in pair.parts:
            counts.setdefault(part, unit * shares[part])
    # A module may hold parts that the adapter leaves alone.
    for group in _PROPORTIONAL:
        for measured in [part for part in group if part in counts and part in shares][:1]:
            for part in group:
                counts.setdefault(part, counts[measured] // shares[measured] * shares[part])
    return counts
