"""What PEFT computes, in float32 and with plain attention."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel
from transformers.activations import GELUTanh

from oracle.cases import GENERATED, prompt_ids

# From here on ggml's GELU does not look anything up.
_TABLE_END = 10

# Where the best two tokens are closer, another order of summing may choose the other one.
_CLEAR_LEAD = 2e-3


def load_base(folder: Path) -> PreTrainedModel:
    """Loads a base model that transformers can read."""
    # One thread: on models this small, others would only wait for it.
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    # Generation always runs its full length. A None in a later GenerationConfig would not say so:
    # it means "as the model says".
    model.generation_config.eos_token_id = None
    # ggml looks GELU up in a table of 16-bit floats. Nothing else in these models is rounded.
    for module in model.modules():
        if isinstance(getattr(module, "act_fn", None), GELUTanh):
            module.act_fn = _RoundedGELU()
    return model.eval()


class _RoundedGELU(torch.nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        rounded = torch.nn.functional.gelu(values.half().float(), approximate="tanh").half().float()
        return torch.where(values.abs() < _TABLE_END, rounded, values.clamp(min=0))


def load_adapter(base: PreTrainedModel, folder: Path) -> PeftModel:
    """Puts an adapter on a base; `unload` it before the next one."""
    return PeftModel.from_pretrained(base, folder).eval()


def logits(model: PeftModel, ids: Sequence[int]) -> npt.NDArray[np.float32]:
    """Computes the logits of every position of a prompt, in one pass without a cache."""
    with torch.no_grad():
        output = model(input_ids=torch.tensor([list(ids)]), use_cache=False)
    values: npt.NDArray[np.float32] = output.logits[0].float().numpy()
    return values


def greedy(model: PeftModel, ids: Sequence[int]) -> tuple[list[int], float]:
    """Generates greedily.

    Returns:
        The tokens, and the smallest lead of a chosen token over the second best: where it is
        tiny, rounding decides, and the tokens prove nothing.
    """
    prompt = torch.tensor([list(ids)])
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=GENERATED,
        pad_token_id=2,
        return_dict_in_generate=True,
        output_logits=True,
    )
    with torch.no_grad():
        output = model.generate(input_ids=prompt, attention_mask=torch.ones_like(prompt), generation_config=config)
    best = torch.stack(output.logits)[:, 0].topk(2, dim=-1).values
    return output.sequences[0, len(ids) :].tolist(), float((best[:, 0] - best[:, 1]).min())


def clear_prompt(
    model: PeftModel, kind: str, invocation: tuple[int, ...] | None, *, seed: int = 0
) -> tuple[list[int], list[int]]:
    """Finds a prompt after which every greedily generated token is a clear choice.

    Args:
        model: The model.
        kind: One of `PROMPTS`.
        invocation: The adapter's invocation tokens.
        seed: The first one tried.

    Returns:
        The prompt, and what is generated.
    """
    for tried in range(seed, seed + 100):
        ids = prompt_ids(kind, invocation, seed=tried)
        generated, lead = greedy(model, ids)
        if lead > _CLEAR_LEAD:
            return ids, generated
    raise RuntimeError("no prompt leads to a clear choice at every step")
