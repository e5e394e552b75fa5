"""The configurations of the tiny models, as Hugging Face writes them."""

from __future__ import annotations

from typing import Any

import gguf

N_VOCAB = 104
N_LAYERS = 2

COMMON: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "vocab_size": N_VOCAB,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "torch_dtype": "float32",
}

_GRANITE: dict[str, Any] = {
    "embedding_multiplier": 6.0,
    "attention_multiplier": 0.11,
    "residual_multiplier": 0.35,
    "logits_scaling": 0.8,
}

# Granite 4: a dense one is a hybrid model that has attention in every layer.
_GRANITE_4: dict[str, Any] = {
    **_GRANITE,
    "architectures": ["GraniteMoeHybridForCausalLM"],
    "model_type": "granitemoehybrid",
    "shared_intermediate_size": 96,
    "num_local_experts": 0,
    "num_experts_per_tok": 0,
    "layer_types": ["attention", "attention"],
    "position_embedding_type": "rope",
    "mamba_n_heads": 8,
    "mamba_n_groups": 2,
    "mamba_d_state": 16,
    "mamba_d_head": 16,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_chunk_size": 8,
    "mamba_conv_bias": True,
    "mamba_proj_bias": False,
}
_HYBRID: dict[str, Any] = {**_GRANITE_4, "layer_types": ["mamba", "attention"], "position_embedding_type": "nope"}
_EXPERTS: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 32}

_GEMMA: dict[str, Any] = {
    "head_dim": 24,
    "query_pre_attn_scalar": 24,
    "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
    "sliding_window": 256,
}

# What makes each family itself; some have heads wider than hidden / heads.
SPECIFIC: dict[str, dict[str, Any]] = {
    "llama": {"architectures": ["LlamaForCausalLM"]},
    "mistral": {"architectures": ["MistralForCausalLM"], "head_dim": 24, "sliding_window": None},
    "granite": {"architectures": ["GraniteForCausalLM"], **_GRANITE},
    "qwen2": {"architectures": ["Qwen2ForCausalLM"], "use_sliding_window": False},
    "qwen3": {"architectures": ["Qwen3ForCausalLM"], "head_dim": 24, "use_sliding_window": False},
    "granite4": _GRANITE_4,
    "granitemoeshared": {
        **_GRANITE,
        **_EXPERTS,
        "architectures": ["GraniteMoeSharedForCausalLM"],
        "shared_intermediate_size": 96,
    },
    "granitemoehybrid": _HYBRID,
    "granitemoehybrid-experts": {**_HYBRID, **_EXPERTS},
    # The first of two layers looks back only so far.
    "gemma2": {
        **_GEMMA,
        "architectures": ["Gemma2ForCausalLM"],
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 3.0,
    },
    # All but the last of six.
    "gemma3": {
        **_GEMMA,
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "num_hidden_layers": 6,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "sliding_window_pattern": 6,
    },
    # Only part of each head is rotated.
    "phi3": {
        "architectures": ["Phi3ForCausalLM"],
        "partial_rotary_factor": 0.75,
        "original_max_position_embeddings": 512,
        "sliding_window": None,
    },
    "olmo2": {"architectures": ["Olmo2ForCausalLM"]},
    # Every fourth layer does without rotation.
    "smollm3": {
        "architectures": ["SmolLM3ForCausalLM"],
        "num_hidden_layers": 4,
        "no_rope_layer_interval": 4,
        "use_sliding_window": False,
    },
}

FAMILIES = ("llama", "mistral", "granite", "qwen2", "qwen3")
"""The families that all of the engine's behaviour is tried on."""

HYBRID_FAMILIES = ("granitemoehybrid", "granitemoehybrid-experts")
"""Those with layers that keep a state in place of keys and values."""

SLIDING_FAMILIES = ("gemma2", "gemma3")
"""Those with layers that attend to the last tokens only."""

ALL_FAMILIES = tuple(SPECIFIC)

_Arch = gguf.MODEL_ARCH
ARCHITECTURES = {
    "llama": _Arch.LLAMA,
    "mistral": _Arch.LLAMA,
    "granite": _Arch.GRANITE,
    "qwen2": _Arch.QWEN2,
    "qwen3": _Arch.QWEN3,
    "granite4": _Arch.GRANITE,
    "granitemoeshared": _Arch.GRANITE_MOE,
    "granitemoehybrid": _Arch.GRANITE_HYBRID,
    "granitemoehybrid-experts": _Arch.GRANITE_HYBRID,
    "gemma2": _Arch.GEMMA2,
    "gemma3": _Arch.GEMMA3,
    "phi3": _Arch.PHI3,
    "olmo2": _Arch.OLMO2,
    "smollm3": _Arch.SMOLLM3,
}

# Where llama.cpp rotates neighbouring rows, each head's rows are reordered.
PERMUTED = frozenset({_Arch.LLAMA, _Arch.GRANITE, _Arch.GRANITE_MOE, _Arch.GRANITE_HYBRID, _Arch.SMOLLM3})
