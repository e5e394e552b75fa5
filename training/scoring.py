"""Writing with, and scoring with, the base model, in large batches of texts of like length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache, GraniteForCausalLM

_TOKENS_PER_BATCH = 65_536
# Writing goes token by token, so on an accelerator only many rows at once keep it busy.
_WRITTEN_PER_BATCH = {"cuda": 524_288}


@dataclass(frozen=True)
class Written:
    """What a model wrote: token ids without the end, and the log-probability that it gave to each."""

    ids: list[int]
    scores: list[float]


def batches(lengths: Sequence[int], tokens: int = _TOKENS_PER_BATCH, most: int = 4096) -> Iterator[list[int]]:
    """Groups positions so that no batch, padded to its longest member, has more than `tokens` tokens or `most` rows."""
    group: list[int] = []
    for position in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if group and ((len(group) + 1) * lengths[position] > tokens or len(group) == most):
            yield group
            group = []
        group.append(position)
    if group:
        yield group


def padded(rows: Sequence[Sequence[int]], device: torch.device, fill: int = 0) -> torch.Tensor:
    """Rows as one tensor, filled up on the right, where causal attention never looks back from."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], device=device)


@torch.inference_mode()
def log_probabilities(model: GraniteForCausalLM, texts: Sequence[Sequence[int]], starts: Sequence[int]) -> list[float]:
    """For every text, the log-probability of its tokens from `start` on, given those before."""
    found = [0.0] * len(texts)
    for group in batches([len(text) for text in texts]):
        ids = padded([texts[i] for i in group], model.device)
        with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=model.device.type == "cuda"):
            logits = model(input_ids=ids, use_cache=False).logits
        token_scores = torch.log_softmax(logits[:, :-1].float(), -1).gather(2, ids[:, 1:, None])[..., 0].cpu()
        for row, i in enumerate(group):
            found[i] = float(token_scores[row, starts[i] - 1 : len(texts[i]) - 1].sum())
    return found


@torch.inference_mode()
def write(
    model: GraniteForCausalLM,
    prompts: Sequence[Sequence[int]],
    end: int,
    limit: int,
    temperature: float = 1.0,
    seed: int = 1,
) -> list[Written]:
    """Continues every prompt until `end` or `limit` tokens; a temperature of 0 takes the likeliest token."""
    generator = torch.Generator(model.device).manual_seed(seed)
    written = [Written([], []) for _ in prompts]
    tokens = _WRITTEN_PER_BATCH.get(model.device.type, _TOKENS_PER_BATCH)
    for group in batches([len(prompt) + limit for prompt in prompts], tokens):
        ids, scores = _write_batch(model, [prompts[i] for i in group], end, limit, temperature, generator)
        for i, row, row_scores in zip(group, ids.tolist(), scores.tolist(), strict=True):
            length = row.index(end) if end in row else len(row)
            written[i] = Written(row[:length], row_scores[:length])
    return written


def _write_batch(
    model: GraniteForCausalLM,
    prompts: Sequence[Sequence[int]],
    end: int,
    limit: int,
    temperature: float,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and log-probabilities, [rows, at most `limit`]; what follows a row's `end` means nothing.

    Prompts are filled up on the left, so that all rows write at the same place of the cache.
    """
    device, width = model.device, max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[end] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    seen = (torch.arange(width, device=device)[None, :] >= width - lengths[:, None]).long()
    places = (seen.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    chosen_ids, chosen_scores = [], []
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    for _ in range(limit):
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            logits = model(
                input_ids=ids,
                attention_mask=seen,
                position_ids=places,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
        scores = torch.log_softmax(logits.float(), -1)
        if temperature > 0:
            shares = torch.softmax(logits.float() / temperature, -1)
            ids = torch.multinomial(shares, 1, generator=generator)
        else:
            ids = scores.argmax(-1, keepdim=True)
        chosen_ids.append(ids)
        chosen_scores.append(scores.gather(1, ids))
        ended |= ids[:, 0] == end
        if bool(ended.all()):
            break
        seen = torch.cat([seen, torch.ones_like(ids)], dim=1)
        places = places[:, -1:] + 1
    return torch.cat(chosen_ids, dim=1), torch.cat(chosen_scores, dim=1)
