"""What a model and its adapters weigh, and how many numbers of each kind a row meets in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import gguf
from gguf.quants import quant_shape_to_byte_shape

from alora_cpp.convert.base import read_base
from alora_cpp.convert.gguf_header import read_header
from alora_cpp.errors import ArgumentError, ModelLoadError

_F16_BYTES = 2


@dataclass(frozen=True)
class Matrix:
    """A weight, or the A or B of an adapter.

    Attributes:
        name: Of the weight in the GGUF that it is, or adds to.
        outputs: Its rows.
        inputs: Its columns.
        bytes: Its size in its own number type.
    """

    name: str
    outputs: int
    inputs: int
    bytes: int

    @property
    def operations(self) -> int:
        """Multiplications and additions for one row of a batch."""
        return 2 * self.outputs * self.inputs


@dataclass(frozen=True)
class ModelShape:
    """A transformer whose every block has attention over all positions, and one feed-forward network.

    Attributes:
        name: The model's name.
        file_type: How its weights are quantized, as `gguf.LlamaFileType` names it.
        layers: Number of blocks.
        projections: The matrices of all blocks.
        head: The matrix that makes logits; where embeddings are tied, theirs.
        attention_operations: Multiplications and additions of one row with one cell of the cache, over all blocks.
        cell_bytes: Keys and values of one position in F16, over all blocks.
        group: Query heads that share a head of keys and values.
    """

    name: str
    file_type: str
    layers: int
    projections: tuple[Matrix, ...]
    head: Matrix
    attention_operations: int
    cell_bytes: int
    group: int

    @property
    def weight_bytes(self) -> int:
        """What one pass reads of the weights."""
        return sum(matrix.bytes for matrix in self.projections) + self.head.bytes

    @property
    def weights(self) -> int:
        """How many weights these are."""
        return sum(matrix.outputs * matrix.inputs for matrix in (*self.projections, self.head))

    def in_last_network(self, matrix: Matrix) -> bool:
        """Whether it is in the last block's feed-forward network, which sees only rows whose logits are wanted."""
        return matrix.name.startswith(f"blk.{self.layers - 1}.ffn_")


def read_shape(path: Path) -> ModelShape:
    """Reads a model's GGUF; no weight is read.

    Raises:
        ConversionError: The file is missing, damaged, or of no known architecture.
        ModelLoadError: It has blocks that this cost model does not describe.
    """
    base = read_base(path)
    header = read_header(path)
    odd = [name for name, shape in header.shapes.items() if len(shape) > 2 or ".ssm_" in name]
    odd += [key for key in header.values if key.endswith(".attention.sliding_window")]
    if odd:
        raise ModelLoadError(
            f"{path} has {odd[0]}; expected blocks of attention to all positions and one dense feed-forward network: "
            "experts, recurrent layers and sliding windows are not in the cost model, give another model"
        )
    matrices = {
        name: Matrix(name, *shape, bytes=_n_bytes(shape, header.types[name]))
        for name, shape in header.shapes.items()
        if len(shape) == 2
    }
    head = matrices.get("output.weight", matrices.get("token_embd.weight"))
    if head is None:
        raise ModelLoadError(f"{path} has no token_embd.weight; expected a whole model, give one that is in one file")
    layers = len(base.blocks)
    widths = base.widths
    kind = header.count("general.file_type")
    return ModelShape(
        name=base.name,
        file_type="unknown" if kind is None else gguf.LlamaFileType(kind).name.removeprefix("MOSTLY_"),
        layers=layers,
        projections=tuple(matrix for name, matrix in matrices.items() if name.startswith("blk.")),
        head=head,
        attention_operations=2 * layers * (widths["query"] + widths["attention"]),
        cell_bytes=_F16_BYTES * layers * (widths["key"] + widths["value"]),
        group=base.n_head // base.n_head_kv,
    )


def _n_bytes(shape: tuple[int, ...], kind: int) -> int:
    return prod(quant_shape_to_byte_shape(shape, gguf.GGMLQuantizationType(kind)))


def low_rank(model: ModelShape, *, rank: int, targets: Sequence[str]) -> tuple[Matrix, ...]:
    """The A and B of an adapter in F16.

    Args:
        model: The base.
        rank: Inner size of each pair.
        targets: Projections in llama.cpp's names, such as `attn_q`.

    Raises:
        ArgumentError: The rank is not positive, or no projection has such a name.
    """
    if rank < 1:
        raise ArgumentError(f"the rank is {rank}, expected 1 or more")
    names = {matrix.name.split(".")[2] for matrix in model.projections}
    if unknown := [target for target in targets if target not in names]:
        raise ArgumentError(f"the model has no projection {unknown[0]}; it has {', '.join(sorted(names))}")
    return tuple(
        Matrix(weight.name, outputs, inputs, bytes=_F16_BYTES * outputs * inputs)
        for weight in model.projections
        if weight.name.split(".")[2] in targets
        for outputs, inputs in ((rank, weight.inputs), (weight.outputs, rank))
    )
