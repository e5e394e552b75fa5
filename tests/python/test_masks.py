"""Masks for the next token: obeyed by every way of sampling, for one token of one branch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from alora_cpp import Adapter, ArgumentError, Branch, Cancelled, Context, ContextFullError, Model
from tiny import INVOCATION, N_VOCAB, fresh_logits, open_exact, random_tokens

PROMPT = random_tokens(90, 20)
N_WORDS = 4  # 104 tokens: the last word has bits that stand for none

Mask = npt.NDArray[np.uint32]


def mask_of(tokens: Iterable[int]) -> Mask:
    bits = np.zeros(32 * N_WORDS, np.uint32)
    bits[list(tokens)] = 1
    return (bits.reshape(N_WORDS, 32) << np.arange(32, dtype=np.uint32)).sum(axis=1, dtype=np.uint32)


def begin(context: Context, tokens: list[int] = PROMPT) -> Branch:
    branch = context.branch()
    branch.append(tokens)
    return branch


SAMPLING: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampled": {"temperature": 1.0},
    "hot": {"temperature": 50.0},
    "top_k": {"temperature": 1.0, "top_k": 3},
    "top_p": {"temperature": 1.0, "top_p": 0.1},
    "min_p": {"temperature": 1.0, "min_p": 0.9},
    "all": {"temperature": 1.0, "top_k": 5, "top_p": 0.5, "min_p": 0.5},
}


@pytest.mark.parametrize("name", SAMPLING)
def test_every_way_of_sampling_obeys(context: Context, name: str) -> None:
    """Random sets of tokens, one step after another. Tried with: the mask not looked at, bits in reverse order."""
    random = np.random.Generator(np.random.PCG64([len(name), 7000]))
    branch = begin(context)
    generation = context.generation([branch], max_tokens=200, **SAMPLING[name])
    for _ in range(60):
        allowed = random.choice(np.arange(2, N_VOCAB), int(random.integers(1, 9)), replace=False)
        generation.restrict_next(mask_of(allowed))
        [step] = generation.next()
        assert step.token in allowed
        assert branch.tokens[-1] == step.token


def test_greedy_takes_the_best_of_those_allowed(model: Model, context: Context, adapters: list[Adapter]) -> None:
    """Under an adapter and without. Tried with: the best of all where it is allowed only."""
    for adapter in (None, adapters[0]):
        branch = begin(context)
        if adapter:
            branch.activate(adapter)
            branch.append(INVOCATION)
        generation = context.generation([branch], max_tokens=30)
        length = branch.length
        masks = []
        for i in range(20):
            allowed = [token for token in random_tokens(91 + i, 6) if token > 1]
            masks.append(allowed if i % 3 else list(range(N_VOCAB)))
            if i % 3:
                generation.restrict_next(mask_of(allowed))
            [step] = generation.next()
            if step.finish:
                break
        logits = fresh_logits(model, branch.tokens, adapter=adapter, at=len(PROMPT))
        assert branch.length > length + 3
        for i, token in enumerate(branch.tokens[length:]):
            row = logits[length - 1 + i]
            assert token == max(masks[i], key=lambda candidate: row[candidate])


def test_samples_have_the_probabilities_of_those_allowed(model: Model) -> None:
    """Renormalised over them. Tried with: a temperature of 1 in place of 1.5."""
    allowed = [9, 30, 31, 32, 63, 64, 96, 103]
    scaled = fresh_logits(model, PROMPT)[-1][allowed].astype(np.float64) / 1.5
    expected = np.exp(scaled - scaled.max())
    expected /= expected.sum()
    counts = np.zeros(len(allowed))
    with open_exact(model, n_branches=101) as context:
        trunk = begin(context)
        context.decode()
        for seed in range(30):
            branches = [trunk.fork() for _ in range(100)]
            generation = context.generation(branches, max_tokens=1, temperature=1.5, seed=1000 * seed)
            for i in range(100):
                generation.restrict_next(mask_of(allowed), index=i)
            for step in generation.next():
                counts[allowed.index(step.token)] += 1
            for branch in branches:
                branch.close()
    deviation = np.sqrt(expected * (1 - expected) * counts.sum())
    assert (np.abs(counts - expected * counts.sum()) < 5 * deviation).all()


def test_a_mask_holds_for_one_token_of_one_branch(model: Model, context: Context) -> None:
    """Tried with: the mask not cleared after use; one mask for all branches."""
    branches = [begin(context) for _ in range(3)]
    generation = context.generation(branches, max_tokens=10)
    generation.restrict_next(mask_of([40]), index=2)
    generation.restrict_next(mask_of([41]), index=0)
    generation.restrict_next(mask_of([42]), index=0)  # in place of the one before
    best = int(fresh_logits(model, PROMPT)[-1].argmax())
    assert [step.token for step in generation.next()] == [42, best, 40]
    later = [int(fresh_logits(model, [*PROMPT, token])[-1].argmax()) for token in (42, best, 40)]
    assert [step.token for step in generation.next()] == later


def test_all_tokens_allowed_is_no_mask(context: Context) -> None:
    for sampling in SAMPLING.values():
        made = []
        for masked in (False, True):
            with begin(context) as branch:
                generation = context.generation([branch], max_tokens=12, seed=5, **sampling)
                tokens = []
                while True:
                    if masked:
                        generation.restrict_next(mask_of(range(N_VOCAB)))
                    steps = generation.next()
                    if not steps:
                        break
                    tokens.append(steps[0].token)
                made.append(tokens)
        assert made[0] == made[1]


def test_ends_of_generation_can_be_asked_for_and_ruled_out(model: Model, context: Context) -> None:
    ends = [token for token in range(N_VOCAB) if model.is_end_of_generation(token)]
    branch = begin(context)
    generation = context.generation([branch], max_tokens=50, temperature=20.0, stop_tokens=[33])
    rest = mask_of(token for token in range(N_VOCAB) if token not in (*ends, 33))
    for _ in range(30):
        generation.restrict_next(rest)
        assert generation.next()[0].finish is None
    generation.restrict_next(mask_of(ends))
    [step] = generation.next()
    assert (step.token in ends, step.finish, branch.length) == (True, "stop", 50)
    assert generation.next() == []


def test_bits_beyond_the_vocabulary_mean_nothing(context: Context) -> None:
    """Tried with: not minded, which reads past what there is to sample from."""
    beyond = ~mask_of(range(N_VOCAB))
    assert beyond.tolist() == [0, 0, 0, 0xFFFFFF00]
    generation = context.generation([begin(context)], max_tokens=20, temperature=50.0)
    with pytest.raises(ArgumentError, match="allows no token"):
        generation.restrict_next(beyond)
    for token in (103, 9, 50):
        generation.restrict_next(mask_of([token]) | beyond)
        assert generation.next()[0].token == token


def test_masks_that_are_none_change_nothing(context: Context) -> None:
    generation = context.generation([begin(context)], max_tokens=5)
    generation.restrict_next(mask_of([77]))
    some = mask_of([9])
    refused: list[tuple[str, Callable[[], None]]] = [
        ("allows no token", lambda: generation.restrict_next(mask_of([]))),
        ("0 words, expected 4 for a vocabulary of 104", lambda: generation.restrict_next(some[:0])),
        ("3 words", lambda: generation.restrict_next(some[:3])),
        ("5 words", lambda: generation.restrict_next(np.append(some, some[:1]))),
        ("no branch 1 in this generation of 1", lambda: generation.restrict_next(some, index=1)),
        ("no branch -1", lambda: generation.restrict_next(some, index=-1)),
    ]
    for named, call in refused:
        with pytest.raises(ArgumentError, match=named):
            call()
    assert generation.next()[0].token == 77


def test_a_mask_waits_for_a_token_that_is_not_made_yet(model: Model) -> None:
    """A cancelled decode and a full context make none."""
    with open_exact(model, n_ctx=20) as context:
        branch = begin(context, PROMPT[:19])
        beside = begin(context, PROMPT[:1])
        generation = context.generation([branch], max_tokens=5)
        generation.restrict_next(mask_of([77]))
        context.cancel()
        with pytest.raises(Cancelled):
            generation.next()
        with pytest.raises(ContextFullError):
            generation.next()
        beside.close()
        assert generation.next()[0].token == 77


def test_a_mask_may_lie_in_memory_in_any_way(context: Context) -> None:
    """Tried with: its memory read as if it were contiguous."""
    generation = context.generation([begin(context)], max_tokens=5)
    columns = np.stack([mask_of([40]), mask_of([41])], axis=1)
    for mask, token in ((columns[:, 0], 40), (columns[:, 1], 41), (mask_of([42])[::-1].copy()[::-1], 42)):
        generation.restrict_next(mask)
        assert generation.next()[0].token == token
