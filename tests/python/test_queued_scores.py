"""Scores that ride along: queued beside other work, computed by whoever decodes, read afterwards."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from alora_cpp import (
    Adapter,
    ArgumentError,
    Branch,
    Cancelled,
    ClosedError,
    Context,
    ContextFullError,
    LabelScores,
    Model,
    PositionError,
)
from tiny import INVOCATION, fresh_logits, open_exact, random_tokens

PROMPT = random_tokens(95, 20)
LABELS = [[10, 11, 12], [10, 11, 13], [10, 14], [15, 11], [16]]
INNER = 3  # tokens of these that others follow: 10, 10 11, 15
SINGLES = [[10], [11], [12]]


def begin(context: Context, tokens: list[int] = PROMPT) -> Branch:
    branch = context.branch()
    branch.append(tokens)
    return branch


def check_of(trunk: Branch, adapter: Adapter) -> Branch:
    check = trunk.fork()
    check.activate(adapter)
    check.append(INVOCATION)
    return check


def alone(model: Model, labels: list[list[int]], adapter: Adapter | None = None) -> LabelScores:
    """What score() says in a context where nothing else is."""
    with open_exact(model) as context:
        branch = begin(context)
        [scores] = context.score([(check_of(branch, adapter) if adapter else branch, labels)])
        return scores


def same(left: LabelScores, right: LabelScores) -> bool:
    return (
        left.labels == right.labels
        and bool(np.abs(left.log_probabilities - right.log_probabilities).max() < 1e-4)
        and bool(np.abs(left.probabilities - right.probabilities).max() < 1e-5)
        and abs(left.off_label - right.off_label) < 1e-5
    )


def test_several_scorings_go_through_a_generation_step(model: Model, context: Context, adapters: list[Adapter]) -> None:
    """Of the base and of adapters, on one branch and on several: one pass for all, each as if alone.

    Tried with: only the first scoring's rows kept; inner tokens under the base in place of the adapter.
    """
    trunk = begin(context)
    speaker = begin(context, random_tokens(96, 15))
    checks = [check_of(trunk, adapter) for adapter in adapters]
    scorings = [context.queue_scores([(check, LABELS), (check, SINGLES)]) for check in checks]
    scorings.append(context.queue_scores([(trunk, LABELS)]))
    scorings.append(context.queue_scores([(trunk, SINGLES)]))
    generation = context.generation([speaker], max_tokens=4)
    [step] = generation.next()
    assert context.counters.batches == 1
    assert context.counters.rows_decoded == 20 + 15 + len(adapters) * (3 + INNER) + INNER
    assert step.token == int(fresh_logits(model, random_tokens(96, 15))[-1].argmax())
    for _ in range(2):  # what was read can be read again, while the generation goes on
        for scoring, adapter in zip(scorings, adapters, strict=False):
            first, second = scoring.read()
            assert same(first, alone(model, LABELS, adapter))
            assert same(second, alone(model, SINGLES, adapter))
        assert same(scorings[-2].read()[0], alone(model, LABELS))
        assert same(scorings[-1].read()[0], alone(model, SINGLES))
        generation.next()
    del scorings, scoring
    gc.collect()
    assert context.n_cells_used == 20 + speaker.length + len(adapters) * 3


@pytest.mark.parametrize("computed", [False, True])
def test_rows_are_computed_once_and_only_where_needed(model: Model, context: Context, computed: bool) -> None:
    branch = begin(context)
    if computed:
        context.decode()
    before = context.counters.rows_decoded
    scoring = context.queue_scores([(branch, LABELS)])
    singles = context.queue_scores([(branch, SINGLES)])
    assert context.n_cells_used == 20 + INNER
    if computed:
        assert same(singles.read()[0], alone(model, SINGLES))  # nothing to wait for
    context.decode()
    context.decode()
    assert context.counters.rows_decoded == before + INNER + (0 if computed else 20)
    assert same(scoring.read()[0], alone(model, LABELS))
    assert same(singles.read()[0], alone(model, SINGLES))
    assert np.abs(branch.logits() - fresh_logits(model, PROMPT)[-1]).max() < 1e-5


def test_a_last_row_whose_logits_are_gone_is_computed_beside(
    model: Model, context: Context, adapters: list[Adapter]
) -> None:
    """On forks at earlier rows, of governed branches, too."""
    check = check_of(begin(context), adapters[0])
    check.append([9, 10, 11])
    context.decode()
    fork = check.fork(at=23)
    scoring = context.queue_scores([(fork, LABELS)])
    fork.append([30])  # the row is computed on a fork of its own: going on does no harm
    context.decode()
    assert same(scoring.read()[0], alone(model, LABELS, adapters[0]))


def test_reading_too_early_or_too_late_says_so(context: Context) -> None:
    for labels in (LABELS, SINGLES):
        branch = begin(context)
        scoring = context.queue_scores([(branch, labels)])
        with pytest.raises(PositionError, match="not computed"):
            scoring.read()
        branch.append([9])
        context.decode()
        with pytest.raises(PositionError, match="went on"):
            scoring.read()
        scoring = context.queue_scores([(branch, labels)])
        context.decode()
        scoring.read()
        branch.append([9])
        for _ in range(2):
            with pytest.raises(PositionError, match="went on"):
                scoring.read()
            context.decode()
        scoring = context.queue_scores([(branch, labels)])
        context.decode()
        branch.close()
        with pytest.raises(PositionError, match="closed"):
            scoring.read()
        del scoring
        gc.collect()
        assert (context.n_cells_used, context.n_branches) == (0, 0)


def test_one_branch_that_went_on_does_not_spoil_another_scoring(model: Model, context: Context) -> None:
    first, second = begin(context), begin(context)
    scorings = [context.queue_scores([(branch, LABELS)]) for branch in (first, second)]
    context.decode()
    first.append([9])
    with pytest.raises(PositionError):
        scorings[0].read()
    assert same(scorings[1].read()[0], alone(model, LABELS))


@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize("close_first", [False, True])
def test_what_nobody_reads_leaves_no_cells(
    model: Model, context: Context, adapters: list[Adapter], decoded: bool, close_first: bool
) -> None:
    trunk = begin(context)
    context.decode()
    kv, logits = trunk.kv_bytes(), trunk.logits()
    check = check_of(trunk, adapters[0])
    scorings = [context.queue_scores([(trunk, LABELS), (check, LABELS)]) for _ in range(3)]
    assert context.n_cells_used == 20 + 3 + 3 * 2 * INNER
    if decoded:
        context.decode()
    if close_first:
        check.close()
    del scorings
    gc.collect()
    check.close()
    assert (context.n_cells_used, context.n_branches) == (20, 1)
    assert trunk.kv_bytes() == kv
    assert np.array_equal(trunk.logits(), logits)
    trunk.append([9])
    context.decode()
    assert np.abs(trunk.logits() - fresh_logits(model, [*PROMPT, 9])[-1]).max() < 1e-5


def test_a_cancelled_decode_is_made_up_for(model: Model, context: Context) -> None:
    scoring = context.queue_scores([(begin(context), LABELS)])
    context.cancel()
    with pytest.raises(Cancelled):
        context.decode()
    with pytest.raises(PositionError):
        scoring.read()
    context.cancel()
    context.resume()
    context.decode()
    assert same(scoring.read()[0], alone(model, LABELS))


def test_scores_end_with_their_context(model: Model) -> None:
    with open_exact(model) as context:
        branch = begin(context)
        scoring = context.queue_scores([(branch, LABELS)])
        context.decode()
    with pytest.raises(ClosedError):
        scoring.read()
    with pytest.raises(ClosedError):
        context.queue_scores([(branch, LABELS)])
    del scoring


def test_scores_keep_their_context_alive(model: Model) -> None:
    context = open_exact(model)
    branch = begin(context)
    scoring = context.queue_scores([(branch, LABELS)])
    context.decode()
    del context
    gc.collect()
    assert same(scoring.read()[0], alone(model, LABELS))


def test_a_query_that_cannot_be_scored_queues_nothing(model: Model) -> None:
    with open_exact(model, n_ctx=20 + 2 * INNER + 1) as context:
        branch = begin(context)
        for error, queries in (
            (ArgumentError, [(branch, LABELS), (branch, [])]),
            (ArgumentError, [(branch, LABELS), (branch, [[10], [10]])]),
            (ArgumentError, [(branch, LABELS), (context.branch(), LABELS)]),
            (ContextFullError, [(branch, LABELS), (branch, LABELS), (branch, LABELS)]),
        ):
            with pytest.raises(error):
                context.queue_scores(queries)
            assert context.n_cells_used == 20
        assert context.queue_scores([]).read() == []
        scoring = context.queue_scores([(branch, LABELS), (branch, LABELS)])
        context.decode()
        assert all(same(scores, alone(model, LABELS)) for scores in scoring.read())
