"""AdamW for several adapters at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_DIVERGED = 100.0  # useful weights stay below 1
_DECAY = 0.01
_FIRST, _SECOND = 0.9, 0.98  # what is kept of the gradients' means and squares


class AdamW:
    """AdamW over stacked parameters [layers, G, ...], with a rate and a gradient clipping for each member.

    A member whose gradients are not finite sits the step out. One whose weights leave all measure has diverged: it is
    set to zero, which is the base alone, and stays there, before its neighbours in attention get to see infinities.
    """

    def __init__(self, parameters: Sequence[Tensor], rates: Tensor) -> None:
        self._parameters = parameters
        self._rates = rates[:, None, None]
        self._means = [torch.zeros_like(p) for p in parameters]
        self._squares = [torch.zeros_like(p) for p in parameters]
        self._steps = 0

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Moves the parameters, at `factor` times each member's rate, and forgets the gradients."""
        self._steps += 1
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norms = torch.stack([g.square().sum((0, 2, 3)) for g in gradients]).sum(0).sqrt()
        finite = norms.isfinite()[:, None, None]
        clip = (1.0 / norms.clamp(min=1.0))[:, None, None]
        moved = torch.where(finite, self._rates * factor, 0.0)
        first, second = 1 - _FIRST**self._steps, math.sqrt(1 - _SECOND**self._steps)
        for parameter, gradient, mean, square in zip(
            self._parameters, gradients, self._means, self._squares, strict=True
        ):
            clipped = torch.where(finite, gradient * clip, 0.0)
            mean.lerp_(clipped, 1 - _FIRST)
            square.mul_(_SECOND).addcmul_(clipped, clipped, value=1 - _SECOND)
            parameter.mul_(1 - _DECAY * moved)
            parameter.sub_(moved / first * mean / (square.sqrt() / second + 1e-8))
            parameter.grad = None
        largest = torch.stack([p.abs().amax((0, 2, 3)) for p in self._parameters]).amax(0)[:, None, None]
        sound = largest < _DIVERGED  # False for NaN as well
        self._rates = torch.where(sound, self._rates, 0.0)
        for parameter in self._parameters:
            parameter.copy_(torch.where(sound, parameter, 0.0))
