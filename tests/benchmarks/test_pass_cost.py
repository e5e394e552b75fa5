"""What a pass costs, against counts worked out by hand, and what a model weighs, against its file."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from alora_cpp.bundled_model import BUNDLED
from alora_cpp.errors import AloraError, ArgumentError
from benchmarks.model_shape import ModelShape, low_rank, read_shape
from benchmarks.models import SHAPES, adapter_files, model_file
from benchmarks.pass_cost import Cost, Pass, cache_walks, pass_costs, reading
from oracle.tiny_models import make_model, write_gguf

ATTENTION = ("attn_q", "attn_k", "attn_v")

# Of the model of `tiny_gguf`, by hand: a block has q and o of 64 x 64, k and v of 32 x 64, and three of 96 x 64.
NETWORK = 3 * 96 * 64
BLOCK = 2 * 64 * 64 + 2 * 32 * 64 + NETWORK
HEAD = 104 * 64
F32 = 4


@pytest.fixture(scope="module")
def tiny(tiny_gguf: Path) -> ModelShape:
    return read_shape(tiny_gguf)


def test_a_shape_is_what_the_file_says(tiny: ModelShape) -> None:
    assert (tiny.layers, tiny.group, tiny.file_type) == (2, 2, "ALL_F32")
    assert tiny.weights == 2 * BLOCK + HEAD
    assert tiny.weight_bytes == F32 * (2 * BLOCK + HEAD)
    # Four heads of 16: a query with a key and a weight with a value, two operations a number, in two blocks.
    assert tiny.attention_operations == 2 * (4 * 16 * 2 + 4 * 16 * 2)
    # A key and a value of two heads of 16, in two bytes each, in two blocks.
    assert tiny.cell_bytes == 2 * (2 * 16 + 2 * 16) * 2


def test_bytes_are_those_of_the_tensors() -> None:
    shape = read_shape(BUNDLED)
    tensors = {tensor.name: tensor.data.nbytes for tensor in gguf.GGUFReader(BUNDLED).tensors}
    assert {matrix.name: matrix.bytes for matrix in shape.projections} == {
        name: size for name, size in tensors.items() if name.startswith("blk.") and "norm" not in name
    }
    assert shape.file_type == "Q8_0"
    assert shape.weight_bytes == shape.weights * 34 // 32


def test_tied_embeddings_make_the_logits() -> None:
    tensors = {tensor.name: tensor.data.nbytes for tensor in gguf.GGUFReader(BUNDLED).tensors}
    assert "output.weight" not in tensors
    assert read_shape(BUNDLED).head.bytes == tensors["token_embd.weight"]


def test_an_adapter_has_the_bytes_of_its_file(tmp_path: Path) -> None:
    shape = SHAPES["tiny"]
    (file,) = adapter_files(shape, tmp_path, 1, rank=8)
    adapter = low_rank(read_shape(model_file(shape, tmp_path)), rank=8, targets=ATTENTION)
    assert sum(matrix.bytes for matrix in adapter) == sum(
        tensor.data.nbytes for tensor in gguf.GGUFReader(file).tensors
    )


def test_rows_of_the_base(tiny: ModelShape) -> None:
    costs = pass_costs(tiny, (), Pass(10, base=3))
    # Of three rows one's logits are wanted: it alone goes through the last block's network.
    products = 3 * BLOCK + 3 * (BLOCK - NETWORK) + NETWORK
    assert costs["weights"] == Cost(F32 * 2 * BLOCK, 2 * products, 3)
    assert costs["logits"] == Cost(F32 * HEAD, 2 * HEAD, 1)
    assert costs["adapters"] == Cost(0, 0, 0)
    # The rows see 11, 12 and 13 cells; 10 cells are read, three are written and read.
    assert costs["attention"] == Cost(256 * (10 + 2 * 3), 512 * (11 + 12 + 13), 3)


def test_branches_do_not_see_one_another(tiny: ModelShape) -> None:
    costs = pass_costs(tiny, (), Pass(10, base=1, adapted=(2, 2), wanted=3))
    assert costs["attention"].operations == 512 * (11 + (11 + 12) + (11 + 12))
    assert costs["weights"].rows == 5


def test_rows_under_adapters(tiny: ModelShape) -> None:
    adapter = low_rank(tiny, rank=4, targets=ATTENTION)
    numbers = 2 * 4 * ((64 + 64) + (64 + 32) + (64 + 32))
    assert sum(matrix.bytes for matrix in adapter) == 2 * numbers
    costs = pass_costs(tiny, adapter, Pass(10, base=1, adapted=(2, 3), wanted=3))
    assert costs["adapters"] == Cost(2 * (2 * numbers), 2 * numbers * (2 + 3), 3)


def test_an_adapter_of_the_last_network_meets_wanted_rows_alone(tiny: ModelShape) -> None:
    adapter = low_rank(tiny, rank=4, targets=["ffn_up"])
    one_block = 4 * (64 + 96)
    costs = pass_costs(tiny, adapter, Pass(10, adapted=(5,)))
    assert costs["adapters"].operations == 2 * one_block * (5 + 1)


def test_where_no_logits_are_wanted_less_is_read(tiny: ModelShape) -> None:
    costs = pass_costs(tiny, (), Pass(0, base=8, wanted=0))
    assert costs["weights"].bytes == F32 * (2 * BLOCK - NETWORK)
    assert costs["logits"] == Cost(0, 0, 0)


def test_reading_takes_passes_of_128_rows() -> None:
    assert reading(300) == [
        Pass(0, base=128, wanted=0), Pass(128, base=128, wanted=0), Pass(256, base=44, wanted=1)
    ]  # fmt: skip
    assert reading(128, adapted=True) == [Pass(0, adapted=(128,), wanted=1)]


def test_walks_over_the_cache(tiny: ModelShape) -> None:
    assert cache_walks(tiny, 8) == {"packed": 1, "by heads": 2, "by rows": 16}
    assert cache_walks(tiny, 33)["packed"] == 2  # 32 rows of two heads fill the columns


def test_bad_input(tiny: ModelShape, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"no projection attn_x; it has attn_k, attn_output"):
        low_rank(tiny, rank=4, targets=["attn_q", "attn_x"])
    with pytest.raises(ArgumentError, match="rank is 0"):
        low_rank(tiny, rank=0, targets=ATTENTION)
    with pytest.raises(AloraError, match=r"missing\.gguf"):
        read_shape(tmp_path / "missing.gguf")
    (tmp_path / "text.gguf").write_text("a text, much too short")
    with pytest.raises(AloraError, match="cannot be read as GGUF"):
        read_shape(tmp_path / "text.gguf")


@pytest.mark.parametrize("family", ["granitemoehybrid", "granitemoeshared", "gemma2"])
def test_models_of_other_parts_are_refused(family: str, tmp_path: Path) -> None:
    path = write_gguf(make_model(family), tmp_path / "model.gguf")
    with pytest.raises(AloraError, match="not in the cost model"):
        read_shape(path)


def test_a_part_of_a_model_is_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "part.gguf", "llama")
    for key, value in (("block_count", 1), ("embedding_length", 64), ("attention.head_count", 4)):
        writer.add_uint32(f"llama.{key}", value)
    writer.add_uint32("llama.feed_forward_length", 96)
    writer.add_tensor("blk.0.attn_q.weight", np.zeros((64, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(AloraError, match=r"no token_embd\.weight"):
        read_shape(tmp_path / "part.gguf")
