"""Trains the base model: Muon for the matrices, AdamW for the rest, warm-up and a cosine down."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch.nn import functional
from transformers import AttentionInterface, GraniteForCausalLM

from training.base_model import best_device
from training.corpus import Ids, Weights
from training.muon import Muon
from training.rounding import as_rounded, projections, round_all

_log = logging.getLogger(__name__)
_MOMENTUM = (0.9, 0.95)
_COMPILING_STEPS = 2


@dataclass(frozen=True)
class Schedule:
    """How a phase is trained.

    Attributes:
        steps: How many optimizer steps.
        rate: The highest learning rate.
        tokens_per_step: How much each step reads.
        rounds: The share of the steps, the last ones, that read with matrices rounded to four bits; then they are
            rounded for good.
        seconds: A limit on the time; where it binds, the schedule is shortened and the result depends on the machine.
        seed: Of the windows' order.
    """

    steps: int
    rate: float
    tokens_per_step: int = 65_536
    rounds: float = 0.0
    seconds: float = math.inf
    seed: int = 1


def _causal_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Causal attention without a mask tensor.

    Under torch.compile, transformers cannot see that no mask is needed and builds one, which rules out the fast
    kernels. An implementation that it knows no mask for is left alone.
    """
    output = functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=True)
    return output.transpose(1, 2).contiguous(), None


def _optimizers(
    model: GraniteForCausalLM, matrices: list[torch.nn.Parameter], rate: float, fused: bool
) -> list[torch.optim.Optimizer]:
    taken = {id(parameter) for parameter in matrices}
    others = [p for p in model.parameters() if id(p) not in taken]
    adam = torch.optim.AdamW(others, lr=rate, betas=_MOMENTUM, weight_decay=0.0, fused=fused)
    return [Muon(matrices, lr=rate), adam]


def _rate_factor(progress: float, step: int, warm_up: int) -> float:
    """Warm-up, then a cosine down to a fiftieth."""
    return min(1.0, (step + 1) / warm_up) * (0.02 + 0.49 * (1.0 + math.cos(math.pi * min(1.0, progress))))


class _Reader:
    """Reads batches of windows and leaves gradients behind."""

    def __init__(self, model: GraniteForCausalLM) -> None:
        self._model = model
        self._device = model.device.type
        self._loss = torch.compile(self._loss_of) if self._device == "cuda" else self._loss_of

    def _loss_of(self, tokens: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        logits = self._model(input_ids=tokens, use_cache=False).logits
        losses = functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
        return (losses * weights.flatten()).sum() / weights.sum()

    def backward(self, tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """The loss, weighted token by token; tokens and weights are [windows, length]."""
        with torch.autocast(self._device, dtype=torch.bfloat16, enabled=self._device == "cuda"):
            loss = self._loss(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), weights[:, 1:].contiguous())
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()


Windows = tuple[torch.Tensor, torch.Tensor]


def _shuffled(windows: Windows, per_step: int) -> Iterator[Windows]:
    ids, weights = windows
    order = torch.randperm(len(ids), device=ids.device)
    if len(ids) < per_step:
        order = torch.randint(len(ids), (per_step,), device=ids.device)
    for chosen in order[: len(order) // per_step * per_step].view(-1, per_step):
        yield ids[chosen].long(), weights[chosen].float()


def _batches(shards: Iterable[tuple[Ids, Weights]], per_step: int, device: torch.device) -> Iterator[Windows]:
    """Every shard as it is written, so that nobody waits for the last one; then all of them, over and over."""
    read: list[Windows] = []
    for ids, weights in shards:
        read.append((torch.from_numpy(ids).to(device), torch.from_numpy(weights).to(device)))
        yield from _shuffled(read[-1], per_step)
    corpus = torch.cat([ids for ids, _ in read]), torch.cat([weights for _, weights in read])
    learned = (corpus[1] > 0).float().mean()
    _log.info("corpus: %.1f M tokens, %.3f of them learned", corpus[0].numel() / 1e6, learned)
    while True:
        yield from _shuffled(corpus, per_step)


def train_base(
    model: GraniteForCausalLM, shards: Iterable[tuple[Ids, Weights]], length: int, schedule: Schedule
) -> None:
    """Trains the base model.

    Args:
        model: New, or trained before.
        shards: The corpus, part by part, in windows of `length` tokens.
        length: Of the windows.
        schedule: How to train.
    """
    torch.manual_seed(schedule.seed)
    device = best_device()
    torch.set_float32_matmul_precision("high")
    AttentionInterface.register("causal", _causal_attention)
    model.to(device)  # type: ignore[arg-type]
    model.train(True)
    model.set_attn_implementation("causal")
    reader, per_step = _Reader(model), max(1, schedule.tokens_per_step // length)
    matrices = projections(model)
    optimizers = _optimizers(model, matrices, schedule.rate, fused=device.type == "cuda")
    started = math.nan
    for step, (ids, weights) in enumerate(_batches(shards, per_step, device)):
        # The first steps compile the model: the clock starts after them.
        started = time.monotonic() if step <= _COMPILING_STEPS else started
        elapsed = time.monotonic() - started
        progress = max(step / schedule.steps, elapsed / schedule.seconds)
        if progress >= 1.0:
            break
        factor = _rate_factor(progress, step, warm_up=max(1, min(300, schedule.steps // 10)))
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = schedule.rate * factor
        with as_rounded(matrices) if progress >= 1.0 - schedule.rounds else nullcontext():
            loss = reader.backward(ids, weights)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad(set_to_none=True)
        if step % 250 == 0 or step == schedule.steps - 1:
            speed = step * per_step * length / max(elapsed, 1e-9) / 1e6
            _log.info("step %d loss %.4f, %.0f s, %.2f M tokens/s", step, loss.item(), elapsed, speed)
    if schedule.rounds:
        round_all(matrices)
    model.train(False)
