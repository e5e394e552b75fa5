"""Works out which modules of a Hugging Face model an adapter's GGUF changes, and with which matrices.

Where a module and a weight hold the same parts, the module's A and B are the weight's. Where the
weight holds more, each module gets its A and its own rows of B; columns in which these are all zero,
such as stand there when separate modules were put into one weight, are left out. Where the module
holds more, the weights' B's are put below each other if their A's are equal, as they are when a fused
module was cut; else their ranks add up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alora_cpp.errors import ConversionError

from .adapter_file import GGUFAdapter, StoredPair
from .base_sizes import Base
from .families import MODULES, Location, Part, block_prefix
from .part_rows import PartRows, part_rows, unknown_base
from .regroup import Share, join_a, join_b, regroup

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Piece:
    """What a module takes from one weight.

    Attributes:
        share: Which rows.
        pair: The weight's matrices.
        rows: How its rows are found.
        n_rows: The rows of the whole module.
        whole: Whether the module holds every part of the weight.
    """

    share: Share
    pair: StoredPair
    rows: PartRows
    n_rows: int
    whole: bool

    def read(self) -> tuple[Array, Array]:
        """Reads A [rank, in] and B [out, rank]; rows of other pieces are zero in B."""
        a = self.pair.a.read()
        b = join_b([self.share], [self.pair.b.read()], self.n_rows, self.rows.restore)
        if self.whole:
            return a, b
        used = b.any(axis=0)
        return a[used], b[:, used]


@dataclass(frozen=True)
class PeftModule:
    """One module of the output; its numbers stay on disk until `read`.

    Attributes:
        location: Where it is.
        rank: The rank of its pair.
        alpha: Its alpha: PEFT scales it by this over the rank.
        shape: Of the weight that it changes, [out, in].
        pieces: What it is made of.
        factors: What each piece's B is multiplied by, where the pieces' ranks add up; else empty.
    """

    location: Location
    rank: int
    alpha: float
    shape: tuple[int, int]
    pieces: tuple[_Piece, ...]
    factors: tuple[np.float32, ...] = ()

    def read(self) -> tuple[Array, Array]:
        """Reads A [rank, in] and B [out, rank]."""
        a, b = zip(*(piece.read() for piece in self.pieces), strict=True)
        if self.factors:
            scaled = [matrix * factor for matrix, factor in zip(b, self.factors, strict=True)]
            return join_a(a), np.concatenate(scaled, axis=1)
        joined = b[0]
        for piece, matrix in zip(self.pieces[1:], b[1:], strict=True):
            for rows in piece.share.rows:
                place = slice(rows.target_start, rows.target_start + rows.height)
                joined[place] = matrix[place]
        return a[0], joined


def plan_modules(adapter: GGUFAdapter, model_type: str, base: Base | None) -> list[PeftModule]:
    """Plans an adapter's modules, block by block.

    Args:
        adapter: The adapter.
        model_type: The kind of model, one of its family's.
        base: The base, where it is at hand.

    Raises:
        ConversionError: The adapter does not fit the base or the kind of model, or changes nothing,
            or something must be known that only the base says.
        OSError: The file cannot be read.
    """
    _check_fit(adapter, model_type, base)
    rows = part_rows(adapter, base)
    blocks: defaultdict[int, dict[str, StoredPair]] = defaultdict(dict)
    for weight, pair in adapter.pairs.items():
        blocks[pair.layer][weight] = pair
    modules = []
    for layer, pairs in sorted(blocks.items()):
        sources = {weight: pair.parts for weight, pair in pairs.items()}
        targets = _touched(adapter, model_type, {part for parts in sources.values() for part in parts}, rows)
        for name, shares in regroup(sources, targets, rows.count).items():
            location = Location(block_prefix(model_type), layer, name)
            modules += _make(adapter, location, shares, rows)
    if not modules:
        raise ConversionError(f"every B in {adapter.path} is zero: the adapter changes nothing, train it first")
    return modules


def _check_fit(adapter: GGUFAdapter, model_type: str, base: Base | None) -> None:
    known = {part for module in adapter.family.model_types[model_type] for part in MODULES[module]}
    for weight, pair in adapter.pairs.items():
        if unknown := [part.name for part in pair.parts if part not in known]:
            raise ConversionError(
                f"{adapter.path} changes {', '.join(unknown)} ({weight}), which no module of a {model_type} model"
                " holds; give the base that the adapter was trained on"
            )
        if base is None:
            continue
        if pair.layer >= len(base.blocks) or not set(pair.parts) <= base.parts(pair.layer):
            raise ConversionError(
                f"{adapter.path} changes {weight}, which {base.source} does not have; give the base that the adapter"
                " was trained on"
            )
        shape, expected = (pair.b.shape[0], pair.a.shape[1]), base.shape(pair.parts)
        if shape != expected:
            raise ConversionError(
                f"{adapter.path} fits a {weight} of shape {list(shape)}, but that of {base.source} is"
                f" {list(expected)}; give the base that the adapter was trained on"
            )


def _touched(adapter: GGUFAdapter, model_type: str, changed: set[Part], rows: PartRows) -> dict[str, tuple[Part, ...]]:
    """Lists the modules of a block that hold a changed part."""
    modules = {name: MODULES[name] for name in adapter.family.model_types[model_type] if changed & set(MODULES[name])}
    for name, parts in modules.items():
        if unknown := [part.name for part in parts if part not in rows.counts]:
            raise unknown_base(adapter, f"how many rows of {name} are {', '.join(unknown)}")
    return modules


def _make(adapter: GGUFAdapter, location: Location, shares: Sequence[Share], rows: PartRows) -> list[PeftModule]:
    """Makes a module of what it takes from the file; none where that is zero."""
    parts = MODULES[location.module]
    n_rows = sum(map(rows.count, parts))
    pairs = [adapter.pairs[share.source] for share in shares]
    shape = (n_rows, pairs[0].a.shape[1])
    if any(pair.a.shape[1] != shape[1] or pair.b.shape[0] != sum(map(rows.count, pair.parts)) for pair in pairs):
        raise ConversionError(f"{adapter.path} has weights of different sizes for {location}; it is damaged")
    pieces = tuple(
        _Piece(share, pair, rows, n_rows, whole=set(pair.parts) <= set(parts))
        for share, pair in zip(shares, pairs, strict=True)
    )
    stored = pairs[0].rank
    if len(pieces) == 1 and pieces[0].whole:
        return [PeftModule(location, stored, _alpha(adapter, stored, stored), shape, pieces)]
    found = [piece.read()[0] for piece in pieces]
    factors: tuple[np.float32, ...] = ()
    if all(pair.rank == stored and np.array_equal(a, found[0]) for pair, a in zip(pairs, found, strict=True)):
        rank = len(found[0])
    else:
        rank = sum(map(len, found))
        # Each was scaled by alpha over its own rank, and all are now scaled as the first was.
        factors = tuple(np.float32(stored / pair.rank if adapter.alpha else 1) for pair in pairs)
    return [PeftModule(location, rank, _alpha(adapter, stored, rank), shape, pieces, factors)] if rank else []


def _alpha(adapter: GGUFAdapter, stored_rank: int, rank: int) -> float:
    """Gives the alpha with which PEFT scales a pair of some rank as the engines scale the stored one."""
    # The engines read zero as "no alpha, scale by one".
    return float(rank) if adapter.alpha == 0 else adapter.alpha * rank / stored_rank
