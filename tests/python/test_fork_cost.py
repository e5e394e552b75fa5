"""What makes a fork cheap: no rows computed, no cells taken, no buffer grown, nothing left behind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from alora_cpp import Adapter, Context, Model
from tiny import INVOCATION, open_exact, random_tokens


def state(context: Context) -> tuple[int, int, int]:
    return context.counters.rows_decoded, context.n_cells_used, context.counters.compute_bytes


def test_forking_takes_neither_rows_nor_cells_nor_memory(model: Model, adapters: list[Adapter]) -> None:
    """At 8,192 tokens. Tried with: fork copying its parent's cells (`n_cells_used` and the KV bytes tell)."""
    with open_exact(model, n_ctx=8192 + 64) as context:
        trunk = context.branch()
        trunk.append(random_tokens(50, 8192))
        context.decode()
        before = state(context)
        forks = [trunk.fork(at=at) for at in (0, 1, 4096, 8191, 8192) for _ in range(10)]
        for i, fork in enumerate(forks):
            fork.activate(adapters[i % 4])
        assert state(context) == before
        assert [fork.length for fork in forks] == [at for at in (0, 1, 4096, 8191, 8192) for _ in range(10)]
        # A fork holds no cell itself: its bytes are llama.cpp's for an empty sequence.
        assert {len(fork.kv_bytes()) for fork in forks} == {len(context.branch().kv_bytes())}
        for fork in forks:
            fork.close()
        assert state(context) == before


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_ten_thousand_checks_leave_memory_and_cells_where_they_were(model: Model, adapters: list[Adapter]) -> None:
    """Tried with: a kilobyte kept by every release()."""
    with open_exact(model, n_ctx=256) as context:
        trunk = context.branch()
        trunk.append(random_tokens(51, 16))
        context.decode()

        def check(i: int) -> None:
            with trunk.fork(at=16 - i % 3) as branch:
                branch.activate(adapters[i % 4])
                branch.append(INVOCATION)
                if i % 2:
                    context.decode()
                    branch.logits()
                else:
                    context.score([(branch, [[10, 11], [12]])])

        for i in range(500):
            check(i)
        used, resident = context.n_cells_used, resident_bytes()
        for i in range(10_000):
            check(i)
        assert (context.n_cells_used, context.n_branches) == (used, 1)
        assert resident_bytes() - resident < 4 << 20
