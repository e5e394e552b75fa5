"""Few rows under adapters, which a processor adapts in two operations a projection (cpp/graph_patch/fused_rows.cpp)."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from alora_cpp import Model
from oracle.tiny_models import ATTENTION, TinyModel
from tiny import Array, adapter_file, fresh_logits, random_tokens, rewrite_gguf

# The largest rank that is fused is 128. Projections of the tiny model have 64, 32 and 96 outputs.
RANKS = (1, 3, 8, 33, 128, 129)


def merged_model(source: Path, path: Path, tensors: dict[str, Array], scale: float) -> Path:
    """A copy of the model with B A added to its weights."""
    weights = {tensor.name: tensor.data for tensor in gguf.GGUFReader(source).tensors}
    changed = {}
    for name, weight in weights.items():
        if f"{name}.lora_a" in tensors:
            b, a = (tensors[f"{name}.lora_{side}"].astype(np.float32) for side in "ba")
            changed[name] = weight + np.float32(scale) * b @ a
    return rewrite_gguf(source, path, tensors=changed)


@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize("rank", RANKS)
def test_any_rank_adds_what_merged_weights_would(
    model: Model, model_path: Path, tiny_model: TinyModel, tmp_path: Path, rank: int, kind: type[np.floating]
) -> None:
    """The last branch has more rows than a vector has lanes; three threads share outputs unevenly, once. Beyond
    rank 128 rows are rounded to 16 bits, hence the limit.

    Tried with: the branch's scale left out, and a thread's last outputs left out.
    """
    file = adapter_file(tiny_model, seed=rank, rank=rank)
    file.tensors = {name: (0.3 * tensor).astype(kind) for name, tensor in file.tensors.items()}
    adapter = model.load_adapter(file.write(tmp_path / "adapter.gguf"))
    tails = [random_tokens(20 + count, count) for count in (1, 2, 5, 20)]
    scales = [1.0, 0.5, 1.0, 0.5]
    prompt = random_tokens(3, 10)
    with model.context(n_ctx=256, n_threads=3 if rank == 33 else 1, kv_type="f32", flash_attention=False) as context:
        branches = []
        for tail, scale in zip(tails, scales, strict=True):
            branch = context.branch()
            branch.activate(adapter, scale)
            branch.append(tail)
            branches.append(branch)
        base = context.branch()
        base.append(prompt)
        context.decode()
        found = [branch.logits(rows=len(tail)) for branch, tail in zip(branches, tails, strict=True)]
        assert np.abs(base.logits(rows=10) - fresh_logits(model, prompt)).max() < 1e-5
    for scale in set(scales):
        # alpha is twice the rank
        with Model(merged_model(model_path, tmp_path / f"{scale}.gguf", file.tensors, 2.0 * scale)) as merged:
            for tail, own, logits in zip(tails, scales, found, strict=True):
                if own == scale:
                    assert np.abs(logits - fresh_logits(merged, tail)).max() < 1e-3


def test_two_adapters_on_other_projections_share_a_batch(model: Model, tiny_model: TinyModel, tmp_path: Path) -> None:
    """Each adds to its own rows, where both adapt a projection and where one does. Tried with: numbers of A x of one
    adapter read for the other."""
    wide = model.load_adapter(adapter_file(tiny_model, seed=1, rank=5).write(tmp_path / "wide.gguf"))
    narrow = model.load_adapter(
        adapter_file(tiny_model, seed=2, rank=7, targets=ATTENTION).write(tmp_path / "narrow.gguf")
    )
    tokens = random_tokens(9, 7)
    with model.context(n_ctx=256, n_threads=2, kv_type="f32", flash_attention=False) as context:
        branches = [context.branch() for _ in range(3)]
        for branch, adapter in zip(branches, (narrow, wide, None), strict=True):
            if adapter is not None:
                branch.activate(adapter)
            branch.append(tokens)
        context.decode()
        for branch, adapter in zip(branches, (narrow, wide, None), strict=True):
            assert np.abs(branch.logits(rows=7) - fresh_logits(model, tokens, adapter=adapter)).max() < 1e-5
