"""The base model: a Granite of ten million parameters."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import GraniteConfig, GraniteForCausalLM, PreTrainedTokenizerFast

from training.tokenizer import CONTEXT_LENGTH


def granite_config(tokenizer: PreTrainedTokenizerFast) -> GraniteConfig:
    """The shape. Every multiplier differs from 1, so that whoever runs the model must apply them all."""
    end_of_text = tokenizer.eos_token_id
    return GraniteConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=12,
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


def best_device() -> torch.device:
    """An accelerator, where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_model(base: Path) -> GraniteForCausalLM:
    """A trained base model, in 32 bits, for reading."""
    model = GraniteForCausalLM.from_pretrained(base, dtype=torch.float32)
    model.to(best_device())  # type: ignore[arg-type]
    model.train(False)
    return model


def save_model(model: GraniteForCausalLM, base: Path) -> None:
    """Saves a base model. Its weights are kept in 16 bits (bfloat16), as published models' are; training used more."""
    model.to(torch.bfloat16).save_pretrained(base)
