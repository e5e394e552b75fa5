"""Takes one adapter out of a Granite Switch model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import gguf
import numpy as np

from alora_cpp.errors import ConversionError

from .adapter_file import StoredMatrix
from .adapter_metadata import AdapterFacts, add_metadata, identify_base
from .adapter_plan import AdapterPlan
from .base import read_base
from .model_card import ModelCard
from .switch_base import BASE_ARCHITECTURE
from .switch_model import SwitchModel

if TYPE_CHECKING:
    from alora_cpp.built_in import BuiltInIntrinsic


class _Cut(NamedTuple):
    """A tensor of the adapter: the first rows of a stored matrix, and the first bytes of each."""

    name: str
    source: StoredMatrix
    n_rows: int
    n_bytes: int


class _Pair(NamedTuple):
    """An adapter's matrices for one weight."""

    weight: str
    a: StoredMatrix
    b: StoredMatrix

    def cut(self, rank: int) -> Iterator[_Cut]:
        """The first rows of A and the first columns of B."""
        (columns,) = gguf.quant_shape_to_byte_shape((rank,), self.b.type)
        yield _Cut(f"{self.weight}.lora_a", self.a, rank, self.a.byte_shape[1])
        yield _Cut(f"{self.weight}.lora_b", self.b, self.b.byte_shape[0], columns)


def write_adapter(model: SwitchModel, one: BuiltInIntrinsic, path: Path, *, base: Path) -> None:
    """Writes an adapter for the base.

    Args:
        model: The composed model.
        one: Which adapter, and what is known of it.
        path: The file to write.
        base: The base's file.

    Raises:
        ConversionError: The adapter's numbers are all zero, or nothing says what invokes it.
        OSError: It cannot be written.
    """
    if one.invocation is None:
        raise ConversionError(
            f"nothing says what invokes the adapter '{one.name}' of {model.path}; put its adapter_config.json into"
            f" {model.path.with_suffix('.intrinsics') / one.name}, or leave it out"
        )
    pairs, rank = _trimmed(model, one)
    writer = gguf.GGUFWriter(path, BASE_ARCHITECTURE)
    try:
        _add_metadata(writer, one, rank, base)
        cuts = [cut for pair in pairs for cut in pair.cut(rank)]
        for cut in cuts:
            size = cut.n_rows * cut.n_bytes
            shape = (cut.n_rows, cut.n_bytes)
            writer.add_tensor_info(cut.name, shape, np.dtype(np.uint8), size, raw_dtype=cut.source.type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        # One at a time, so that the memory needed is that of one matrix.
        for cut in cuts:
            writer.write_tensor_data(np.ascontiguousarray(cut.source.raw()[: cut.n_rows, : cut.n_bytes]))
    finally:
        writer.close()


def _trimmed(model: SwitchModel, one: BuiltInIntrinsic) -> tuple[list[_Pair], int]:
    """The adapter's pairs that are not zero, and the rank behind which all of them are."""
    pairs, rank, step = [], 0, 1
    for projection, stack in model.stacks.items():
        a, b = stack.slot(one.index + 1)
        used = a.read().any(axis=1) & b.read().any(axis=0)
        if len(columns := np.flatnonzero(used)):
            pairs.append(_Pair(f"{projection}.weight", a, b))
            rank = max(rank, int(columns[-1]) + 1)
            # A row of B is cut between its blocks of numbers, if it is stored in blocks.
            step = max(step, gguf.GGML_QUANT_SIZES[b.type][0])
    if not pairs:
        raise ConversionError(f"the adapter '{one.name}' of {model.path} is all zero; leave it out")
    return pairs, -(-rank // step) * step


def _add_metadata(writer: gguf.GGUFWriter, one: BuiltInIntrinsic, rank: int, base: Path) -> None:
    invocation = None if one.governs_all else one.invocation
    facts = AdapterFacts(
        name=one.name,
        base_name=None,
        io_yaml=one.io_text(),
        invocation_tokens=invocation,
        activation_offset=0,
        chat_template=None,
        card=ModelCard({}, {}),
    )
    read = read_base(base)
    # The scale is alpha over rank, and B is scaled already.
    plan = AdapterPlan(np.float32(rank), [], next(iter(read.family.model_types)))
    add_metadata(writer, facts, read, identify_base(base, invocation), plan)
