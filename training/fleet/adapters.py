"""The matrices of several adapters, stacked, ranks filled up with zeros."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch
from torch import Tensor

from training.fleet.granite import Granite, LayerAdapters
from training.fleet.member import Member


class Adapters:
    """A and B for query, key and value of every layer, for G members, in 32 bits.

    Zeros beyond a member's own rank stay zero: what multiplies them is zero, and so are their gradients.

    Attributes:
        a: [layers, G, D, 3r].
        b: For query, key and value, each [layers, G, r, width].
    """

    def __init__(self, granite: Granite, members: Sequence[Member]) -> None:
        self.members = list(members)
        layers, width = len(granite.layers), granite.embedding.shape[1]
        self.largest = max(member.rank for member in members)
        first = torch.zeros(layers, len(members), width, 3, self.largest)
        for position, member in enumerate(members):
            # A member's first weights depend on itself alone, not on who else is in the fleet.
            seed = random.Random(f"adapter {member.seed} {member.rank}").getrandbits(63)
            drawn = torch.rand(layers, width, 3, member.rank, generator=torch.Generator().manual_seed(seed))
            first[:, position, :, :, : member.rank] = (2 * drawn - 1) / math.sqrt(width)
        self.a = first.flatten(-2).to(granite.device).requires_grad_()
        self.b = [
            torch.zeros(layers, len(members), self.largest, out, device=granite.device, requires_grad=True)
            for out in granite.shape.widths
        ]

    @property
    def parameters(self) -> list[Tensor]:
        """All that is trained; the second dimension tells the members apart."""
        return [self.a, *self.b]

    def layer(self, number: int) -> LayerAdapters:
        """One layer's matrices."""
        return LayerAdapters(self.a[number], *(part[number] for part in self.b))

    def take(self, position: int, other: Adapters, there: int) -> None:
        """Copies a member's matrices from another stack."""
        rank = self.members[position].rank
        first, taken = (stack.a.detach().unflatten(-1, (3, stack.largest)) for stack in (self, other))
        first[:, position, ..., :rank] = taken[:, there, ..., :rank]
        for second, taken in zip(self.b, other.b, strict=True):
            second.detach()[:, position, :rank] = taken.detach()[:, there, :rank]

    def matrices(self, position: int, layer: int) -> dict[str, tuple[Tensor, Tensor]]:
        """One member's A [r, D] and B [width, r] for `q`, `k` and `v`, as PEFT has them."""
        rank = self.members[position].rank
        parts = self.a.detach()[layer, position].unflatten(-1, (3, self.largest))
        return {
            name: (parts[:, index, :rank].T, self.b[index].detach()[layer, position, :rank].T)
            for index, name in enumerate("qkv")
        }
