"""Branches saved and restored: to the bit, with their own and shared rows and nothing else; damage is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alora_cpp import (
    Adapter,
    AdapterError,
    ArgumentError,
    ClosedError,
    Context,
    ContextFullError,
    Model,
    PositionError,
)
from tiny import INVOCATION, begin, fresh_logits, go_on, make_model, open_exact, random_tokens, write_gguf

PROMPT = random_tokens(80, 24)


@pytest.mark.parametrize("flash_attention", [False, True])
@pytest.mark.parametrize("kv_type", ["f32", "f16", "bf16"])
def test_a_restored_branch_goes_on_to_the_bit(model: Model, kv_type: str, flash_attention: bool) -> None:
    options: dict[str, Any] = {"n_ctx": 256, "n_threads": 1, "kv_type": kv_type, "flash_attention": flash_attention}
    with model.context(**options) as context, model.context(**options) as other:
        branch = begin(context, PROMPT)
        saved = branch.save()
        restored = other.restore(saved)
        assert (restored.tokens, restored.n_queued, restored.adapter) == (PROMPT, 0, None)
        assert restored.kv_bytes() == branch.kv_bytes()
        assert restored.save() == saved == branch.save()
        assert (other.n_cells_used, other.n_branches, other.counters.rows_decoded) == (24, 1, 0)
        for token in random_tokens(81, 5):
            assert np.array_equal(go_on(restored, other, [token]), go_on(branch, context, [token]))
        assert restored.kv_bytes() == branch.kv_bytes()


def test_the_bundled_model_in_a_quantized_cache(bundled: Model) -> None:
    options: dict[str, Any] = {"n_ctx": 256, "n_threads": 1, "kv_type": "q8_0"}
    with bundled.context(**options) as context, bundled.context(**options) as other:
        branch = begin(context, bundled.tokenize("The sea is deep and the night is long."))
        restored = other.restore(branch.save())
        assert restored.kv_bytes() == branch.kv_bytes()
        token = bundled.tokenize(" The")[0]
        assert np.array_equal(go_on(restored, other, [token]), go_on(branch, context, [token]))


@pytest.mark.parametrize("seed", range(4))
def test_any_branch_of_a_random_tree_is_restored_elsewhere(
    model: Model, context: Context, adapters: list[Adapter], seed: int
) -> None:
    """Forks of forks, some closed, some of governed branches, beside others. Tried with: cells of the branch's own
    sequence alone, ancestors' rows behind the fork, sequence 0 not moved aside, or not moved back."""
    random = np.random.Generator(np.random.PCG64([seed, 6000]))
    branches = [begin(context, PROMPT)]
    for i in range(14):
        parent = branches[int(random.integers(len(branches)))]
        at = int(random.integers(parent.length + 1))
        if parent.adapter:
            at = min(at, parent.activation_position or 0)
        branches.append(parent.fork(at=at))
        if random.random() < 0.25:
            branches[-1].activate(adapters[i % 4])
        branches[-1].append(random_tokens(1000 * seed + i, int(random.integers(1, 9))))
        if random.random() < 0.4:
            closed = branches.pop(int(random.integers(len(branches) - 1)))
            context.decode()
            closed.close()
    context.decode()
    used = context.n_cells_used
    kv = [branch.kv_bytes() for branch in branches]
    for branch in branches:
        if branch.adapter:
            with pytest.raises(AdapterError, match="random-"):
                branch.save()
            continue
        saved = branch.save()
        with open_exact(model, n_ctx=branch.length + 1) as other:
            restored = other.restore(saved)
            assert restored.tokens == branch.tokens
            assert (other.n_cells_used, other.n_branches) == (branch.length, 1)
            logits = go_on(restored, other, [9])
            assert np.abs(logits - fresh_logits(model, [*branch.tokens, 9])[-1]).max() < 1e-5
        with open_exact(model) as plain:
            assert len(begin(plain, branch.tokens).save()) == len(saved)  # rows of nobody else
    assert kv == [branch.kv_bytes() for branch in branches]
    assert (context.n_cells_used, context.n_branches) == (used, len(branches))


def test_a_restored_branch_is_forked_and_checked_like_any_other(
    model: Model, context: Context, adapters: list[Adapter]
) -> None:
    trunk = begin(context, PROMPT)
    beside = trunk.fork(at=10)
    restored = context.restore(trunk.save())
    trunk.close()
    checks = []
    for i, adapter in enumerate(adapters):
        check = restored.fork(at=20 - i)
        check.activate(adapter)
        check.append(INVOCATION)
        checks.append(check)
    beside.append([9])
    context.decode()
    for i, (check, adapter) in enumerate(zip(checks, adapters, strict=True)):
        alone = fresh_logits(model, check.tokens, adapter=adapter, at=20 - i)[-1]
        assert np.abs(check.logits() - alone).max() < 1e-5
    assert np.abs(beside.logits() - fresh_logits(model, [*PROMPT[:10], 9])[-1]).max() < 1e-5
    for branch in (*checks, restored, beside):
        branch.close()
    assert (context.n_cells_used, context.n_branches) == (0, 0)


def test_what_cannot_be_saved(context: Context, adapters: list[Adapter]) -> None:
    """Tried with: shared rows that are queued not minded."""
    trunk = context.branch()
    trunk.append(PROMPT)
    fork = trunk.fork(at=5)
    for branch, queued in ((trunk, 24), (fork, 5)):
        with pytest.raises(PositionError, match=f"{queued} rows are queued"):
            branch.save()
    context.decode()
    fork.activate(adapters[1])
    for _ in range(2):  # before it has governed a row, and after
        with pytest.raises(AdapterError, match="random-1"):
            fork.save()
        fork.append(INVOCATION)
        context.decode()
    assert fork.fork(at=5).save()
    fork.close()
    with pytest.raises(ClosedError):
        fork.save()


def usable(model: Model, context: Context, used: int, branches: int, tolerance: float = 1e-5) -> bool:
    """Whether nothing is left behind: every cell can be filled, and rows are computed right."""
    if (context.n_cells_used, context.n_branches) != (used, branches):
        return False
    with context.branch() as branch:
        tokens = random_tokens(82, context.n_cells_free)
        logits = go_on(branch, context, tokens)
        return bool(np.abs(logits - fresh_logits(model, tokens)[-1]).max() < tolerance)


def test_bytes_cut_off_or_damaged_anywhere_are_refused(model: Model) -> None:
    """Every length, every byte. Tried with: no checksum, which leaks cells where a position is damaged."""
    with open_exact(model, n_ctx=256) as other:
        saved = begin(other, PROMPT[:2]).save()
    with open_exact(model, n_ctx=256, n_branches=2) as context:
        trunk = begin(context, PROMPT)
        kv = trunk.kv_bytes()
        bad = [saved[:size] for size in range(len(saved))]
        bad += [saved + b"\0", saved + saved, b"GGUF", bytes(len(saved))]
        for i in range(len(saved)):
            for bits in (0x01, 0x80, 0xFF):
                bad.append(saved[:i] + bytes([saved[i] ^ bits]) + saved[i + 1 :])
        for broken in bad:
            with pytest.raises(ArgumentError, match="saved"):
                context.restore(broken)
        assert trunk.kv_bytes() == kv
        assert usable(model, context, 24, 1)
        assert context.restore(saved).tokens == PROMPT[:2]


def test_another_model_or_cache_is_refused(model: Model, folder: Path) -> None:
    with model.context(n_ctx=64, n_threads=1, kv_type="f32", flash_attention=False) as context:
        saved = begin(context, PROMPT).save()
    for family in ("granite", "qwen3"):
        path = write_gguf(make_model(family), folder / f"other-{family}.gguf")
        with Model(path) as other, open_exact(other) as context:
            with pytest.raises(ArgumentError, match=rf"another model or cache \(llama.*\({family}"):
                context.restore(saved)
            assert usable(other, context, 0, 0)
    for kv_type, flash_attention, named in (
        ("f16", False, r"cache f32\).*cache f16\)"),
        ("f32", True, "cannot be put back"),
    ):
        with model.context(n_ctx=64, n_threads=1, kv_type=kv_type, flash_attention=flash_attention) as context:
            with pytest.raises(ArgumentError, match=named):
                context.restore(saved)
            assert usable(model, context, 0, 0, tolerance=0.02)


def test_too_small_a_context_says_so(model: Model) -> None:
    with open_exact(model, n_ctx=256) as context:
        saved = begin(context, PROMPT).save()
    with open_exact(model, n_ctx=40, n_branches=2) as context:
        held = begin(context, PROMPT[:17])
        with pytest.raises(ContextFullError, match="24 more rows: 17 of"):
            context.restore(saved)
        assert usable(model, context, 17, 1)
        held.close()
        kept = [context.restore(saved), context.branch()]
        with pytest.raises(ContextFullError, match="n_branches"):
            context.restore(saved)
        assert np.abs(go_on(kept[0], context, [9]) - fresh_logits(model, [*PROMPT, 9])[-1]).max() < 1e-5
    with pytest.raises(ClosedError):
        context.restore(saved)
