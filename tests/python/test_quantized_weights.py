"""Passes over quantized weights, which every processor multiplies by kernels of its own."""

from __future__ import annotations

from collections.abc import Iterator

import gguf
import numpy as np
import numpy.typing as npt
import pytest
from gguf.quants import dequantize

from alora_cpp import Model
from oracle.tiny_models import make_model
from tiny import fresh_logits, open_exact, random_tokens, rewrite_gguf, write_gguf

# By type, how far off logits are when rows are rounded to 8 bits on their way, as a share of their spread, and half as
# much again. Numbers of Q4_K have a mean here, which rounding hardly touches.
TYPES = {"Q4_K": 0.0015, "Q5_K": 0.0015, "Q6_K": 0.045, "Q8_0": 0.03}
# Above eight rows they are multiplied in groups; the last two take several.
ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 17)


def random_blocks(kind: gguf.GGMLQuantizationType, rows: int, columns: int, seed: int) -> npt.NDArray[np.uint8]:
    """Any bytes are numbers; the halves among them are set, so that numbers are about 1 / sqrt(columns) large."""
    per_block, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = np.random.default_rng(seed).integers(0, 256, (rows, columns // per_block, size), np.uint8)
    # Where a type has its scales, and how large its numbers are with a scale of one.
    places, spread = {"Q4_K": ((0, 2), 250.0), "Q5_K": ((0, 2), 500.0), "Q6_K": ((208,), 1300.0), "Q8_0": ((0,), 73.0)}[
        kind.name
    ]
    for place in places:
        half = np.float16(1.0 / (spread * columns**0.5)).tobytes()
        blocks[..., place : place + 2] = np.frombuffer(half, np.uint8)
    return blocks.reshape(rows, -1)


@pytest.fixture(scope="module", params=TYPES)
def models(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Model, Model, float]]:
    """One with quantized projections, one with the same numbers in F32, and how far apart they may be."""
    folder = tmp_path_factory.mktemp("quantized")
    kind = gguf.GGMLQuantizationType[request.param]
    tiny = make_model("llama", changes={"hidden_size": 256, "intermediate_size": 512, "num_key_value_heads": 4})
    plain = write_gguf(tiny, folder / "plain.gguf")
    blocks = {
        tensor.name: random_blocks(kind, *tensor.data.shape, seed=number)
        for number, tensor in enumerate(gguf.GGUFReader(plain).tensors)
        if tensor.name.startswith("blk.") and "norm" not in tensor.name
    }
    numbers = {name: dequantize(rows, kind).astype(np.float32) for name, rows in blocks.items()}
    rewrite_gguf(plain, folder / "quantized.gguf", tensors=blocks, tensor_type=kind)
    rewrite_gguf(plain, folder / "exact.gguf", tensors=numbers)
    with Model(folder / "quantized.gguf") as quantized, Model(folder / "exact.gguf") as exact_model:
        yield quantized, exact_model, TYPES[request.param]


@pytest.mark.parametrize("n_rows", ROWS)
def test_any_number_of_rows_gives_what_the_numbers_give(models: tuple[Model, Model, float], n_rows: int) -> None:
    """Tried with: a row of a group written over another, scales of groups swapped in Q4_K and Q6_K, offsets swapped in
    Q4_K, and the excess of Q8_0 left in."""
    quantized, exact, allowed = models
    tokens = random_tokens(7, 36)
    wanted = fresh_logits(exact, tokens)
    with open_exact(quantized) as context:
        branch = context.branch()
        found = []
        for first in range(0, len(tokens), n_rows):
            part = tokens[first : first + n_rows]
            branch.append(part)
            context.decode()
            found.append(branch.logits(rows=len(part)))
    difference = np.concatenate(found) - wanted
    assert np.sqrt(np.mean(difference**2)) < allowed * wanted.std()
