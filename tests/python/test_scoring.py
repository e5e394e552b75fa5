"""Label probabilities against brute force: every label alone, from a fresh prefill, in float64."""

from __future__ import annotations

import numpy as np
import pytest

from alora_cpp import Adapter, ArgumentError, Cancelled, Context, ContextFullError, Model, TokenError
from tiny import INVOCATION, fresh_logits, random_tokens

PROMPT = random_tokens(20, 30)

LABEL_SETS: dict[str, list[list[int]]] = {
    "single tokens": [[10], [11], [12]],
    "one label": [[10]],
    "all tokens": [[token] for token in range(104)],
    "several tokens": [[10, 11, 12], [20, 21], [30]],
    "shared beginnings": [[10, 11, 12], [10, 11, 13], [10, 14], [15, 11, 12]],
    "siblings that go on": [[10, 11, 12], [10, 20, 21], [10, 30, 31, 32], [10, 30, 40, 41]],
    "prefixes of one another": [[10], [10, 11], [10, 11, 12], [20]],
    "prefix after its longer label": [[10, 11, 12], [10, 12], [10]],
    "a deep chain": [list(range(10, 30)), list(range(10, 20)), [*range(10, 29), 50]],
    "one repeated token": [[10] * 5, [10] * 3],
}


def log_softmax(logits: np.ndarray) -> np.ndarray:
    values = logits.astype(np.float64)
    values -= values.max()
    return values - np.log(np.exp(values).sum())


def brute_force(
    model: Model, prompt: list[int], labels: list[list[int]], adapter: Adapter | None = None, at: int = 0
) -> tuple[np.ndarray, np.ndarray, float]:
    logs = []
    for label in labels:
        rows = fresh_logits(model, [*prompt, *label], adapter=adapter, at=at)
        logs.append(sum(log_softmax(rows[len(prompt) - 1 + i])[token] for i, token in enumerate(label)))
    whole = np.exp(np.array(logs))
    own = whole.copy()
    for i, label in enumerate(labels):
        longer = [k for k, other in enumerate(labels) if len(other) > len(label) and other[: len(label)] == label]
        # Only those with no label in between: a longer one still is a part of the one in between.
        for k in longer:
            if not any(len(labels[m]) < len(labels[k]) and labels[k][: len(labels[m])] == labels[m] for m in longer):
                own[i] -= whole[k]
    return np.array(logs), own / own.sum(), 1.0 - own.sum()


@pytest.mark.parametrize("name", LABEL_SETS)
def test_scores_equal_brute_force(model: Model, context: Context, adapters: list[Adapter], name: str) -> None:
    """Base and adapter in one call. Tried with: a shorter label not reduced by its longer ones, and siblings that go on
    in the same segment."""
    labels = LABEL_SETS[name]
    trunk = context.branch()
    trunk.append(PROMPT)
    context.decode()
    check = trunk.fork()
    check.activate(adapters[0])
    check.append(INVOCATION)
    used = context.n_cells_used
    scores = context.score([(trunk, labels), (check, labels)])
    assert context.n_cells_used == used
    expected = [
        brute_force(model, PROMPT, labels),
        brute_force(model, [*PROMPT, *INVOCATION], labels, adapters[0], len(PROMPT)),
    ]
    for ours, (logs, probabilities, off_label) in zip(scores, expected, strict=True):
        assert ours.labels == tuple(labels)
        assert ours.log_probabilities.dtype == ours.probabilities.dtype == np.float64
        assert np.abs(ours.log_probabilities - logs).max() < 1e-4
        assert np.abs(np.exp(ours.log_probabilities) - np.exp(logs)).max() < 1e-5
        assert np.abs(ours.probabilities - probabilities).max() < 1e-5
        assert abs(ours.off_label - off_label) < 1e-5
        assert abs(ours.probabilities.sum() - 1.0) < 1e-12
        assert ours.best == labels[int(np.argmax(probabilities))]


def test_all_queries_are_scored_in_one_pass(context: Context, adapters: list[Adapter]) -> None:
    trunk = context.branch()
    trunk.append(PROMPT)
    context.decode()
    before = context.counters
    queries = []
    for adapter in adapters:
        check = trunk.fork()
        check.activate(adapter)
        check.append(INVOCATION)
        queries.append((check, [[10, 11], [10, 12], [13]]))
    context.score(queries)
    after = context.counters
    assert after.batches == before.batches + 1
    assert after.rows_decoded == before.rows_decoded + len(adapters) * (len(INVOCATION) + 1)


def test_scoring_leaves_the_branch_as_it_was(context: Context) -> None:
    branch = context.branch()
    branch.append(PROMPT)
    context.decode()
    logits, kv = branch.logits(), branch.kv_bytes()
    for labels in LABEL_SETS.values():
        context.score([(branch, labels), (branch, labels)])
    assert np.array_equal(branch.logits(), logits)
    assert branch.kv_bytes() == kv
    assert (branch.length, context.n_cells_used, context.n_branches) == (30, 30, 1)


def test_a_fork_at_the_first_governed_row_is_scored_under_its_adapter(
    model: Model, context: Context, adapters: list[Adapter]
) -> None:
    """Its last row is computed again, alone. Tried with: governance not given to the scratch segment."""
    check = context.branch()
    check.append(PROMPT)
    check.activate(adapters[0])
    check.append(INVOCATION)
    context.decode()
    fork = check.fork(at=len(PROMPT) + 1)
    labels = [[10], [11, 12], [13]]
    [scores] = context.score([(fork, labels)])
    expected = brute_force(model, [*PROMPT, INVOCATION[0]], labels, adapters[0], len(PROMPT))
    assert np.abs(scores.probabilities - expected[1]).max() < 1e-5


def test_labels_may_be_text(model: Model, context: Context) -> None:
    branch = context.branch()
    branch.append(PROMPT)
    [text] = context.score([(branch, ["Y", "No", "<|bos|>"])])
    [tokens] = context.score([(branch, [model.tokenize(label) for label in ("Y", "No", "<|bos|>")])])
    assert text.labels == ("Y", "No", "<|bos|>")
    assert np.allclose(text.probabilities, tokens.probabilities)


def test_a_very_improbable_label_set_still_adds_up_to_one(context: Context) -> None:
    branch = context.branch()
    branch.append(PROMPT)
    [scores] = context.score([(branch, [[10 + i % 7] * 200 + [20 + i] for i in range(2)])])
    assert scores.log_probabilities.max() < -300
    assert abs(scores.probabilities.sum() - 1.0) < 1e-12
    assert scores.off_label == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("labels", "error", "named"),
    [
        ([], ArgumentError, "no labels"),
        ([[10], []], ArgumentError, "label 1 has no tokens"),
        ([[10], ""], ArgumentError, "label 1 has no tokens"),
        ([[10, 11], [12], [10, 11]], ArgumentError, "labels 0 and 2"),
        ([[10, 104]], TokenError, "104"),
        ([[-1]], TokenError, "-1"),
        ([[10] * 2000], ContextFullError, "cells"),
    ],
)
def test_labels_that_cannot_be_scored(
    context: Context, labels: list[list[int]], error: type[Exception], named: str
) -> None:
    branch = context.branch()
    branch.append(PROMPT)
    with pytest.raises(error, match=named):
        context.score([(branch, [[9]]), (branch, labels)])
    assert context.n_cells_used == len(PROMPT)
    context.score([(branch, [[10], [11]])])


def test_branches_that_cannot_be_scored(model: Model, context: Context) -> None:
    with pytest.raises(ArgumentError, match="without rows"):
        context.score([(context.branch(), [[10]])])
    with model.context(n_ctx=64) as other:
        foreign = other.branch()
        foreign.append([9])
        with pytest.raises(ArgumentError, match="another context"):
            context.score([(foreign, [[10]])])
    assert context.score([]) == []


def test_a_cancelled_score_leaves_the_rows_queued_and_no_scratch(context: Context) -> None:
    branch = context.branch()
    branch.append(PROMPT)
    context.cancel()
    with pytest.raises(Cancelled):
        context.score([(branch, [[10, 11, 12], [10, 11, 13]])])
    assert (context.n_cells_used, branch.n_queued) == (30, 30)
    [scores] = context.score([(branch, [[10, 11], [12]])])
    assert abs(scores.probabilities.sum() - 1.0) < 1e-12
