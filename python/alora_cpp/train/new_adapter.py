"""A new adapter on a base."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model

from alora_cpp.errors import TrainingError
from alora_cpp.train.base import Base
from alora_cpp.train.options import TrainingOptions

_ALL_LINEAR = "all-linear"


def add_adapter(base: Base, options: TrainingOptions, invocation: Sequence[int] | None) -> PeftModel:
    """Loads a base and puts a new adapter on it.

    Args:
        base: The base.
        options: How to train.
        invocation: What PEFT is to look for; None for an ordinary LoRA.

    Returns:
        The model: on an accelerator the base in 16-bit floats and the adapter in 32, on the CPU all in 32.

    Raises:
        TrainingError: The base cannot be loaded, or has none of the targets.
    """
    model = base.load(_number_type())
    targets = list(options.targets)
    _expect_targets(model, targets)
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=options.rank,
        lora_alpha=options.scaled_alpha,
        lora_dropout=options.dropout,
        target_modules=_ALL_LINEAR if targets == [_ALL_LINEAR] else targets,
        alora_invocation_tokens=None if invocation is None else list(invocation),
    )
    torch.manual_seed(options.seed)
    adapted = get_peft_model(model, config)
    assert isinstance(adapted, PeftModel)
    # PEFT takes it from the model, which one made from a GGUF does not know.
    adapted.peft_config["default"].base_model_name_or_path = base.name
    return adapted


def _number_type() -> torch.dtype:
    if not torch.cuda.is_available():
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _expect_targets(model: torch.nn.Module, targets: Sequence[str]) -> None:
    if list(targets) == [_ALL_LINEAR]:
        return
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in linear):
            known = sorted({name.rpartition(".")[2] for name in linear if name != "lm_head"})
            raise TrainingError(f"the base has no linear module {target!r}; expected some of {', '.join(known)}")
