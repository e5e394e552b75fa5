"""What a fleet says: shares of the labels, and written completions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from training.examples import Rows
from training.fleet.batches import DeviceRows
from training.fleet.group import Group, Suffixes, read_prefix
from training.fleet.train import Fleet

_ROWS, _TOKENS = 256, 65_536


@torch.inference_mode()
def label_shares(fleet: Fleet, names: Sequence[str], rows: Rows) -> npt.NDArray[np.float32]:
    """The labels' probabilities where the answer begins, of their first tokens, renormalised.

    Args:
        fleet: The trained members.
        names: Whom to ask; their completions begin with a token for each label.
        rows: The conversations; their `labels` are the choice.

    Returns:
        [names, rows, labels].
    """
    granite, there = fleet.granite, DeviceRows(rows, fleet.granite.device)
    asked = _asked(fleet, names)
    suffixes = [Suffixes(group.members, rows.labels, granite.device) for group, _ in asked]
    found = {name: np.zeros((len(rows), len(rows.labels)), dtype=np.float32) for name in names}
    for batch in there.in_order(_ROWS, _TOKENS):
        prefix = read_prefix(granite, batch) if fleet.any_late() else None
        for (group, chosen), own in zip(asked, suffixes, strict=True):
            read = own.read[:, :1].expand(-1, len(batch.rows), -1)
            hidden = group.hidden(granite, batch, group.suffix(batch, read), prefix)
            for position in chosen:
                member = group.members[position]
                firsts = own.written[position, :, member.appended]
                if len(firsts.unique()) < len(rows.labels):
                    raise ValueError(f"{member.name}: completions begin with the same token; let them be written")
                logits = granite.logits(hidden[position, :, member.appended])[:, firsts]
                found[member.name][batch.rows] = torch.softmax(logits, -1).cpu().numpy()
    return np.stack([found[name] for name in names])


def _asked(fleet: Fleet, names: Sequence[str]) -> list[tuple[Group, list[int]]]:
    """Groups with the positions of those of their members that are asked; groups of nobody are left out."""
    pairs = [(group, [g for g, member in enumerate(group.members) if member.name in names]) for group in fleet.groups]
    return [(group, chosen) for group, chosen in pairs if chosen]


@torch.inference_mode()
def completions(fleet: Fleet, names: Sequence[str], rows: Rows, end: int, limit: int) -> list[list[list[int]]]:
    """What some members write, the likeliest token each time, up to `end`, which is left out, or `limit` tokens.

    Returns:
        For each name, for each row, the ids.
    """
    granite, there = fleet.granite, DeviceRows(rows, fleet.granite.device)
    found: dict[str, list[list[int]]] = {name: [[] for _ in range(len(rows))] for name in names}
    for batch in there.in_order(_ROWS, _TOKENS):
        prefix = read_prefix(granite, batch) if fleet.any_late() else None
        for group, chosen in _asked(fleet, names):
            appended = [member.appended for member in group.members]
            read = torch.zeros(len(appended), len(batch.rows), 1 + max(appended) + limit, dtype=torch.long)
            for g, member in enumerate(group.members):
                read[g, :, 1 : 1 + appended[g]] = torch.tensor(member.invocation, dtype=torch.long)
            suffix = group.suffix(batch, read.to(granite.device))
            done = torch.zeros(suffix.shape[:2], dtype=torch.bool, device=suffix.device)
            for step in range(limit):
                hidden = group.hidden(granite, batch, suffix[:, :, : 1 + max(appended) + step], prefix)
                for g, last in enumerate(appended):
                    suffix[g, :, last + step + 1] = granite.logits(hidden[g, :, last + step]).argmax(-1)
                    done[g] |= suffix[g, :, last + step + 1] == end
                if done[chosen].all():
                    break
            for g in chosen:
                for row, ids in zip(batch.rows, suffix[g, :, 1 + appended[g] :].tolist(), strict=True):
                    ids = ids[:limit]
                    found[group.members[g].name][row] = ids[: ids.index(end)] if end in ids else ids
    return [found[name] for name in names]
