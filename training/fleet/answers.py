"""What a fleet says: shares of the labels, and written completions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from training.examples import Rows
from training.fleet.batches import DeviceRows
from training.fleet.group import Suffixes, read_prefix
from training.fleet.train import Fleet

_ROWS, _TOKENS = 256, 65_536


@torch.inference_mode()
def label_shares(fleet: Fleet, rows: Rows) -> npt.NDArray[np.float32]:
    """The labels' probabilities where the answer begins, of their first tokens, renormalised.

    Args:
        fleet: Whom to ask; their completions begin with a token for each label.
        rows: The conversations; their `labels` are the choice.

    Returns:
        [members, rows, labels].
    """
    granite, there = fleet.granite, DeviceRows(rows, fleet.granite.device)
    suffixes = [Suffixes(group.members, rows.labels, granite.device) for group in fleet.groups]
    found = np.zeros((len(fleet.members), len(rows), len(rows.labels)), dtype=np.float32)
    for batch in there.in_order(_ROWS, _TOKENS):
        prefix = read_prefix(granite, batch) if fleet.any_late() else None
        shares = []
        for group, own in zip(fleet.groups, suffixes, strict=True):
            read = own.read[:, :1].expand(-1, len(batch.rows), -1)
            hidden = group.hidden(granite, batch, group.suffix(batch, read), prefix)
            for position, member in enumerate(group.members):
                firsts = own.written[position, :, member.appended]
                if len(firsts.unique()) < len(rows.labels):
                    raise ValueError(f"{member.name}: completions begin with the same token; let them be written")
                logits = granite.logits(hidden[position, :, member.appended])[:, firsts]
                shares.append(torch.softmax(logits, -1)[None])
        found[:, batch.rows] = fleet.in_order(shares).cpu().numpy()
    return found


@torch.inference_mode()
def completions(fleet: Fleet, rows: Rows, end: int, limit: int) -> list[list[list[int]]]:
    """What every member writes, the likeliest token each time, up to `end`, which is left out, or `limit` tokens.

    Returns:
        For each member, for each row, the ids.
    """
    granite, there = fleet.granite, DeviceRows(rows, fleet.granite.device)
    found: dict[str, list[list[int]]] = {member.name: [[] for _ in range(len(rows))] for member in fleet.members}
    for batch in there.in_order(_ROWS, _TOKENS):
        prefix = read_prefix(granite, batch) if fleet.any_late() else None
        for group in fleet.groups:
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
                if done.all():
                    break
            for g, member in enumerate(group.members):
                for row, ids in zip(batch.rows, suffix[g, :, 1 + appended[g] :].tolist(), strict=True):
                    ids = ids[:limit]
                    found[member.name][row] = ids[: ids.index(end)] if end in ids else ids
    return [found[member.name] for member in fleet.members]
