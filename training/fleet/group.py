"""Members of one kind, computed together.

Everything that follows a conversation is a *suffix*: its token 0 is the conversation's own last token, then come the
invocation and the completion. An aLoRA governs nothing before its suffix, so the rest is read once for all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from training.fleet.adapters import Adapters
from training.fleet.batches import Batch
from training.fleet.granite import Granite, Prefix, angles, run_layer
from training.fleet.member import Member

_NOTHING = -100  # a target that is not learned


class Suffixes:
    """What each member reads and writes after a conversation, for every label of a data set.

    Attributes:
        read: [G, labels, S], ids; token 0 is a placeholder.
        written: [G, labels, S], the id to predict after each, or -100.
        answers: For each member, where its completions are predicted.
    """

    def __init__(self, members: Sequence[Member], labels: Sequence[str], device: torch.device) -> None:
        completions = [[list(member.complete(label)) for label in labels] for member in members]
        longest = max(
            member.appended + max(len(ids) for ids in own) for member, own in zip(members, completions, strict=True)
        )
        read = torch.zeros(len(members), len(labels), longest, dtype=torch.long)
        written = torch.full_like(read, _NOTHING)
        for g, (member, own) in enumerate(zip(members, completions, strict=True)):
            for position, ids in enumerate(own):
                after = [*member.invocation, *ids]
                read[g, position, 1 : len(after)] = torch.tensor(after[:-1], dtype=torch.long)
                written[g, position, member.appended : len(after)] = torch.tensor(ids)
        self.read, self.written = read.to(device), written.to(device)
        self.answers = [
            slice(member.appended, member.appended + max(len(ids) for ids in own))
            for member, own in zip(members, completions, strict=True)
        ]


class Group:
    """Members of one kind with their adapters."""

    def __init__(self, granite: Granite, members: Sequence[Member]) -> None:
        if len({member.kind for member in members}) != 1:
            raise ValueError("a group holds members of one kind, LoRA or aLoRA")
        self.members = list(members)
        self.late = members[0].kind == "alora"
        self.adapters = Adapters(granite, members)

    def suffix(self, batch: Batch, read: Tensor) -> Tensor:
        """The suffix [G, N, S] with each conversation's last token in its place; `read` is [G, N, S]."""
        last = batch.ids.gather(1, batch.lengths[:, None] - 1)[:, 0]
        return torch.cat([last.expand(len(self.members), -1)[:, :, None], read[:, :, 1:]], 2)

    def hidden(self, granite: Granite, batch: Batch, suffix: Tensor, prefix: Sequence[Prefix] | None) -> Tensor:
        """Hidden states [G, N, S, D] of the suffix after the last layer.

        Args:
            granite: The base model.
            batch: The conversations.
            suffix: From `suffix`.
            prefix: From `read_prefix`, for aLoRAs.
        """
        length = suffix.shape[2]
        positions = batch.lengths[:, None] - 1 + torch.arange(length, device=suffix.device)
        if self.late:
            if prefix is None:
                raise ValueError("aLoRAs need the conversations read before: pass what read_prefix gives")
            return self._late(granite, batch, suffix, positions, prefix)
        whole = torch.nn.functional.pad(batch.ids, (0, length)).expand(len(self.members), -1, -1)
        x = granite.embed(whole.scatter(2, positions.expand_as(suffix), suffix))
        turning = angles(granite.shape, torch.arange(x.shape[2], device=x.device)[None, :])
        for number, layer in enumerate(granite.layers):
            x, _ = run_layer(granite.shape, layer, x, turning, self.adapters.layer(number))
        return x.gather(2, positions[None, :, :, None].expand(len(x), -1, -1, x.shape[3]))

    def _late(
        self, granite: Granite, batch: Batch, suffix: Tensor, positions: Tensor, prefix: Sequence[Prefix]
    ) -> Tensor:
        count, _, length = suffix.shape
        at = torch.arange(length, device=suffix.device)
        first = torch.tensor([member.first_governed for member in self.members], device=suffix.device)
        governed = at >= first[:, None]
        own = torch.block_diag(*[torch.ones(length, length, device=suffix.device).tril()] * count).bool()
        before = torch.arange(prefix[0].keys.shape[2], device=suffix.device) < batch.lengths[:, None] - 1
        seen = torch.cat([before[:, None, :].expand(-1, count * length, -1), own.expand(len(before), -1, -1)], 2)
        visible = seen.repeat(1, granite.shape.heads // granite.shape.key_value_heads, 1)[:, None]
        x, turning = granite.embed(suffix), angles(granite.shape, positions)
        for number, layer in enumerate(granite.layers):
            adapters = self.adapters.layer(number)
            x, _ = run_layer(granite.shape, layer, x, turning, adapters, governed, (prefix[number], visible))
        return x

    def losses(self, granite: Granite, batch: Batch, suffixes: Suffixes, prefix: Sequence[Prefix] | None) -> Tensor:
        """Each member's loss [G]: the completion's cross-entropy over the vocabulary, a conversation's mean."""
        written = suffixes.written[:, batch.labels]
        hidden = self.hidden(granite, batch, self.suffix(batch, suffixes.read[:, batch.labels]), prefix)
        found = []
        for g, member in enumerate(self.members):
            targets = written[g, :, suffixes.answers[g]]
            scores = torch.log_softmax(granite.logits(hidden[g, :, suffixes.answers[g]]), -1)
            gained = scores.gather(2, targets.clamp(min=0)[..., None])[..., 0]
            if member.ordered:
                firsts = suffixes.written[g, :, member.appended]
                shares = neighbours(len(firsts), scores.device)[batch.labels]
                gained = torch.cat([(scores[:, 0, firsts] * shares).sum(-1, keepdim=True), gained[:, 1:]], 1)
            found.append(-torch.where(targets != _NOTHING, gained, 0.0).sum(1).mean())
        return torch.stack(found)


def neighbours(count: int, device: torch.device) -> Tensor:
    """For each of some ordered labels, the shares to aim for [labels, labels]: a neighbour is nearly right."""
    steps = torch.arange(count, device=device).float()
    return torch.softmax(-((steps[:, None] - steps[None, :]) ** 2) / 0.5, dim=-1)


@torch.no_grad()
def read_prefix(granite: Granite, batch: Batch) -> list[Prefix]:
    """What the base alone makes of the conversations: every layer's keys and values."""
    x = granite.embed(batch.ids)[None]
    turning = angles(granite.shape, torch.arange(x.shape[2], device=x.device)[None, :])
    read = []
    for layer in granite.layers:
        x, prefix = run_layer(granite.shape, layer, x, turning)
        read.append(prefix)
    return read
