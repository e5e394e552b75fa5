"""The adapters and prompts that the engine is compared with PEFT on."""

from __future__ import annotations

import os

import numpy as np

from oracle.tiny_models import (
    ALL_LINEAR,
    ATTENTION,
    FAMILIES,
    HYBRID_FAMILIES,
    INVOCATION,
    N_VOCAB,
    STATE_SPACE,
    AdapterSpec,
)

GENERATED = 16
PROMPT_LENGTH = 12
PROMPTS = ("start", "middle", "end", "twice")
# A GPU multiplies F32 in fewer bits: benchmarks/gpu says by how much.
TOLERANCE = float(os.environ.get("ALORA_TEST_TOLERANCE", "1e-4"))

ADAPTERS: dict[str, AdapterSpec] = {
    f"{name}-r{rank}{'-rslora' if use_rslora else ''}": AdapterSpec(
        targets=targets, rank=rank, alpha=2 * rank, use_rslora=use_rslora
    )
    for name, targets in (("qkv", ATTENTION), ("all", ALL_LINEAR))
    for rank in (4, 32)
    for use_rslora in (False, True)
}
ADAPTERS["lora"] = AdapterSpec(targets=ALL_LINEAR, invocation=None)
ADAPTERS["patterns"] = AdapterSpec(
    targets=ALL_LINEAR,
    rank=8,
    alpha=12,
    rank_pattern={"layers.0.self_attn.q_proj": 3, "down_proj": 16},
    alpha_pattern={"v_proj": 30, "layers.1.mlp.up_proj": 5},
)
ADAPTERS["patterns-rslora"] = AdapterSpec(
    targets=ALL_LINEAR,
    rank=6,
    alpha=9,
    use_rslora=True,
    rank_pattern={"k_proj": 12, "layers.1.self_attn.o_proj": 2},
    alpha_pattern={"gate_proj": 20},
)
ADAPTERS["one-token"] = AdapterSpec(invocation=INVOCATION[:1])
ADAPTERS["state-space"] = AdapterSpec(targets=(*ALL_LINEAR, *STATE_SPACE), alpha_pattern={"mamba.in_proj": 3})

# What differs between families is where weights are and in which order; that shows in a few.
_TELLING = ("qkv-r4", "all-r32-rslora", "patterns", "lora")


def prompt_ids(kind: str, invocation: tuple[int, ...] | None, *, seed: int) -> list[int]:
    """Makes a prompt with the invocation in a given place.

    Args:
        kind: One of `PROMPTS`.
        invocation: The adapter's invocation tokens; without them the prompt is random.
        seed: Another seed, other tokens around the invocation.

    Returns:
        `PROMPT_LENGTH` token ids. Where there is room, a beginning of the invocation precedes it,
        which a careless search takes for the invocation itself.
    """
    random = np.random.Generator(np.random.PCG64([seed, 2000]))
    fill = [int(token) for token in random.integers(10, N_VOCAB, PROMPT_LENGTH)]
    if invocation is None:
        return fill
    call, n = list(invocation), len(invocation)
    start = {"start": 0, "middle": 6, "end": PROMPT_LENGTH - n, "twice": 8}[kind]
    ids = [*fill[:start], *call, *fill[start + n :]]
    if kind in ("middle", "end"):
        ids[start - n + 1 : start] = call[: n - 1]
    if kind == "twice":
        ids[2 : 2 + n] = call
    return ids


def adapter_seed(name: str) -> int:
    """Gives each adapter numbers of its own."""
    return list(ADAPTERS).index(name)


def adapter_names(family: str) -> tuple[str, ...]:
    """Lists the adapters that are tried on a family."""
    if family in FAMILIES:
        return tuple(name for name in ADAPTERS if name != "state-space")
    return (*_TELLING, "state-space") if family in HYBRID_FAMILIES else _TELLING


def prompt_kinds(family: str, name: str) -> tuple[str, ...]:
    """Lists the prompts an adapter is tried on; the invocation's place means nothing to a LoRA."""
    if ADAPTERS[name].invocation is None:
        return PROMPTS[:1]
    return PROMPTS if family in FAMILIES else ("middle",)


def activation(ids: list[int], invocation: tuple[int, ...] | None) -> int:
    """Says which position an adapter governs first: PEFT's rule, spelled out plainly."""
    if invocation is None:
        return 0
    n = len(invocation)
    return max(i for i in range(len(ids) - n + 1) if tuple(ids[i : i + n]) == invocation)
