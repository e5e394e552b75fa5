"""Trains `safety` as it was trained for the shipped files: on a CPU, in about six minutes.

    python -m training.safety_on_cpu --data DATA --base build/bundled/base --out build/bundled/safety

The base reads every conversation once and its KV cache is kept; a step then costs the invocation's rows alone.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model
from torch.nn import functional
from transformers import DynamicCache, GraniteForCausalLM

from training.examples import Row, rows_of
from training.intrinsics import alora_config
from training.io_formats import write_io
from training.scoring import batches, padded
from training.tasks import LABELS, SafetyExamples
from training.tokenizer import Encoder, load_tokenizer


@torch.no_grad()
def read_all(reader: GraniteForCausalLM, rows: Sequence[Row]) -> list[torch.Tensor]:
    """Each row's KV cache, float16 [layers, 2, heads, tokens, width]."""
    kept: list[torch.Tensor] = [torch.empty(0)] * len(rows)
    for group in batches([len(row.ids) for row in rows], 12_288):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            ids = padded([rows[i].ids for i in group], reader.device)
            cache = reader.model(input_ids=ids, use_cache=True).past_key_values
        for place, i in enumerate(group):
            n = len(rows[i].ids)
            layers = [torch.stack([one.keys[place, :, :n], one.values[place, :, :n]]) for one in cache.layers]
            kept[i] = torch.stack(layers).half()
    return kept


def answer_logits(adapted: PeftModel, invocation: Sequence[int], caches: Sequence[torch.Tensor]) -> torch.Tensor:
    """Logits after the invocation, for conversations whose caches are given."""
    length, width = len(invocation), max(cache.shape[3] for cache in caches)
    past = torch.zeros(len(caches), *caches[0].shape[:3], width, caches[0].shape[4])
    mask = torch.zeros(len(caches), width + length, dtype=torch.long)
    positions = torch.zeros(len(caches), length, dtype=torch.long)
    for place, cache in enumerate(caches):
        n = cache.shape[3]
        past[place, ..., width - n :, :] = cache
        mask[place, width - n :] = 1
        positions[place] = torch.arange(n, n + length)
    held = DynamicCache()
    for layer in range(past.shape[1]):
        held.update(past[:, layer, 0], past[:, layer, 1], layer)
    logits: torch.Tensor = adapted(
        input_ids=torch.tensor([list(invocation)] * len(caches)),
        attention_mask=mask,
        position_ids=positions,
        past_key_values=held,
        use_cache=True,
        alora_offsets=[length] * len(caches),
        logits_to_keep=1,
    ).logits[:, -1]
    return logits.float()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--examples", type=int, default=15_000)
    parser.add_argument("--steps", type=int, default=800)
    options = parser.parse_args()
    encode = Encoder(load_tokenizer(options.base))
    examples = list(islice(SafetyExamples("train cpu", options.data, held_out=False), options.examples))
    rows = rows_of(examples, "safety", encode)
    caches = read_all(GraniteForCausalLM.from_pretrained(options.base, dtype=torch.float32).eval(), rows)
    invocation, rate, size = encode.invocation("safety"), 2e-3, 96
    base = GraniteForCausalLM.from_pretrained(options.base, dtype=torch.float32)
    adapted = get_peft_model(base, alora_config(invocation))
    parameters = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.1)
    label_ids = torch.tensor([encode(label)[0] for label in LABELS["safety"]])
    shuffler, order = random.Random(0), sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
    adapted.train()
    for step in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50) * max(0.02, 1.0 - step / options.steps)
        start = max(0, shuffler.randrange(-size * 3, len(order) - size))  # rows of like length
        chosen = shuffler.sample(order[start : start + size * 4], size)
        labels = label_ids[torch.tensor([rows[i].label for i in chosen])]
        logits = answer_logits(adapted, invocation, [caches[i] for i in chosen])
        loss = functional.cross_entropy(logits, labels, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step} loss {loss.item():.3f}")
    adapted.peft_config["default"].base_model_name_or_path = "alora-tiny"
    adapted.save_pretrained(options.out, save_embedding_layers=False)
    write_io("safety", options.out)


if __name__ == "__main__":
    main()
