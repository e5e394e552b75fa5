"""Trains an intrinsic: an aLoRA adapter, with PEFT, over the frozen base model.

The conversation is read by the base alone, once and without gradients, into a KV cache; the adapter governs the
tokens from the invocation on, and the label is the very next token. That is how an aLoRA is used, and training it
the same way costs a fraction of running PEFT over whole texts. `predict` does run PEFT over whole texts, so the
figures it gives would show any difference between the two.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import DynamicCache, GraniteForCausalLM

from training.base_model import best_device, load_model
from training.examples import Row, rows_of
from training.io_formats import write_io
from training.scoring import batches, padded
from training.tasks import LABELS, Example
from training.tokenizer import Encoder, load_tokenizer

BASE_NAME = "alora-tiny"
_log = logging.getLogger(__name__)


def alora_config(invocation: list[int]) -> LoraConfig:
    """The paper's setting: rank 32 on query, key and value."""
    return LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=32,
        lora_alpha=32,
        lora_dropout=0.05,
        target_modules=["q_proj", "k_proj", "v_proj"],
        alora_invocation_tokens=invocation,
    )


def _shuffled_batches(rows: Sequence[Row], epochs: int, shuffler: random.Random, tokens: int) -> Iterator[list[Row]]:
    """Batches of like length, drawn from random pools, so that no two epochs group rows alike."""
    for _ in range(epochs):
        order = shuffler.sample(range(len(rows)), len(rows))
        for start in range(0, len(order), 4096):
            pool = [rows[i] for i in order[start : start + 4096]]
            groups = list(batches([len(row.ids) for row in pool], tokens, most=256))
            for group in shuffler.sample(groups, len(groups)):
                yield [pool[i] for i in group]


def _targets(name: str, device: torch.device) -> torch.Tensor:
    """For each label, the shares to aim for. Steps of certainty are ordered: a neighbour is nearly right."""
    count = len(LABELS[name])
    if name != "certainty":
        return torch.eye(count, device=device)
    steps = torch.arange(count, device=device).float()
    return torch.softmax(-((steps[:, None] - steps[None, :]) ** 2) / 1.5, dim=-1)


def _answer_logits(
    reader: GraniteForCausalLM, adapted: PeftModel, rows: Sequence[Row], invocation: list[int]
) -> torch.Tensor:
    """Logits after the invocation, for conversations that the base has read."""
    device = reader.device
    width, length = max(len(row.ids) for row in rows), len(invocation)
    with torch.no_grad():
        cache = DynamicCache(config=reader.config)
        reader.model(input_ids=padded([row.ids for row in rows], device), past_key_values=cache, use_cache=True)
    lengths = torch.tensor([len(row.ids) for row in rows], device=device)
    seen = torch.arange(width, device=device)[None, :] < lengths[:, None]
    causal = torch.ones((length, length), dtype=torch.bool, device=device).tril()
    mask = torch.cat(
        [seen[:, None, None, :].expand(-1, 1, length, -1), causal.expand(len(rows), 1, length, length)], dim=-1
    )
    output = adapted(
        input_ids=torch.tensor([invocation] * len(rows), device=device),
        position_ids=lengths[:, None] + torch.arange(length, device=device)[None, :],
        attention_mask=mask,
        past_key_values=cache,
        use_cache=True,
        alora_offsets=[length] * len(rows),
        logits_to_keep=1,
    )
    logits: torch.Tensor = output.logits[:, -1].float()
    return logits


def train_intrinsic(
    base: Path,
    name: str,
    rows: Sequence[Row],
    out: Path,
    rate: float = 1e-3,
    epochs: int = 4,
    tokens_per_batch: int = 65_536,
    seconds: float = math.inf,
    seed: int = 1,
) -> None:
    """Trains and saves one intrinsic.

    Args:
        base: The base model's folder.
        name: The intrinsic's name, which is also the role that invokes it.
        rows: What to learn from.
        out: The folder to save to.
        rate: The highest learning rate.
        epochs: How often to see the rows.
        tokens_per_batch: The size of a step.
        seconds: A limit on the time; where it binds, the schedule is shortened.
        seed: Of the initial weights and of the order.
    """
    torch.manual_seed(seed)
    device = best_device()
    encode = Encoder(load_tokenizer(base))
    invocation = encode.invocation(name)
    reader = load_model(base)
    adapted = get_peft_model(load_model(base), alora_config(invocation))
    parameters = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
    targets = _targets(name, device)
    label_ids = torch.tensor([encode(label)[0] for label in LABELS[name]], device=device)
    shuffler = random.Random(f"order {seed}")
    steps = sum(1 for _ in _shuffled_batches(rows, epochs, random.Random(f"order {seed}"), tokens_per_batch))
    _log.info("%s: %d examples, %d steps", name, len(rows), steps)
    adapted.train(True)
    started, shown = time.monotonic(), [0.0, 0.0]
    for step, group in enumerate(_shuffled_batches(rows, epochs, shuffler, tokens_per_batch)):
        progress = max(step / steps, (time.monotonic() - started) / seconds)
        for parameter_group in optimizer.param_groups:
            parameter_group["lr"] = rate * min(1.0, (step + 1) / 50) * max(0.01, 1.0 - progress)
        labels = torch.tensor([row.label for row in group], device=device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            logits = _answer_logits(reader, adapted, group, invocation)
        scores = torch.log_softmax(logits, -1)[:, label_ids]
        loss = -(targets[labels] * scores).sum(-1).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 20 == 0:
            right = (scores.argmax(-1) == labels).float().mean().item()
            shown = [0.8 * old + 0.2 * new for old, new in zip(shown, (loss.item(), right), strict=True)]
        if step % 200 == 0:
            spent = time.monotonic() - started
            _log.info("%s step %d of %d loss %.4f right %.3f, %.0f s", name, step, steps, *shown, spent)
        if progress >= 1.0:
            break
    adapted.peft_config["default"].base_model_name_or_path = BASE_NAME
    adapted.save_pretrained(str(out), save_embedding_layers=False)  # or PEFT looks the base up on the hub
    (out / "README.md").unlink(missing_ok=True)  # PEFT's empty card
    write_io(name, out)


@torch.inference_mode()
def predict(base: Path, adapter: Path, name: str, examples: Sequence[Example]) -> list[dict[str, float]]:
    """What the adapter says to every example, by PEFT over whole texts: probabilities of the labels, renormalised."""
    device = best_device()
    encode = Encoder(load_tokenizer(base))
    invocation = encode.invocation(name)
    model = PeftModel.from_pretrained(load_model(base), adapter)
    model.train(False)
    label_ids = [encode(label)[0] for label in LABELS[name]]
    prompts = [[*row.ids, *invocation] for row in rows_of(examples, name, encode)]
    if len(prompts) != len(examples):
        raise ValueError("a held-out example does not fit into the context")
    found: list[dict[str, float]] = [{} for _ in examples]
    for group in batches([len(prompt) for prompt in prompts], 32_768 if device.type == "cuda" else 4096):
        ids = padded([prompts[i] for i in group], device)
        last = torch.tensor([len(prompts[i]) - 1 for i in group], device=device)
        columns = torch.unique(last)
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=columns).logits
        chosen = logits[torch.arange(len(group), device=device), torch.searchsorted(columns, last)]
        shares = torch.softmax(chosen[:, label_ids].float(), -1).tolist()
        for i, row in zip(group, shares, strict=True):
            found[i] = dict(zip(LABELS[name], row, strict=True))
    return found
