"""Sampling from, and scoring with, the base model, in large batches of texts of like length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from transformers import GraniteForCausalLM

_TOKENS_PER_BATCH = 65_536


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
def sample(
    model: GraniteForCausalLM,
    prompts: Sequence[Sequence[int]],
    end: int,
    limit: int,
    temperature: float = 1.0,
    seed: int = 1,
) -> list[list[int]]:
    """Continues every prompt until `end` or `limit` tokens; a temperature of 0 takes the likeliest token."""
    generator = torch.Generator(model.device).manual_seed(seed)
    replies: list[list[int]] = [[] for _ in prompts]
    for group in batches([len(prompt) + limit for prompt in prompts]):
        ids = padded([prompts[i] for i in group], model.device, end)
        ids = torch.cat([ids, torch.full((len(group), limit), end, device=ids.device)], dim=1)
        at = torch.tensor([len(prompts[i]) for i in group], device=ids.device)
        rows = torch.arange(len(group), device=ids.device)
        for _ in range(limit):
            with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=model.device.type == "cuda"):
                hidden = model.model(input_ids=ids[:, : int(at.max())], use_cache=False).last_hidden_state
                logits = model.lm_head(hidden[rows, at - 1]).float() / model.config.logits_scaling
            if temperature > 0:
                choice = torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=generator)[:, 0]
            else:
                choice = logits.argmax(-1)
            ids[rows, at] = choice
            at = at + 1
        drawn = ids.tolist()
        for row, i in enumerate(group):
            tail = drawn[row][len(prompts[i]) : len(prompts[i]) + limit]
            replies[i] = tail[: tail.index(end)] if end in tail else tail
    return replies
