"""What a model with an adapter says where the answer is to be.

Up to an aLoRA's activation, the base alone computes: it is read once, without gradients, into a KV cache, and only the
governed tokens are computed with the adapter over it. This is what PEFT computes over whole texts, at a fraction of the
time and memory. Where a layer keeps something else than keys and values of all positions (a window of them, or a
state), whole texts are read.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from alora_cpp.train.batches import Batch


def has_plain_cache(model: PreTrainedModel) -> bool:
    """Whether every layer of a model keeps keys and values of all positions, and nothing else."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)


def answer_logits(model: PeftModel, batch: Batch, *, over_cache: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the logits of all answers' tokens.

    Args:
        model: The base with its adapter.
        batch: The examples.
        over_cache: Whether the base reads up to the activation on its own. Only for an aLoRA over a base with
            `has_plain_cache`.

    Returns:
        Logits [tokens of all answers, vocabulary], float32, and the tokens that are there, row by row.
    """
    logits, targets = _over_cache(model, batch) if over_cache else _over_texts(model, batch)
    wanted = targets >= 0
    return logits[wanted].float(), targets[wanted]


def token_weights(batch: Batch) -> torch.Tensor:
    """How much each token of the answers counts, in the order of `answer_logits`."""
    return batch.weights.repeat_interleave((batch.targets >= 0).sum(1))


def _over_texts(model: PeftModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    width = batch.ids.shape[1]
    mask = (torch.arange(width, device=batch.ids.device) < batch.lengths[:, None]).long()
    columns = (batch.targets >= 0).any(0).nonzero()[:, 0]
    offsets: dict[str, Any] = {}
    if model.peft_config["default"].alora_invocation_tokens:
        offsets["alora_offsets"] = [width - at for at in batch.activations]
    output = model(input_ids=batch.ids, attention_mask=mask, use_cache=False, logits_to_keep=columns, **offsets)
    return output.logits, batch.targets[:, columns]


def _over_cache(model: PeftModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Conversations end at different places; each is filled up, and what fills it is masked."""
    device = batch.ids.device
    begins = torch.tensor(batch.activations, device=device)
    n_read, n_governed = int(begins.max()), int((batch.lengths - begins).max())
    positions = begins[:, None] + torch.arange(n_governed, device=device)
    there = positions < batch.lengths[:, None]
    inside = positions.clamp(max=batch.ids.shape[1] - 1)
    ids = batch.ids.gather(1, inside)
    targets = batch.targets.gather(1, inside).masked_fill(~there, -100)
    read = torch.arange(n_read, device=device) < begins[:, None]
    output = model(
        input_ids=ids,
        attention_mask=torch.cat([read, there], 1).long(),
        position_ids=positions,
        past_key_values=_read(model, batch.ids[:, :n_read], read),
        use_cache=True,
        alora_offsets=[n_governed] * len(ids),
    )
    return output.logits, targets


def _read(model: PeftModel, ids: torch.Tensor, mask: torch.Tensor) -> Cache | None:
    """What the base alone keeps of the conversations."""
    if not ids.shape[1]:
        return None
    base = model.get_base_model()
    cache = DynamicCache(config=base.config)
    # Without offsets PEFT would leave the adapter out, too, but not before it has looked where it is to act.
    with torch.no_grad(), model.disable_adapter():
        base.base_model(input_ids=ids, attention_mask=mask.long(), past_key_values=cache, use_cache=True)
    return cache
