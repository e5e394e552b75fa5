"""Branches: what they say about themselves, forks of forks, closing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from alora_cpp import (
    Adapter,
    AdapterError,
    AdapterMismatchError,
    ArgumentError,
    ClosedError,
    Context,
    ContextFullError,
    Model,
    PositionError,
    TokenError,
)
from tiny import INVOCATION, fresh_logits, open_exact, random_tokens

PROMPT = random_tokens(60, 20)


def test_a_branch_tells_its_length_tokens_and_adapter(context: Context, adapters: list[Adapter]) -> None:
    branch = context.branch()
    assert (branch.length, branch.tokens, branch.adapter, branch.activation_position) == (0, [], None, None)
    branch.append(PROMPT)
    branch.append([])
    assert (len(branch), branch.n_queued, branch.tokens) == (20, 20, PROMPT)
    context.decode()
    assert branch.n_queued == 0
    fork = branch.fork(at=12)
    fork.activate(adapters[1])
    fork.append(INVOCATION)
    assert (fork.length, fork.n_queued, fork.activation_position) == (15, 3, 12)
    assert fork.tokens == [*PROMPT[:12], *INVOCATION]
    assert fork.adapter is adapters[1]
    assert branch.adapter is None
    later = fork.fork(at=14)
    assert (later.adapter, later.activation_position) == (adapters[1], 12)
    before = fork.fork(at=12)
    assert (before.adapter, before.activation_position) == (None, None)


def test_logits_of_several_rows_are_those_of_each(model: Model, context: Context) -> None:
    branch = context.branch()
    branch.append(PROMPT)
    context.decode()
    all_rows = fresh_logits(model, PROMPT)
    last = branch.logits()
    assert (last.shape, last.dtype) == ((model.n_vocab,), np.float32)
    for rows in (1, 2, 7, 20):
        several = branch.logits(rows=rows)
        assert several.shape == (rows, model.n_vocab)
        assert np.abs(several - all_rows[-rows:]).max() < 1e-5
    assert np.array_equal(branch.logits(), last)
    assert context.n_cells_used == 20


def test_more_wanted_logits_than_one_pass_keeps(model: Model) -> None:
    """More than 64 rows. Tried with: n_outputs_max not minded by decode, which aborts."""
    tokens = random_tokens(61, 200)
    with open_exact(model) as context:
        branch = context.branch()
        branch.append(tokens)
        context.decode()
        assert np.abs(branch.logits(rows=200) - fresh_logits(model, tokens)).max() < 1e-5


def test_a_fork_has_the_logits_of_the_row_it_forked_at(model: Model, context: Context) -> None:
    branch = context.branch()
    branch.append(PROMPT)
    context.decode()
    rows = context.counters.rows_decoded
    assert np.array_equal(branch.fork().logits(), branch.logits())
    assert context.counters.rows_decoded == rows
    assert np.abs(branch.fork(at=7).logits() - fresh_logits(model, PROMPT)[6]).max() < 1e-5


def test_a_fork_of_queued_rows_shares_them(model: Model, context: Context, adapters: list[Adapter]) -> None:
    """Tried with: spans one row early."""
    trunk = context.branch()
    forks = []
    for i in range(4):
        trunk.append(PROMPT[5 * i : 5 * i + 5])
        fork = trunk.fork()
        fork.activate(adapters[i])
        fork.append(INVOCATION)
        forks.append(fork)
    context.decode()
    assert context.counters.rows_decoded == 20 + 4 * 3
    for i, fork in enumerate(forks):
        alone = fresh_logits(model, fork.tokens, adapter=adapters[i], at=5 * i + 5)[-1]
        assert np.abs(fork.logits() - alone).max() < 1e-5


@pytest.mark.parametrize("decode", [True, False])
def test_a_thousand_forks_that_each_replace_the_last_use_up_nothing(
    model: Model, context: Context, decode: bool
) -> None:
    """Tried with: closed segments with queued rows not absorbed, which ends after 255 forks."""
    branch = context.branch()
    branch.append(PROMPT)
    tokens = list(PROMPT)
    for i in range(1000):
        if i % 3 == 0 and len(tokens) < 330:
            tokens.append(5 + i % 99)
            branch.append(tokens[-1:])
        if decode and i % 5 == 0:
            context.decode()
        fork = branch.fork()
        branch.close()
        branch = fork
    context.decode()
    assert (branch.tokens, context.n_cells_used, context.n_branches) == (tokens, len(tokens), 1)
    assert np.abs(branch.logits() - fresh_logits(model, tokens)[-1]).max() < 1e-5


def test_a_chain_of_open_forks_reads_all_of_its_ancestors(model: Model, context: Context) -> None:
    branches = [context.branch()]
    branches[0].append(PROMPT)
    for i in range(60):
        branches.append(branches[-1].fork(at=branches[-1].length - i % 2))
        branches[-1].append([7 + i, 8 + i])
    context.decode()
    for closed in (1, 30, 59, 10):
        branches[closed].close()
    branches[0].close()
    last = branches[-1]
    last.append([9])
    context.decode()
    assert np.abs(last.logits() - fresh_logits(model, last.tokens)[-1]).max() < 1e-5


def test_what_a_parent_appends_later_is_not_seen(model: Model, context: Context) -> None:
    """Tried with: lineage_table::sees ignoring `end`."""
    trunk = context.branch()
    trunk.append(PROMPT)
    context.decode()
    fork = trunk.fork()
    trunk.append(random_tokens(62, 30))
    context.decode()
    fork.append([9, 10])
    context.decode()
    assert np.abs(fork.logits() - fresh_logits(model, [*PROMPT, 9, 10])[-1]).max() < 1e-5


def test_a_new_branch_sees_nothing_of_what_its_predecessor_shared(model: Model, context: Context) -> None:
    """It gets the closed fork's sequence. Tried with: release() leaving the lineage."""
    trunk = context.branch()
    trunk.append(PROMPT)
    trunk.fork().close()
    begun = context.branch()
    begun.append([9, 10])
    context.decode()
    assert np.abs(begun.logits() - fresh_logits(model, [9, 10])[-1]).max() < 1e-5


def test_rows_of_a_closed_branch_that_no_fork_shares_are_free_again(model: Model) -> None:
    """Tried with: trim without seq_rm, so that the cache is full before its cells are used."""
    with open_exact(model, n_ctx=256) as context:
        trunk = context.branch()
        trunk.append(random_tokens(63, 200))
        context.decode()
        forks = [trunk.fork(at=10), trunk.fork(at=5)]
        trunk.close()
        assert context.n_cells_used == 10
        tokens = random_tokens(64, 240)
        forks[0].append(tokens)
        context.decode()
        alone = fresh_logits(model, forks[0].tokens)[-1]
        assert np.abs(forks[0].logits() - alone).max() < 1e-5


def test_cells_of_a_closed_branch_are_never_read_by_who_takes_them_over(model: Model) -> None:
    with open_exact(model, n_ctx=64) as context:
        trunk = context.branch()
        trunk.append(PROMPT)
        context.decode()
        for i in range(50):
            tail = random_tokens(700 + i, 1 + i % 40)
            with trunk.fork(at=20 - i % 5) as branch:
                branch.append(tail)
                context.decode()
                if i % 7 == 0:
                    assert np.abs(branch.logits() - fresh_logits(model, branch.tokens)[-1]).max() < 1e-5


def test_a_branch_that_is_dropped_gives_its_cells_back(context: Context) -> None:
    branch = context.branch()
    branch.append(PROMPT)
    del branch
    assert (context.n_cells_used, context.n_branches) == (0, 0)


def test_closed_branches_say_so(context: Context, adapters: list[Adapter]) -> None:
    with context.branch() as branch:
        branch.append([9])
    branch.close()
    assert branch.closed
    calls: list[Callable[[], object]] = [
        lambda: branch.append([9]),
        branch.fork,
        lambda: branch.activate(adapters[0]),
        branch.logits,
        lambda: branch.length,
        lambda: branch.tokens,
        lambda: branch.n_queued,
        lambda: branch.activation_position,
        branch.kv_bytes,
        lambda: context.score([(branch, [[9]])]),
    ]
    for call in calls:
        with pytest.raises(ClosedError, match="the branch is closed"):
            call()


def test_what_a_branch_refuses_changes_nothing(
    model: Model, model_path: str, context: Context, adapters: list[Adapter]
) -> None:
    branch = context.branch()
    branch.append(PROMPT)
    with pytest.raises(PositionError, match="queued"):
        branch.logits()
    context.decode()
    other = Model(model_path)
    governed = branch.fork()
    governed.activate(adapters[0])
    governed.append(INVOCATION)
    refused: list[tuple[type[Exception], str, Callable[[], object]]] = [
        (PositionError, "21", lambda: branch.fork(at=21)),
        (PositionError, "-1", lambda: branch.fork(at=-1)),
        (PositionError, "0 rows", lambda: branch.logits(rows=0)),
        (PositionError, "21 rows", lambda: branch.logits(rows=21)),
        (TokenError, "104", lambda: branch.append([9, 104])),
        (TokenError, "-1", lambda: branch.append([-1])),
        (ContextFullError, "2000", lambda: branch.append([9] * 2000)),
        (ArgumentError, "scale", lambda: branch.activate(adapters[0], scale=float("nan"))),
        (ArgumentError, "scale", lambda: branch.activate(adapters[0], scale=float("-inf"))),
        (AdapterError, "random-0", lambda: governed.activate(adapters[1])),
        (AdapterMismatchError, "random-0", lambda: other.context(n_ctx=64).branch().activate(adapters[0])),
    ]
    for error, named, call in refused:
        with pytest.raises(error, match=named):
            call()
    assert (branch.tokens, branch.adapter, branch.n_queued) == (PROMPT, None, 0)
    assert np.abs(branch.logits(rows=20) - fresh_logits(model, PROMPT)).max() < 1e-5


def test_more_branches_than_asked_for_are_refused(model: Model) -> None:
    with open_exact(model, n_branches=3) as context:
        branches = [context.branch() for _ in range(3)]
        branches[0].append(PROMPT)
        for call in (context.branch, branches[0].fork):
            with pytest.raises(ContextFullError, match="n_branches"):
                call()
        context.score([(branches[0], [[10, 11, 12], [10, 13, 14]])])  # scratch forks are no branches
        branches[1].close()
        assert branches[0].fork().length == 20


def test_255_branches_decode_together(model: Model, adapters: list[Adapter]) -> None:
    with open_exact(model, n_ctx=2048, n_branches=255) as context:
        trunk = context.branch()
        trunk.append(PROMPT)
        forks = [trunk.fork(at=20 - i % 4) for i in range(254)]
        for i, fork in enumerate(forks):
            if i % 5:
                fork.activate(adapters[i % 4])
            fork.append([5 + i % 99, 6])
        context.decode()
        for i in (0, 1, 77, 128, 253):
            adapter = adapters[i % 4] if i % 5 else None
            alone = fresh_logits(model, forks[i].tokens, adapter=adapter, at=20 - i % 4)[-1]
            assert np.abs(forks[i].logits() - alone).max() < 1e-5
