"""Asks our engine what the oracle was asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from oracle.cases import activation

if TYPE_CHECKING:
    from alora_cpp import Adapter, Branch, Context, Model

# The last one cuts the prompt into several passes, some of them across the activation.
UBATCHES = (512, 8, 5)


def make_context(model: Model, *, n_ubatch: int) -> Context:
    """Opens a context that rounds as little as possible."""
    # One thread: on models this small, others would only wait for it.
    return model.context(n_ctx=512, n_branches=16, kv_type="f32", flash_attention=False, n_ubatch=n_ubatch, n_threads=1)


def queue_prompt(context: Context, adapter: Adapter, ids: Sequence[int]) -> Branch:
    """Queues a whole prompt on a new branch, so that it crosses the activation in one batch."""
    at = adapter.find_invocation(ids) if adapter.invocation_tokens else 0
    assert at == activation(list(ids), tuple(adapter.invocation_tokens) or None)
    branch = context.branch()
    branch.append(ids[:at])
    branch.activate(adapter)
    branch.append(ids[at:])
    return branch


def greedy_lag(context: Context, branch: Branch, tokens: list[int]) -> float:
    """How far the logits of these tokens lie below the best ones at most, as they are appended one at a time."""
    lag = 0.0
    for token in tokens:
        logits = branch.logits()
        lag = max(lag, float(logits.max() - logits[token]))
        branch.append([token])
        context.decode()
    return lag


def largest_difference(ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32]) -> float:
    """Compares logits; shapes must agree, and a NaN on either side is infinitely far."""
    assert ours.shape == theirs.shape
    return float(np.nan_to_num(np.abs(ours - theirs), nan=np.inf).max())
