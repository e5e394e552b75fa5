"""Matrices as a four-bit GGUF would hold them, so that training can meet the rounding before users do.

Q4_K keeps, for every 32 neighbours of a row, a scale and a lowest value of at most 0, and 4 bits a weight (ggml's
`quantize_row_q4_K`, which also rounds scales to six bits and searches for better ones: this is a little coarser).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

_BLOCK = 32
_LEVELS = 15


@torch.no_grad()
def rounded(matrix: torch.Tensor) -> torch.Tensor:
    """A matrix, its rows rounded block by block to sixteen levels."""
    blocks = matrix.reshape(-1, _BLOCK)
    low = blocks.amin(1, keepdim=True).clamp(max=0)
    step = (blocks.amax(1, keepdim=True).clamp(min=0) - low) / _LEVELS
    levels = ((blocks - low) / step.clamp(min=1e-12)).round().clamp(0, _LEVELS)
    return (low + step * levels).reshape(matrix.shape)


def projections(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The matrices between the embeddings, which are all that Q4_K rounds to four bits."""
    return [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name and "lm_head" not in name]


@contextmanager
def as_rounded(parameters: Sequence[torch.nn.Parameter]) -> Iterator[None]:
    """Within, the parameters hold their rounded values; gradients found there serve the exact ones."""
    exact = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for parameter in parameters:
            parameter.copy_(rounded(parameter))
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(parameters), exact)
