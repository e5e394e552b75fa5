"""Writes the base model as a GGUF: Q8_0 matrices, F32 norms, the tokenizer and the chat template.

llama.cpp's own converter refuses tokenizers it does not know, so the file is written with the `gguf` package.
Like all bases of the Llama family, Granite rotates pairs of neighbours in GGUF where transformers rotates
halves; the rows of the query and key projections are reordered accordingly.
"""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import torch
from transformers import GraniteConfig, GraniteForCausalLM

from training.chat_format import CONTROL_TOKENS
from training.tokenizer import GGUF_PRE_TOKENIZER, load_tokenizer

_DESCRIPTION = "A very small Granite-architecture chat model of an invented world, for demonstrating intrinsics."
_LAYER_TENSORS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    """The GGUF's name for a tensor of the transformers model."""
    fixed = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in fixed:
        return fixed[name]
    layer, tensor = name.removeprefix("model.layers.").removesuffix(".weight").split(".", 1)
    return f"blk.{layer}.{_LAYER_TENSORS[tensor]}.weight"


def permuted(weight: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Rows of a query or key projection from halves to neighbouring pairs, head by head."""
    rows, columns = weight.shape
    split = weight.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(rows, columns))


def _key_value_heads(config: GraniteConfig) -> int:
    return config.num_key_value_heads or config.num_attention_heads


def _write_parameters(writer: gguf.GGUFWriter, config: GraniteConfig) -> None:
    writer.add_name("alora-tiny")
    writer.add_description(_DESCRIPTION)
    writer.add_license("apache-2.0")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(_key_value_heads(config))
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(float(dict(config.rope_parameters or {})["rope_theta"]))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_attention_scale(config.attention_multiplier)
    writer.add_embedding_scale(config.embedding_multiplier)
    writer.add_residual_scale(config.residual_multiplier)
    writer.add_logit_scale(config.logits_scaling)


def _write_tokenizer(writer: gguf.GGUFWriter, base: Path) -> None:
    tokenizer = load_tokenizer(base)
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=lambda token: model["vocab"][token])
    types = [gguf.TokenType.CONTROL if token in CONTROL_TOKENS else gguf.TokenType.NORMAL for token in tokens]
    end_of_text = tokenizer.eos_token_id
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(GGUF_PRE_TOKENIZER)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(end_of_text)
    writer.add_eos_token_id(end_of_text)
    writer.add_pad_token_id(end_of_text)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(str(tokenizer.chat_template))


def export(base: Path, out: Path, kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.Q8_0) -> None:
    """Writes the GGUF.

    Args:
        base: The folder of the transformers model.
        out: The file to write.
        kind: How matrices are stored; norms are always F32.
    """
    model = GraniteForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = model.config
    writer = gguf.GGUFWriter(out, "granite")
    _write_parameters(writer, config)
    writer.add_file_type(
        gguf.LlamaFileType.MOSTLY_Q8_0 if kind == gguf.GGMLQuantizationType.Q8_0 else gguf.LlamaFileType.ALL_F32
    )
    _write_tokenizer(writer, base)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue  # tied to the embeddings
        values = tensor.float().cpu().numpy()
        if "q_proj" in name:
            values = permuted(values, config.num_attention_heads)
        elif "k_proj" in name:
            values = permuted(values, _key_value_heads(config))
        if values.ndim == 2:
            writer.add_tensor(gguf_name(name), gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(gguf_name(name), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
