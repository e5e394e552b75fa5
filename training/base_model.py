"""The base model: a Granite of seven million parameters, trained from scratch."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch.nn import functional
from transformers import AttentionInterface, GraniteConfig, GraniteForCausalLM, PreTrainedTokenizerFast

from training.corpus import Ids, Weights
from training.tokenizer import CONTEXT_LENGTH

_log = logging.getLogger(__name__)


def granite_config(tokenizer: PreTrainedTokenizerFast) -> GraniteConfig:
    """The shape. Every multiplier differs from 1, so that whoever runs the model must apply them all."""
    end_of_text = tokenizer.eos_token_id
    return GraniteConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT_LENGTH,
        rms_norm_eps=1e-5,
        initializer_range=0.04,
        tie_word_embeddings=True,
        embedding_multiplier=8.0,
        attention_multiplier=0.125,
        residual_multiplier=0.5,
        logits_scaling=2.0,
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
        pad_token_id=end_of_text,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )


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


def best_device() -> torch.device:
    """An accelerator, where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_model(base: Path) -> GraniteForCausalLM:
    """A trained base model, in 32 bits, for reading."""
    model = GraniteForCausalLM.from_pretrained(base, dtype=torch.float32)
    model.to(best_device())  # type: ignore[arg-type]
    model.train(False)
    return model


def _optimizer(model: torch.nn.Module, rate: float, fused: bool) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), fused=fused)


def _rate_factor(progress: float, step: int, warm_up: int) -> float:
    """Warm-up, then a cosine down to a fiftieth."""
    return min(1.0, (step + 1) / warm_up) * (0.02 + 0.49 * (1.0 + math.cos(math.pi * min(1.0, progress))))


def train_base(
    model: GraniteForCausalLM,
    write: Callable[[], tuple[Ids, Weights]],
    steps: int,
    rate: float,
    windows_per_step: int = 32,
    seconds: float = math.inf,
    seed: int = 1,
) -> None:
    """Trains the base model.

    Args:
        model: New, or trained before.
        write: Writes the corpus; meanwhile the model is compiled.
        steps: How many optimizer steps.
        rate: The highest learning rate.
        windows_per_step: How many windows each step sees.
        seconds: A limit on the time; where it binds, the schedule is shortened and the result depends on the machine.
        seed: Of the windows' order.
    """
    torch.manual_seed(seed)
    device = best_device()
    torch.set_float32_matmul_precision("high")
    AttentionInterface.register("causal", _causal_attention)
    model.to(device)  # type: ignore[arg-type]
    model.train(True)
    model.set_attn_implementation("causal")
    optimizer = _optimizer(model, rate, fused=device.type == "cuda")

    def loss_of(tokens: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        logits = model(input_ids=tokens, use_cache=False).logits
        losses = functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
        return (losses * weights.flatten()).sum() / weights.sum()

    compiled = torch.compile(loss_of) if device.type == "cuda" else loss_of

    def backward(tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = compiled(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), weights[:, 1:].contiguous())
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    with ThreadPoolExecutor(1) as executor:
        writing = executor.submit(write)
        if device.type == "cuda":
            blank = torch.ones((windows_per_step, CONTEXT_LENGTH), dtype=torch.long, device=device)
            backward(blank, blank.float())
            optimizer.zero_grad(set_to_none=True)
        corpus = writing.result()
    ids, weights = (torch.from_numpy(part).to(device) for part in corpus)
    _log.info("corpus: %.1f M tokens, %.3f of them learned", ids.numel() / 1e6, (corpus[1] > 0).mean())

    started, order, position = time.monotonic(), torch.randperm(len(ids), device=device), 0
    for step in range(steps):
        if position + windows_per_step > len(order):
            order, position = torch.randperm(len(ids), device=device), 0
        chosen = order[position : position + windows_per_step]
        position += windows_per_step
        progress = max(step / steps, (time.monotonic() - started) / seconds)
        for group in optimizer.param_groups:
            group["lr"] = rate * _rate_factor(progress, step, warm_up=max(1, min(300, steps // 10)))
        loss = backward(ids[chosen].long(), weights[chosen].float())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 250 == 0 or step == steps - 1:
            elapsed = time.monotonic() - started
            speed = (step + 1) * windows_per_step * CONTEXT_LENGTH / elapsed / 1e6
            _log.info("step %d loss %.4f, %.0f s, %.2f M tokens/s", step, loss.item(), elapsed, speed)
        if progress >= 1.0:
            break
    model.train(False)
