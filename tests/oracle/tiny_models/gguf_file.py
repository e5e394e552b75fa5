"""Writes the tiny models as llama.cpp loads them."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from .configs import ARCHITECTURES, N_VOCAB, PERMUTED
from .model import Array, TinyModel


def write_gguf(model: TinyModel, path: Path, *, fuse_qkv: bool = False) -> Path:
    """Writes a model as a float32 GGUF.

    Args:
        model: The model.
        path: The file.
        fuse_qkv: Whether the rows of q, k and v go into one weight.
    """
    arch = ARCHITECTURES[model.family]
    config = model.config
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[arch])
    writer.add_type(gguf.GGUFType.MODEL)
    # In a model that is called phi-3, llama.cpp expects some tokens of that one's vocabulary.
    writer.add_name("tiny-phi-4" if model.family == "phi3" else f"tiny-{model.family}")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_block_count(model.n_layers)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    experts = config.get("num_local_experts")
    dense = "intermediate_size" if experts or "shared_intermediate_size" not in config else "shared_intermediate_size"
    writer.add_feed_forward_length(config[dense])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_key_length(model.head_dim)
    writer.add_value_length(model.head_dim)
    writer.add_rope_dimension_count(int(model.head_dim * config.get("partial_rotary_factor", 1)))
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(N_VOCAB)
    if arch is gguf.MODEL_ARCH.GRANITE_HYBRID:
        _add_state_space(writer, model)
    else:
        writer.add_head_count_kv(config["num_key_value_heads"])
    if "embedding_multiplier" in config:
        writer.add_embedding_scale(config["embedding_multiplier"])
        writer.add_attention_scale(config["attention_multiplier"])
        writer.add_residual_scale(config["residual_multiplier"])
        writer.add_logit_scale(config["logits_scaling"])
    if "shared_intermediate_size" in config:
        writer.add_expert_shared_feed_forward_length(config["shared_intermediate_size"])
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config["num_experts_per_tok"])
    if config.get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])
    if "attn_logit_softcapping" in config:
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    _add_tokenizer(writer)
    for name, tensor in gguf_tensors(model, fuse_qkv=fuse_qkv).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_state_space(writer: gguf.GGUFWriter, model: TinyModel) -> None:
    config = model.config
    heads = config["num_key_value_heads"]
    writer.add_head_count_kv([0 if kind == "mamba" else heads for kind in config["layer_types"]])
    writer.add_ssm_conv_kernel(config["mamba_d_conv"])
    writer.add_ssm_state_size(config["mamba_d_state"])
    writer.add_ssm_group_count(config["mamba_n_groups"])
    writer.add_ssm_inner_size(config["mamba_expand"] * config["hidden_size"])
    writer.add_ssm_time_step_rank(config["mamba_n_heads"])
    writer.add_rope_scaling_finetuned(config["position_embedding_type"] == "rope")


def gguf_tensors(model: TinyModel, *, fuse_qkv: bool = False) -> dict[str, Array]:
    """Gives a model's weights by their names in a GGUF, and in its shapes and order of rows."""
    names = gguf.get_tensor_name_map(ARCHITECTURES[model.family], model.n_layers)
    tensors: dict[str, Array] = {}
    for name, weight in model.weights.items():
        for part, values in _split(model, name, to_gguf_rows(model, name, weight)).items():
            tensor = names.get_name(part, try_suffixes=(".weight", ".bias")) or names.get_name(part)
            if tensor is None:
                raise ValueError(f"no GGUF name for {part}")
            tensors[tensor] = values
    if fuse_qkv:
        for layer in range(model.n_layers):
            parts = [tensors.pop(f"blk.{layer}.attn_{letter}.weight") for letter in "qkv"]
            tensors[f"blk.{layer}.attn_qkv.weight"] = np.concatenate(parts)
    return tensors


def _split(model: TinyModel, name: str, weight: Array) -> dict[str, Array]:
    """Turns a weight into those that llama.cpp has in its place, by names that gguf's maps know."""
    prefix, _, last = name.rpartition("mamba.")
    if last == "A_log":
        return {name: -np.exp(weight)[:, None]}
    if last == "D":
        return {name: weight[:, None]}
    if last == "dt_bias":
        return {f"{prefix}mamba.dt_proj.bias": weight}
    if last == "conv1d.weight":
        return {name: np.ascontiguousarray(weight[:, 0])}
    if last == "norm.weight" and prefix:
        return {name: weight.reshape(model.config["mamba_n_groups"], -1)}
    if model.family.startswith("gemma") and name.endswith("norm.weight"):
        return {name: weight + 1}
    if "input_linear" in name:
        gate, up = np.split(weight, 2, axis=-2)
        block = name.partition("shared_mlp")[0].partition("block_sparse_moe")[0]
        if "block_sparse_moe" in name:
            return {f"{block}mlp.experts.gate_proj.weight": gate, f"{block}mlp.experts.up_proj.weight": up}
        kind = "mlp.shared_expert" if model.config["num_local_experts"] else "mlp"
        return {f"{block}{kind}.gate_proj.weight": gate, f"{block}{kind}.up_proj.weight": up}
    if name.endswith("shared_mlp.output_linear.weight") and not model.config["num_local_experts"]:
        return {name.replace("shared_mlp.output_linear", "mlp.down_proj"): weight}
    return {name: weight}


def to_gguf_rows(model: TinyModel, name: str, rows: Array) -> Array:
    """Puts the rows of a q or k projection into the order of the family's GGUF.

    Row `i` of a head's first half is followed by row `i` of its second half, where llama.cpp
    rotates neighbours.
    """
    if ARCHITECTURES[model.family] not in PERMUTED or not ("q_proj" in name or "k_proj" in name):
        return rows
    half = model.head_dim // 2
    order = [
        start + i + offset for start in range(0, len(rows), model.head_dim) for i in range(half) for offset in (0, half)
    ]
    return np.ascontiguousarray(rows[order])


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    """Adds a byte-level tokenizer of single ASCII characters, one merge, and control tokens."""
    control = ["<|bos|>", "<|end_of_text|>", "<|pad|>", "<|start_of_role|>", "<|end_of_role|>"]
    characters = [chr(c) for c in range(33, 127)]
    texts = [*control, "\u0120", "\u010a", *characters, "th"]
    types = [gguf.TokenType.CONTROL] * len(control)
    types += [gguf.TokenType.NORMAL] * (len(texts) - len(control))
    for number in range(N_VOCAB - len(texts)):
        texts.append(f"<unused{number}>")
        types.append(gguf.TokenType.UNUSED)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(texts)
    writer.add_token_types(types)
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
