"""Muon: momentum whose update is made orthogonal, for the matrices between the embeddings.

Every direction of a matrix then moves alike, also those that few examples speak of; facts that are read rarely are
learned in fewer steps than with Adam. Newton-Schulz iteration with the coefficients of Jordan et al. (2024,
kellerjordan.github.io/posts/muon); step sizes scaled as by Liu et al. (arXiv 2502.16982), so that one learning rate
serves Muon and AdamW. torch has the same (`torch.optim.Muon`), matrix by matrix; here those of one shape go together,
which a GPU does in a fraction of the time where matrices are as small as ours.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import torch

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """The nearest matrices whose singular values are all about 1; `matrices` is [count, rows, columns]."""
    tall = matrices.shape[1] > matrices.shape[2]
    found = (matrices.mT if tall else matrices).bfloat16()
    found = found / (found.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        square = found @ found.mT
        found = a * found + (b * square + c * square @ square) @ found
    return (found.mT if tall else found).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Muon over two-dimensional parameters; those of one shape are updated together.

    Args:
        parameters: Matrices.
        lr: Learning rate, as large as one would give AdamW.
        momentum: Of the gradients, Nesterov's.
        weight_decay: Decoupled, as AdamW's.
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
    ) -> None:
        by_shape: dict[torch.Size, list[torch.nn.Parameter]] = defaultdict(list)
        for parameter in parameters:
            by_shape[parameter.shape].append(parameter)
        groups = [{"params": members} for members in by_shape.values()]
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Updates every parameter from its gradient."""
        for group in self.param_groups:
            members = group["params"]
            gradients = torch.stack([parameter.grad for parameter in members])
            state = self.state[members[0]]
            velocity = state.setdefault("velocity", torch.zeros_like(gradients))
            velocity.lerp_(gradients, 1 - group["momentum"])
            rows, columns = members[0].shape
            size = group["lr"] * 0.2 * math.sqrt(max(rows, columns))
            updates = orthogonal(gradients.lerp(velocity, group["momentum"]))
            torch._foreach_mul_(members, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(members, list(updates.unbind()), alpha=-size)
