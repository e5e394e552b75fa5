"""Small random models and adapters of every supported family, the same on every machine.

The weights come from a seed, so nothing large is kept: a test writes a model as the folder that
transformers loads and as the GGUF that llama.cpp loads, and an adapter as PEFT saves it. Needs
numpy, gguf and safetensors, but neither torch nor transformers, and none of our own code: what
the tests compare with must not share our mistakes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import gguf
import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

Array = npt.NDArray[np.float32]
_Number = TypeVar("_Number", int, float)

FAMILIES = ("llama", "mistral", "granite", "qwen2", "qwen3")
N_VOCAB = 104
N_LAYERS = 2

ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
ALL_LINEAR = (
    *ATTENTION,
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
INVOCATION = (5, 6, 7)

_COMMON: dict[str, Any] = {
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

# What makes each family itself; mistral and qwen3 have heads wider than hidden / heads.
_SPECIFIC: dict[str, dict[str, Any]] = {
    "llama": {"architectures": ["LlamaForCausalLM"]},
    "mistral": {"architectures": ["MistralForCausalLM"], "head_dim": 24, "sliding_window": None},
    "granite": {
        "architectures": ["GraniteForCausalLM"],
        "embedding_multiplier": 6.0,
        "attention_multiplier": 0.11,
        "residual_multiplier": 0.35,
        "logits_scaling": 0.8,
    },
    "qwen2": {"architectures": ["Qwen2ForCausalLM"], "use_sliding_window": False},
    "qwen3": {"architectures": ["Qwen3ForCausalLM"], "head_dim": 24, "use_sliding_window": False},
}

_ARCHITECTURE = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "granite": gguf.MODEL_ARCH.GRANITE,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
}
_PERMUTED = frozenset({"llama", "mistral", "granite"})


@dataclass(frozen=True)
class TinyModel:
    """A model's configuration and its weights, as Hugging Face names them."""

    family: str
    config: Mapping[str, Any]
    weights: Mapping[str, Array]

    @property
    def head_dim(self) -> int:
        """The width of one attention head."""
        default = self.config["hidden_size"] // self.config["num_attention_heads"]
        return int(self.config.get("head_dim", default))


@dataclass(frozen=True)
class AdapterSpec:
    """What a random adapter looks like; `invocation` is None for an ordinary LoRA."""

    targets: tuple[str, ...] = ATTENTION
    rank: int = 4
    alpha: float = 8
    use_rslora: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    invocation: tuple[int, ...] | None = INVOCATION


def make_model(family: str, *, seed: int = 0) -> TinyModel:
    """Draws a model's weights.

    Args:
        family: One of `FAMILIES`.
        seed: Another seed, another model.
    """
    config = {**_COMMON, **_SPECIFIC[family], "model_type": family}
    random = np.random.Generator(np.random.PCG64([seed, FAMILIES.index(family)]))

    def matrix(rows: int, columns: int, gain: float = 1.0) -> Array:
        drawn = random.standard_normal((rows, columns)) * (gain / np.sqrt(columns))
        result: Array = drawn.astype(np.float32)
        return result

    def vector(size: int, center: float, spread: float) -> Array:
        return (center + spread * random.standard_normal(size)).astype(np.float32)

    hidden, ff = config["hidden_size"], config["intermediate_size"]
    head_dim = config.get("head_dim", hidden // config["num_attention_heads"])
    query = config["num_attention_heads"] * head_dim
    key = config["num_key_value_heads"] * head_dim
    # Small embeddings: where they drown what the layers add, a model only repeats its last token.
    embedding = matrix(N_VOCAB, hidden, 2.0 / config.get("embedding_multiplier", 1.0))
    weights: dict[str, Array] = {"model.embed_tokens.weight": embedding}
    for layer in range(N_LAYERS):
        prefix = f"model.layers.{layer}."
        weights[prefix + "input_layernorm.weight"] = vector(hidden, 1.0, 0.1)
        weights[prefix + "post_attention_layernorm.weight"] = vector(hidden, 1.0, 0.1)
        # A gain on q and k sharpens attention, so that positions and rotation really matter.
        weights[prefix + "self_attn.q_proj.weight"] = matrix(query, hidden, 1.7)
        weights[prefix + "self_attn.k_proj.weight"] = matrix(key, hidden, 1.7)
        weights[prefix + "self_attn.v_proj.weight"] = matrix(key, hidden)
        weights[prefix + "self_attn.o_proj.weight"] = matrix(hidden, query)
        weights[prefix + "mlp.gate_proj.weight"] = matrix(ff, hidden)
        weights[prefix + "mlp.up_proj.weight"] = matrix(ff, hidden)
        weights[prefix + "mlp.down_proj.weight"] = matrix(hidden, ff)
        if family == "qwen2":
            weights[prefix + "self_attn.q_proj.bias"] = vector(query, 0.0, 0.5)
            weights[prefix + "self_attn.k_proj.bias"] = vector(key, 0.0, 0.5)
            weights[prefix + "self_attn.v_proj.bias"] = vector(key, 0.0, 0.5)
        if family == "qwen3":
            weights[prefix + "self_attn.q_norm.weight"] = vector(head_dim, 1.5, 0.2)
            weights[prefix + "self_attn.k_norm.weight"] = vector(head_dim, 1.5, 0.2)
    weights["model.norm.weight"] = vector(hidden, 1.0, 0.1)
    if not config["tie_word_embeddings"]:
        weights["lm_head.weight"] = matrix(N_VOCAB, hidden, 2.0)
    return TinyModel(family, config, weights)


def write_hf(model: TinyModel, folder: Path) -> Path:
    """Writes a model as the folder that transformers loads."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model.config, indent=2), encoding="utf-8")
    save_file(dict(model.weights), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_gguf(model: TinyModel, path: Path) -> Path:
    """Writes a model as a float32 GGUF."""
    arch = _ARCHITECTURE[model.family]
    config = model.config
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[arch])
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(f"tiny-{model.family}")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_block_count(N_LAYERS)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(model.head_dim)
    writer.add_value_length(model.head_dim)
    writer.add_rope_dimension_count(model.head_dim)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(N_VOCAB)
    if model.family == "granite":
        writer.add_embedding_scale(config["embedding_multiplier"])
        writer.add_attention_scale(config["attention_multiplier"])
        writer.add_residual_scale(config["residual_multiplier"])
        writer.add_logit_scale(config["logits_scaling"])
    _add_tokenizer(writer)
    names = gguf.get_tensor_name_map(arch, N_LAYERS)
    for name, weight in model.weights.items():
        tensor = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if tensor is None:
            raise ValueError(f"no GGUF name for {name}")
        writer.add_tensor(tensor, to_gguf_rows(model, name, weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def to_gguf_rows(model: TinyModel, name: str, rows: Array) -> Array:
    """Puts the rows of a q or k projection into the order of the family's GGUF.

    Row `i` of a head's first half is followed by row `i` of its second half, where llama.cpp
    rotates neighbours.
    """
    if model.family not in _PERMUTED or not ("q_proj" in name or "k_proj" in name):
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


def adapter_weights(model: TinyModel, spec: AdapterSpec, *, seed: int = 0) -> dict[str, Array]:
    """Draws an adapter's matrices, as PEFT names them.

    A and B are drawn so that the adapter changes a projection's output by about half of its
    size, whatever the rank and the scale.
    """
    random = np.random.Generator(np.random.PCG64([seed, 1000]))
    weights: dict[str, Array] = {}
    for layer in range(N_LAYERS):
        for target in spec.targets:
            module = f"model.layers.{layer}.{target}"
            out, inputs = model.weights[module + ".weight"].shape
            rank = _by_suffix(spec.rank_pattern, module, spec.rank)
            alpha = _by_suffix(spec.alpha_pattern, module, spec.alpha)
            scale = alpha / (rank**0.5 if spec.use_rslora else rank)
            a = random.standard_normal((rank, inputs)) / np.sqrt(inputs)
            b = random.standard_normal((out, rank)) * (0.5 / (scale * np.sqrt(rank)))
            weights[f"base_model.model.{module}.lora_A.weight"] = a.astype(np.float32)
            weights[f"base_model.model.{module}.lora_B.weight"] = b.astype(np.float32)
    return weights


def _by_suffix(pattern: Mapping[str, _Number], module: str, default: _Number) -> _Number:
    # Enough for the plain names in our specifications; PEFT itself matches expressions.
    return next((v for k, v in pattern.items() if f".{module}".endswith(f".{k}")), default)


def write_adapter(
    model: TinyModel,
    spec: AdapterSpec,
    folder: Path,
    *,
    seed: int = 0,
    base: str | None = None,
) -> Path:
    """Writes a random adapter as PEFT saves it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": spec.rank,
        "lora_alpha": spec.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": spec.use_rslora,
        "rank_pattern": dict(spec.rank_pattern),
        "alpha_pattern": dict(spec.alpha_pattern),
        "target_modules": sorted(target.rpartition(".")[2] for target in spec.targets),
        "alora_invocation_tokens": None if spec.invocation is None else list(spec.invocation),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    weights = adapter_weights(model, spec, seed=seed)
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder
