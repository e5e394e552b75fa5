"""A base model for tests of training."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import GraniteConfig, GraniteForCausalLM


def save_tiny_granite(folder: Path, vocabulary: int) -> None:
    """Writes a Granite of random weights. All multipliers differ from 1, and no two norms are alike."""
    torch.manual_seed(1)
    torch.set_num_threads(1)
    config = GraniteConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.2,
        tie_word_embeddings=True,
        embedding_multiplier=3.0,
        attention_multiplier=0.4,
        residual_multiplier=0.5,
        logits_scaling=2.0,
        bos_token_id=2,
        eos_token_id=2,
        pad_token_id=2,
    )
    model = GraniteForCausalLM(config)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data.uniform_(0.5, 1.5)
    model.save_pretrained(folder)
