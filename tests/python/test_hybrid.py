"""Models with recurrent layers, which keep the state of a branch's last row alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from test_random_trees import Shadow, compare
from tiny_hybrid import write_hybrid

from alora_cpp import Adapter, ArgumentError, BackendError, Cancelled, ContextFullError, Model, PositionError
from alora_cpp.chat.forking import fork_at
from oracle.tiny_models import HYBRID_FAMILIES
from tiny import begin, fresh_logits, go_on, open_exact, random_tokens

# Rows of a fork that are computed when its origin has already reached where the next fork waits.
LONGER = [7] * 12


@pytest.fixture(scope="module", params=HYBRID_FAMILIES)
def hybrid(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path, _ = write_hybrid(request.param, tmp_path_factory.mktemp("hybrid"))
    with Model(path) as model:
        yield model


@pytest.fixture(scope="module")
def adapters(hybrid: Model) -> list[Adapter]:
    return [hybrid.load_adapter(path) for path in sorted(hybrid.path.parent.glob("adapter-*.gguf"))]


def test_forks_read_nothing_again(hybrid: Model, adapters: list[Adapter]) -> None:
    """Forks at a branch's end, three of them under adapters, in one batch; then the trunk goes on. Tried with:
    take_state giving the fork nothing."""
    prompt, more = random_tokens(1, 40), random_tokens(2, 6)
    with open_exact(hybrid) as context:
        trunk = begin(context, prompt)
        rows = context.counters.rows_decoded
        forks = [trunk.fork() for _ in range(4)]
        for adapter, fork in zip(adapters, forks, strict=False):
            fork.activate(adapter)
        for i, fork in enumerate(forks):
            fork.append(random_tokens(10 + i, 3 + i))
        trunk.append(more)
        context.decode()
        assert context.counters.rows_decoded - rows == len(more) + 3 + 4 + 5 + 6
        for i, fork in enumerate(forks):
            adapter_or_none = adapters[i] if i < 3 else None
            alone = fresh_logits(hybrid, prompt + random_tokens(10 + i, 3 + i), adapter=adapter_or_none, at=40)
            assert np.abs(fork.logits() - alone[-1]).max() < 2e-5
        assert np.abs(trunk.logits() - fresh_logits(hybrid, prompt + more)[-1]).max() < 2e-5


def test_checks_leave_no_trace(hybrid: Model, adapters: list[Adapter]) -> None:
    """After forks, a governed check, an error and their end, the trunk is to the bit what it would be without."""
    prompt = random_tokens(3, 30)
    with open_exact(hybrid) as context:
        trunk = begin(context, prompt)
        untouched, kv = trunk.logits(), trunk.kv_bytes()
        for adapter in adapters:
            fork = trunk.fork()
            fork.activate(adapter)
            go_on(fork, context, random_tokens(4, 5))
            context.score([(fork, [[10, 11], [10, 12], [13]])])
            with pytest.raises(PositionError):
                fork.fork(at=10)
            fork.close()
        assert trunk.kv_bytes() == kv
        assert (trunk.logits() == untouched).all()
        after = go_on(trunk, context, random_tokens(5, 4))
    with open_exact(hybrid) as context:
        assert (go_on(begin(context, prompt), context, random_tokens(5, 4)) == after).all()


def test_going_back_is_refused(hybrid: Model) -> None:
    with open_exact(hybrid) as context:
        trunk = begin(context, random_tokens(6, 20))
        with pytest.raises(PositionError, match=r"cannot fork at position 12.*position 19.*cannot go back.*new branch"):
            trunk.fork(at=12)
        with pytest.raises(BackendError, match="cannot forget single rows"):
            trunk.drop(2, 5)
        assert (context.n_branches, context.n_cells_used) == (1, 20)
        empty = trunk.fork(at=0)
        assert np.abs(go_on(empty, context, [7, 8]) - fresh_logits(hybrid, [7, 8])[-1]).max() < 2e-5


def test_a_fork_that_waits_keeps_its_place(hybrid: Model) -> None:
    """Where the trunk has gone on, another fork at the same position still has the state."""
    prompt = random_tokens(7, 20)
    with open_exact(hybrid) as context:
        trunk = begin(context, prompt)
        place = trunk.fork()
        go_on(trunk, context, random_tokens(8, 5))
        assert np.abs(go_on(place.fork(), context, [9]) - fresh_logits(hybrid, [*prompt, 9])[-1]).max() < 2e-5
        assert np.abs(go_on(trunk.fork(at=20), context, [9]) - fresh_logits(hybrid, [*prompt, 9])[-1]).max() < 2e-5
        trunk.close()
        assert np.abs(go_on(place, context, [10]) - fresh_logits(hybrid, [*prompt, 10])[-1]).max() < 2e-5


@pytest.mark.parametrize("seed", range(4))
def test_random_trees_equal_fresh_contexts(hybrid: Model, adapters: list[Adapter], seed: int) -> None:
    """Forks, appends, activations, closings and decodes in any order; a fork that is refused changes nothing. Tried
    with: absorb_parent dropping its parent's state, a wave that does not stop where a fork waits."""
    random = np.random.Generator(np.random.PCG64([seed, 5000]))
    n_refused = 0
    with open_exact(hybrid, n_ctx=2048, n_branches=12, n_ubatch=(512, 16)[seed % 2]) as context:
        live = [Shadow(context.branch())]
        for step in range(120):
            one = live[int(random.integers(len(live)))]
            action = random.choice(["append", "fork", "activate", "close", "decode"], p=[0.35, 0.25, 0.1, 0.15, 0.15])
            if action == "append":
                tokens = [int(token) for token in random.integers(5, 104, random.integers(1, 9))]
                one.branch.append(tokens)
                one.tokens += tokens
            elif action == "fork" and len(live) < 12:
                at = len(one.tokens) if random.random() < 0.8 else int(random.integers(len(one.tokens) + 1))
                try:
                    fork = Shadow(one.branch.fork(at=at), one.tokens[:at])
                except PositionError:
                    n_refused += 1
                    continue
                if one.adapter is not None and at > one.at:
                    fork.adapter, fork.at = one.adapter, one.at
                live.append(fork)
            elif action == "activate" and one.adapter is None:
                one.adapter, one.at = adapters[int(random.integers(3))], len(one.tokens)
                one.branch.activate(one.adapter)
            elif action == "close" and len(live) > 1:
                live.remove(one)
                one.branch.close()
            elif action == "decode":
                context.decode()
            if step % 30 == 29:
                compare(hybrid, context, live)
        compare(hybrid, context, live)
        assert n_refused
        for one in live:
            one.branch.close()
        assert (context.n_cells_used, context.n_branches) == (0, 0)


@pytest.mark.parametrize("at", [45, 41, 40, 30])
def test_rows_are_read_again_under_what_governs_them(hybrid: Model, adapters: list[Adapter], at: int) -> None:
    """Tried with: the adapter not activated again, and activated before its rows."""
    prompt, called = random_tokens(12, 40), random_tokens(13, 10)
    with open_exact(hybrid) as context:
        base = begin(context, prompt)
        branch = base.fork()
        branch.activate(adapters[0])
        go_on(branch, context, called)
        again = fork_at(context, branch, at, others=[base])
        tokens = [*(prompt + called)[:at], 7]
        governing = adapters[0] if at > 40 else None
        alone = fresh_logits(hybrid, tokens, adapter=governing, at=40)
        assert np.abs(go_on(again, context, [7]) - alone[-1]).max() < 2e-5


def test_a_saved_branch_goes_on(hybrid: Model) -> None:
    prompt = random_tokens(9, 25)
    with open_exact(hybrid) as context:
        trunk = begin(context, prompt)
        fork = trunk.fork()
        go_on(fork, context, [11, 12])
        kv = trunk.kv_bytes()
        saved = fork.save()
        assert trunk.kv_bytes() == kv
        expected = go_on(fork, context, [13])
    with open_exact(hybrid) as context:
        restored = context.restore(saved)
        assert restored.tokens == [*prompt, 11, 12]
        assert np.abs(go_on(restored, context, [13]) - expected).max() < 2e-5


def test_cancelling_loses_no_row(hybrid: Model) -> None:
    """No batch is broken off half-way, since its state could not be mended."""
    prompt = random_tokens(10, 60)
    with open_exact(hybrid, n_ubatch=8) as context:
        trunk = context.branch()
        trunk.append(prompt)
        context.cancel()
        with pytest.raises(Cancelled, match="60 rows queued"):
            context.decode()
        context.decode()
        assert np.abs(trunk.logits() - fresh_logits(hybrid, prompt)[-1]).max() < 2e-5


def test_forks_wait_through_cancelled_decodes(hybrid: Model) -> None:
    """Wherever a decode is broken off, the next one goes on. Tried with: decode() taking states last, not first."""
    prompt = random_tokens(11, 48)
    n_cancelled = 0
    for turn in range(12):
        with open_exact(hybrid, n_ubatch=1) as context:
            trunk = context.branch()
            forks = []
            for at in range(8, 49, 8):
                trunk.append(prompt[at - 8 : at])
                forks.append(trunk.fork())
                forks[-1].append(LONGER)
            for delay in range(20):
                timer = threading.Timer(0.0002 * (delay + turn), context.cancel)
                timer.start()
                try:
                    context.decode()
                except Cancelled:
                    n_cancelled += 1
                timer.join()
            try:
                context.decode()
            except Cancelled:
                context.decode()
            for at, fork in zip(range(8, 49, 8), forks, strict=True):
                assert np.abs(fork.logits() - fresh_logits(hybrid, [*prompt[:at], *LONGER])[-1]).max() < 2e-5
            assert np.abs(trunk.logits() - fresh_logits(hybrid, prompt)[-1]).max() < 2e-5
    assert n_cancelled


def test_states_are_few_unless_asked_for(hybrid: Model) -> None:
    with hybrid.context(n_ctx=256, n_threads=1) as context:
        branches = [context.branch() for _ in range(16)]
        with pytest.raises(ContextFullError, match="all 16 branches are open"):
            context.branch()
        del branches
    with pytest.raises(ArgumentError, match="n_branches is 0"):
        hybrid.context(n_branches=0)
