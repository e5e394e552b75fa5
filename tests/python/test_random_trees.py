"""Random trees of branches, each compared with what its tokens give in a context of their own."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from alora_cpp import Adapter, Branch, Context, Model
from tiny import fresh_logits, open_exact


@dataclass
class Shadow:
    """What a branch should be, kept beside it."""

    branch: Branch
    tokens: list[int] = field(default_factory=list)
    adapter: Adapter | None = None
    at: int = 0
    scale: float = 1.0


@pytest.mark.parametrize("seed", range(6))
def test_random_trees_equal_fresh_contexts(model: Model, adapters: list[Adapter], seed: int) -> None:
    """Forks, appends, activations, closings and decodes in any order. Tried with: lineage_table::sees ignoring `end`,
    spans one row early, absorb_parent without update_lineage, release() leaving the row table's entry."""
    random = np.random.Generator(np.random.PCG64([seed, 4000]))
    with open_exact(model, n_ctx=2048, n_branches=24, n_ubatch=(512, 16, 3)[seed % 3]) as context:
        live = [Shadow(context.branch())]
        for step in range(150):
            one = live[int(random.integers(len(live)))]
            action = random.choice(
                ["append", "fork", "begin", "activate", "close", "decode", "score"],
                p=[0.3, 0.2, 0.05, 0.1, 0.15, 0.15, 0.05],
            )
            if action == "append":
                tokens = [int(token) for token in random.integers(5, 104, random.integers(1, 12))]
                one.branch.append(tokens)
                one.tokens += tokens
            elif action == "fork" and len(live) < 24:
                at = int(random.integers(len(one.tokens) + 1))
                governed = one.adapter is not None and at > one.at
                fork = Shadow(one.branch.fork(at=at), one.tokens[:at])
                if governed:
                    fork.adapter, fork.at, fork.scale = one.adapter, one.at, one.scale
                live.append(fork)
            elif action == "begin" and len(live) < 24:
                live.append(Shadow(context.branch()))
            elif action == "activate" and one.adapter is None:
                one.adapter, one.at = adapters[int(random.integers(4))], len(one.tokens)
                one.scale = float(random.choice([0.5, 1.0]))
                one.branch.activate(one.adapter, one.scale)
            elif action == "close" and len(live) > 1:
                live.remove(one)
                one.branch.close()
            elif action == "decode":
                context.decode()
            elif action == "score" and one.tokens:
                context.score([(one.branch, [[10, 11], [10, 12], [13]])])
            if step % 25 == 24:
                compare(model, context, live)
        compare(model, context, live)
        for one in live:
            one.branch.close()
        assert (context.n_cells_used, context.n_branches) == (0, 0)


def compare(model: Model, context: Context, live: list[Shadow]) -> None:
    context.decode()
    for one in live:
        assert one.branch.tokens == one.tokens
        assert one.branch.adapter is one.adapter
        if one.tokens:
            at = min(one.at, len(one.tokens))
            alone = fresh_logits(model, one.tokens, adapter=one.adapter, at=at, scale=one.scale)
            assert np.abs(one.branch.logits() - alone[-1]).max() < 2e-5
