"""Trains a fleet."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.examples import Rows
from training.fleet.batches import Batch, DeviceRows
from training.fleet.granite import Granite
from training.fleet.group import Group, Suffixes, read_prefix
from training.fleet.member import Member
from training.fleet.optimizer import AdamW

_log = logging.getLogger(__name__)
_LORAS_TOGETHER = 4  # each keeps the activations of whole texts until its gradients are known


@dataclass(frozen=True)
class Schedule:
    """How long to train, and on how much at a time.

    Attributes:
        epochs: How often to see the rows.
        rows: Most conversations a step.
        tokens: Most ids a step, filling included.
        checks: How often to look at the validation rows; each member keeps the weights of its best look.
        seconds: A limit on the time; where it binds, the schedule is shortened and the result depends on the machine.
        seed: Of the order.
    """

    epochs: int = 1
    rows: int = 128
    tokens: int = 65_536
    checks: int = 8
    seconds: float = math.inf
    seed: int = 1


class Fleet:
    """Adapters over one base model.

    Attributes:
        granite: The base model.
        members: In the order given; figures have this order too.
        groups: The same members, as they are computed together.
    """

    def __init__(self, granite: Granite, members: Sequence[Member]) -> None:
        names = [member.name for member in members]
        if len(set(names)) < len(names):
            raise ValueError(f"members need different names, found {sorted(names)}")
        self.granite = granite
        self.members = list(members)
        loras = [member for member in members if member.kind == "lora"]
        parts = [loras[start : start + _LORAS_TOGETHER] for start in range(0, len(loras), _LORAS_TOGETHER)]
        parts.append([member for member in members if member.kind == "alora"])
        self.groups = [Group(granite, part) for part in parts if part]
        grouped = [member.name for group in self.groups for member in group.members]
        self._order = [grouped.index(name) for name in names]

    def in_order(self, figures: Sequence[Tensor]) -> Tensor:
        """Figures of every group, first dimension members, as one tensor in the members' order."""
        return torch.cat(list(figures))[self._order]

    def place(self, name: str) -> tuple[Group, int]:
        """Where a member is."""
        for group in self.groups:
            for position, member in enumerate(group.members):
                if member.name == name:
                    return group, position
        raise KeyError(name)

    @torch.no_grad()
    def only(self, names: Sequence[str], granite: Granite) -> Fleet:
        """A fleet of some of the members, as they are now, over a base of other precision or place."""
        fleet = Fleet(granite, [member for member in self.members if member.name in names])
        for group in fleet.groups:
            for position, member in enumerate(group.members):
                source, there = self.place(member.name)
                group.adapters.take(position, source.adapters, there)
        return fleet

    def any_late(self) -> bool:
        """Whether somebody needs the conversations read by the base alone."""
        return any(group.late for group in self.groups)

    @torch.no_grad()
    def losses(self, rows: DeviceRows, schedule: Schedule) -> Tensor:
        """Every member's mean loss over rows, in the members' order."""
        suffixes = [Suffixes(group.members, rows.labels, self.granite.device) for group in self.groups]
        total = torch.zeros(len(self.members), device=self.granite.device)
        for batch in rows.in_order(schedule.rows, schedule.tokens):
            prefix = read_prefix(self.granite, batch) if self.any_late() else None
            found = [g.losses(self.granite, batch, s, prefix) for g, s in zip(self.groups, suffixes, strict=True)]
            total += self.in_order(found) * len(batch.rows)
        return total / len(rows)


class Best:
    """Each member's weights at its best look at the validation rows."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._losses = {member.name: math.inf for member in fleet.members}
        self._kept = [[p.detach().clone() for p in group.adapters.parameters] for group in fleet.groups]

    def look(self, losses: Tensor) -> None:
        """Keeps the weights of whoever is better than before."""
        for member, loss in zip(self._fleet.members, losses.tolist(), strict=True):
            if loss < self._losses[member.name]:
                self._losses[member.name] = loss
                group, position = self._fleet.place(member.name)
                for kept, p in zip(self._kept[self._fleet.groups.index(group)], group.adapters.parameters, strict=True):
                    kept[:, position] = p.detach()[:, position]

    @torch.no_grad()
    def restore(self) -> dict[str, float]:
        """Puts the kept weights back; gives every member's best loss."""
        for group, kept in zip(self._fleet.groups, self._kept, strict=True):
            for parameter, best in zip(group.adapters.parameters, kept, strict=True):
                parameter.copy_(best)
        return self._losses


def _factor(progress: float, step: int, warm_up: int) -> float:
    return min(1.0, (step + 1) / warm_up) * max(0.01, 1.0 - progress)


def train_fleet(
    granite: Granite,
    members: Sequence[Member],
    rows: Rows,
    validation: Rows,
    schedule: Schedule,
) -> tuple[Fleet, dict[str, float]]:
    """Trains all members on the same conversations, in the same order.

    Args:
        granite: The frozen base model.
        members: What to train.
        rows: What to learn from.
        validation: What chooses between a member's states along the way.
        schedule: How long.

    Returns:
        The trained fleet, and every member's loss on the validation rows.
    """
    torch.manual_seed(schedule.seed)
    fleet = Fleet(granite, members)
    there, judged = DeviceRows(rows, granite.device), DeviceRows(validation, granite.device)
    suffixes = [Suffixes(group.members, there.labels, granite.device) for group in fleet.groups]
    optimizers = [
        AdamW(group.adapters.parameters, torch.tensor([m.rate for m in group.members], device=granite.device))
        for group in fleet.groups
    ]
    best, started, looked = Best(fleet), time.monotonic(), 0
    groups = list(there.shuffled(schedule.epochs, schedule.rows, schedule.tokens, schedule.seed))
    warm_up = max(1, min(50, len(groups) // 10))
    _log.info("%d members, %d rows, %d steps", len(members), len(there), len(groups))
    for step, chosen in enumerate(groups):
        progress = max(step / len(groups), (time.monotonic() - started) / schedule.seconds)
        _learn(fleet, granite, there.batch(chosen), suffixes, optimizers, _factor(progress, step, warm_up))
        last = progress >= 1.0 or step == len(groups) - 1
        if last or progress * schedule.checks >= looked + 1:
            looked = int(progress * schedule.checks)
            losses = fleet.losses(judged, schedule)
            best.look(losses)
            spent = time.monotonic() - started
            shown = " ".join(f"{m.name} {x:.3f}" for m, x in zip(members, losses.tolist(), strict=True))
            _log.info("step %d of %d, %.0f s: %s", step + 1, len(groups), spent, shown)
        if last:
            break
    return fleet, best.restore()


def _learn(
    fleet: Fleet,
    base: Granite,
    batch: Batch,
    suffixes: Sequence[Suffixes],
    optimizers: Sequence[AdamW],
    factor: float,
) -> None:
    prefix = read_prefix(base, batch) if fleet.any_late() else None
    for group, own, optimizer in zip(fleet.groups, suffixes, optimizers, strict=True):
        group.losses(base, batch, own, prefix).sum().backward()
        optimizer.step(factor)
