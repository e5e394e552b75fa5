"""Adapters side by side in one stack, the form for GPUs, here on a processor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from alora_cpp import Adapter, Context, Model
from oracle.tiny_models import TinyModel
from tiny import EXACT, INVOCATION, Array, adapter_file, fresh_logits, open_exact, random_tokens

PROMPT = random_tokens(30, 20)


@pytest.fixture
def stacked(model_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    """A model whose adapters are stacked."""
    monkeypatch.setenv("ALORA_STACK_ADAPTERS", "1")
    with Model(model_path) as model:
        yield model


def checked(context: Context, adapters: list[Adapter | None], *, scale: float = 1.0) -> list[Array]:
    """The last logits of one fused batch: a branch for each adapter, or for the base."""
    branches = []
    for i, adapter in enumerate(adapters):
        branch = context.branch()
        branch.append(PROMPT)
        if adapter is not None:
            branch.activate(adapter, scale)
        branch.append([*INVOCATION, 9 + i])
        branches.append(branch)
    context.decode()
    logits = [branch.logits() for branch in branches]
    for branch in branches:
        branch.close()
    return logits


def wanted(model: Model, adapters: list[Adapter | None], *, scale: float = 1.0) -> list[Array]:
    """The same from contexts of their own."""
    return [
        fresh_logits(model, [*PROMPT, *INVOCATION, 9 + i], adapter=adapter, at=len(PROMPT), scale=scale)[-1]
        for i, adapter in enumerate(adapters)
    ]


def test_a_fused_batch_is_what_each_adapter_gives_alone(
    stacked: Model, model: Model, adapters: list[Adapter], adapter_paths: list[Path]
) -> None:
    """Ranks and targets differ. Tried with: a mask that is the scale in all columns; parts beginning a column late."""
    loaded = [stacked.load_adapter(path) for path in adapter_paths]
    for order in ([0, 1, 2, 3], [3, 1], [2], [1, 1, 0]):
        with open_exact(stacked) as context:
            ours = checked(context, [None, *(loaded[i] for i in order)], scale=0.7)
        theirs = wanted(model, [None, *(adapters[i] for i in order)], scale=0.7)
        assert max(np.abs(left - right).max() for left, right in zip(ours, theirs, strict=True)) < EXACT


def test_a_graph_serves_other_adapters(
    stacked: Model, model: Model, adapters: list[Adapter], adapter_paths: list[Path]
) -> None:
    """Tried with: the mask filled when the graph is made, and not for each batch; spans compared for reuse."""
    loaded = [stacked.load_adapter(path) for path in adapter_paths]
    rounds = [(0, 1), (2, 3), (3, 0), (3, 1)]  # one of each pair is on all projections
    with open_exact(stacked) as context:
        trunk = context.branch()
        trunk.append(PROMPT)
        context.decode()
        results = []
        for pair in rounds:
            before = context.counters.graphs_reused
            branches = [trunk.fork() for _ in pair]
            for branch, number in zip(branches, pair, strict=True):
                branch.activate(loaded[number])
                branch.append([9])
            context.decode()
            results.append([branch.logits() for branch in branches])
            for branch in branches:
                branch.close()
            assert context.counters.graphs_reused - before == (pair != rounds[0])
    for pair, logits in zip(rounds, results, strict=True):
        for number, ours in zip(pair, logits, strict=True):
            theirs = fresh_logits(model, [*PROMPT, 9], adapter=adapters[number], at=len(PROMPT))[-1]
            assert np.abs(ours - theirs).max() < EXACT


def test_adapters_come_and_go(stacked: Model, model: Model, adapters: list[Adapter], adapter_paths: list[Path]) -> None:
    """Beside an open context, whose buffers stay as they are. Tried with: slices of the stack before last."""
    with open_exact(stacked) as context:
        sizes = set()
        kept: dict[int, Adapter] = {}
        for step, number in enumerate([0, 1, 2, 1, 3, 0, 2, 1]):
            if number in kept:
                del kept[number]
            else:
                kept[number] = stacked.load_adapter(adapter_paths[number])
            ours = checked(context, [kept[key] for key in kept])
            theirs = wanted(model, [adapters[key] for key in kept])
            assert max(np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True)) < EXACT, step
            sizes.add(context.counters.compute_bytes)
    assert len(sizes) == 1


def test_a_small_part_of_a_large_stack_is_read_alone(
    stacked: Model, model: Model, adapters: list[Adapter], adapter_paths: list[Path]
) -> None:
    """Such a batch takes slices of the stack. Tried with: B's slices beginning a column late."""
    loaded = [stacked.load_adapter(path) for path in [*adapter_paths, adapter_paths[3], adapter_paths[3]]]
    with open_exact(stacked) as context:
        ours = checked(context, [loaded[0], None, loaded[0]])
    theirs = wanted(model, [adapters[0], None, adapters[0]])
    assert max(np.abs(left - right).max() for left, right in zip(ours, theirs, strict=True)) < EXACT


def test_a_mad_adapter_stays_out_of_the_stack(
    stacked: Model, tiny_model: TinyModel, adapter_paths: list[Path], tmp_path: Path
) -> None:
    """Its products overflow, and zero times infinity is no number. Tried with: no limit on what is stacked."""
    file = adapter_file(tiny_model, seed=5)
    for name in file.tensors:
        file.tensors[name] = file.tensors[name] / np.abs(file.tensors[name]).max() * np.float32(3e38)
    sane = stacked.load_adapter(adapter_paths[0])
    alone = wanted(stacked, [sane, None])
    mad = stacked.load_adapter(file.write(tmp_path / "mad.gguf"))
    with open_exact(stacked) as context:
        ours = checked(context, [sane, None, mad])
    assert max(np.abs(a - b).max() for a, b in zip(ours[:2], alone, strict=True)) < EXACT


def test_a_whole_stacked_batch_fits_into_the_buffers_made_first(stacked: Model, adapter_paths: list[Path]) -> None:
    """Tried with: the worst case standing for spans alone."""
    loaded = [stacked.load_adapter(path) for path in adapter_paths]
    with stacked.context(n_ctx=512, n_ubatch=512, n_threads=1, flash_attention=True) as context:
        before = context.counters.compute_bytes
        branch = context.branch()
        branch.activate(loaded[3])
        branch.append(random_tokens(12, 512))
        context.decode()
        assert context.counters.compute_bytes == before
