"""Losses and gradients over the base's cache, against PEFT over whole texts, each example on its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from alora_cpp.train.examples import TokenizedExample
from oracle.tiny_models import ALL_FAMILIES, INVOCATION, N_VOCAB, make_model, write_hf

if TYPE_CHECKING:
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    from alora_cpp.train.answer_logits import answer_logits, has_plain_cache, token_weights
    from alora_cpp.train.batches import collate
else:
    torch = pytest.importorskip("torch")
    AutoModelForCausalLM = pytest.importorskip("transformers").AutoModelForCausalLM
    peft = pytest.importorskip("peft")
    from alora_cpp.train.answer_logits import answer_logits, has_plain_cache, token_weights
    from alora_cpp.train.batches import collate

pytestmark = pytest.mark.oracle

WITHOUT_PLAIN_CACHE = ("granitemoehybrid", "granitemoehybrid-experts", "gemma2", "gemma3")
# How many tokens come before the invocation, and how many the answer has: one, several, and nothing before it.
SHAPES = ((20, 1), (37, 3), (5, 2), (0, 1))


def examples(invocation: tuple[int, ...], *, activation: int | None = None) -> list[TokenizedExample]:
    """Random ones. They weigh more the longer they are."""
    draw = np.random.Generator(np.random.PCG64(5))
    made = []
    for n_before, n_answer in SHAPES:
        before, answer = (tuple(map(int, draw.integers(10, N_VOCAB, n))) for n in (n_before, n_answer + 1))
        at = n_before if activation is None else activation
        made.append(TokenizedExample((*before, *invocation), answer, at, 1 + n_before / 20))
    return made


def adapted(family: str, folder: Path, invocation: tuple[int, ...] | None) -> peft.PeftModel:
    torch.set_num_threads(1)
    base = AutoModelForCausalLM.from_pretrained(
        write_hf(make_model(family), folder), dtype=torch.float32, attn_implementation="eager"
    )
    torch.manual_seed(1)
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        lora_alpha=8,
        target_modules=["qkv_proj"] if family == "phi3" else ["q_proj", "k_proj", "v_proj"],
        alora_invocation_tokens=None if invocation is None else list(invocation),
        init_lora_weights=False,
    )
    return peft.get_peft_model(base, config).eval()


def loss_and_gradients(model: peft.PeftModel, loss: torch.Tensor) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    loss.backward()
    found = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    assert found
    return loss.item(), found


def peft_loss(model: peft.PeftModel, some: list[TokenizedExample]) -> torch.Tensor:
    """By PEFT itself, which looks for the invocation, without padding or a cache."""
    losses, weights = [], []
    for one in some:
        ids = [*one.prompt, *one.answer]
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, len(one.prompt) - 1 : -1]
        losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(one.answer), reduction="sum") * one.weight)
        weights.append(one.weight * len(one.answer))
    return sum(losses) / sum(weights)


def our_loss(model: peft.PeftModel, some: list[TokenizedExample], *, over_cache: bool) -> torch.Tensor:
    batch = collate(some)["batch"]
    logits, targets = answer_logits(model, batch, over_cache=over_cache)
    weights = token_weights(batch)
    return (torch.nn.functional.cross_entropy(logits, targets, reduction="none") * weights).sum() / weights.sum()


def assert_alike(ours: tuple[float, dict[str, torch.Tensor]], theirs: tuple[float, dict[str, torch.Tensor]]) -> None:
    assert ours[0] == pytest.approx(theirs[0], abs=1e-5)
    assert ours[1].keys() == theirs[1].keys()
    for name, gradient in theirs[1].items():
        torch.testing.assert_close(ours[1][name], gradient, atol=1e-5, rtol=0, msg=name)
    assert max(gradient.abs().max() for gradient in theirs[1].values()) > 0.01


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_alora(family: str, tmp_path: Path) -> None:
    model = adapted(family, tmp_path, INVOCATION)
    some = examples(INVOCATION)
    theirs = loss_and_gradients(model, peft_loss(model, some))
    assert has_plain_cache(model.get_base_model()) == (family not in WITHOUT_PLAIN_CACHE)
    for over_cache in {False, family not in WITHOUT_PLAIN_CACHE}:
        assert_alike(loss_and_gradients(model, our_loss(model, some, over_cache=over_cache)), theirs)


def test_lora(tmp_path: Path) -> None:
    model = adapted("granite", tmp_path, None)
    some = examples(INVOCATION, activation=0)
    theirs = loss_and_gradients(model, peft_loss(model, some))
    assert_alike(loss_and_gradients(model, our_loss(model, some, over_cache=False)), theirs)


def test_only_the_last_token_is_governed(tmp_path: Path) -> None:
    """Activation at the end: what PEFT looks for is the invocation's last token alone."""
    model = adapted("granite", tmp_path, INVOCATION[-1:])
    some = [TokenizedExample(one.prompt, one.answer, len(one.prompt) - 1, one.weight) for one in examples(INVOCATION)]
    theirs = loss_and_gradients(model, peft_loss(model, some))
    assert_alike(loss_and_gradients(model, our_loss(model, some, over_cache=True)), theirs)
