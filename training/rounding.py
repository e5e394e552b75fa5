"""Matrices as a four-bit GGUF holds them, so that the base is trained as users will run it.

Q4_K (ggml's `block_q4_K`) cuts rows into blocks of 256 columns, and these into eight of 32. Each of the eight has a
scale and a lowest value of at most 0, both in 63 steps of the largest of the eight, and each weight one of 16 levels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

_BLOCK, _PART = 256, 32
_LEVELS, _STEPS = 15, 63


def _stepped(values: torch.Tensor) -> torch.Tensor:
    """Values of at least 0, each [blocks, parts, 1], in steps of their block's largest."""
    step = values.amax(1, keepdim=True).clamp(min=1e-12) / _STEPS
    return (values / step).round() * step


@torch.no_grad()
def rounded(matrix: torch.Tensor) -> torch.Tensor:
    """A matrix, its rows rounded block by block; what is rounded already stays as it is."""
    parts = matrix.reshape(-1, _BLOCK // _PART, _PART)
    depth = -parts.amin(2, keepdim=True).clamp(max=0)
    scale = (parts.amax(2, keepdim=True) + depth) / _LEVELS
    scale, depth = _stepped(scale), _stepped(depth)
    levels = ((parts + depth) / scale.clamp(min=1e-12)).round().clamp(0, _LEVELS)
    return (scale * levels - depth).reshape(matrix.shape)


def projections(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The matrices between the embeddings, which are what Q4_K rounds to four bits."""
    return [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name and "lm_head" not in name]


@torch.no_grad()
def round_all(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Rounds parameters for good."""
    # All in one piece: a call for each of a hundred small matrices takes longer than the rounding.
    blocks = rounded(torch.cat([parameter.reshape(-1, _BLOCK) for parameter in parameters]))
    parts = blocks.split([parameter.numel() // _BLOCK for parameter in parameters])
    torch._foreach_copy_(list(parameters), [part.view_as(p) for part, p in zip(parts, parameters, strict=True)])


@contextmanager
def as_rounded(parameters: Sequence[torch.nn.Parameter]) -> Iterator[None]:
    """Within, the parameters hold their rounded values; gradients found there serve the exact ones."""
    exact = [parameter.detach().clone() for parameter in parameters]
    round_all(parameters)
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(parameters), exact)
