"""A base's GGUF as a model of transformers: the weights that the engine computes with, to be trained over.

It is the way of llama.cpp's converter back. Quantized numbers become the floats they stand for; rows of query and key
that were reordered for the rotation get their old order. A tensor that is missing, or left over, is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import numpy.typing as npt

from alora_cpp.convert.families import Family, family_of_architecture
from alora_cpp.convert.gguf_header import GGUFHeader, read_header
from alora_cpp.errors import TrainingError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

Array = npt.NDArray[Any]

# Which settings of transformers stand for GGUF's keys, beyond those that all have.
_SCALES = {
    "embedding_multiplier": "embedding_scale",
    "attention_multiplier": "attention.scale",
    "residual_multiplier": "residual_scale",
    "logits_scaling": "logit_scale",
}
_MODEL_TYPES = ("llama", "granite", "qwen2", "qwen3", "olmo2", "smollm3")
# llama.cpp divides the rotation's frequencies by these.
_ROTATION_FACTORS = "rope_freqs.weight"


def load_gguf_base(path: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Loads a GGUF into a model of transformers.

    Args:
        path: The file.
        dtype: Of the weights.

    Raises:
        TrainingError: It is damaged, split, or of a kind that cannot be turned back.
    """
    import torch
    from transformers import AutoModelForCausalLM

    header, family = _read_header(path)
    config = _config(header, family, path)
    model_class: Any = AutoModelForCausalLM._model_mapping[type(config)]
    with torch.device("meta"):
        names = list(model_class(config).state_dict())
    tied = ["lm_head.weight"] if config.tie_word_embeddings else []
    tensors = _Tensors(path, header, family)
    weights = {name: torch.from_numpy(tensors.read(name)).to(dtype) for name in names if name not in tied}
    tensors.expect_no_more()
    model: PreTrainedModel = model_class.from_pretrained(None, config=config, state_dict=weights, dtype=dtype)
    if _ROTATION_FACTORS in header.shapes:
        rotation: Any = model.base_model.rotary_emb
        rotation.inv_freq /= torch.from_numpy(tensors.values(_ROTATION_FACTORS)).to(rotation.inv_freq)
    return model


def _read_header(path: Path) -> tuple[GGUFHeader, Family]:
    try:
        header = read_header(path)
    except ValueError as error:
        raise TrainingError(f"{path} cannot be read as GGUF ({error}); download it again") from error
    architecture = header.text("general.architecture")
    family = family_of_architecture(str(architecture))
    if family is None or next(iter(family.model_types)) not in _MODEL_TYPES:
        raise TrainingError(
            f"{path} is of architecture {architecture!r}, expected {', '.join(_MODEL_TYPES)} to train over a GGUF; give"
            " the base's Hugging Face folder or name, and its GGUF with --gguf"
        )
    if header.values.get("split.count", 1) not in (0, 1):
        raise TrainingError(f"{path} is part of a split model; join its parts (llama-gguf-split --merge)")
    if header.values.get(f"{family.name}.expert_count"):
        raise TrainingError(f"{path} has experts, which cannot be turned back; give the base's Hugging Face folder")
    return header, family


def _config(header: GGUFHeader, family: Family, path: Path) -> PreTrainedConfig:
    from transformers import AutoConfig

    def number(key: str, default: float | None = None) -> Any:
        value = header.values.get(f"{family.name}.{key}", default)
        if not isinstance(value, int | float):
            raise TrainingError(f"{path} has no number {family.name}.{key}; it is damaged: download it again")
        return value

    heads = number("attention.head_count")
    head_dim = number("attention.key_length", number("embedding_length") // heads)
    if number("rope.dimension_count", head_dim) != head_dim:
        raise TrainingError(f"{path} rotates only a part of each head; give the base's Hugging Face folder")
    model_type = next(iter(family.model_types))
    scales = {name: number(key) for name, key in _SCALES.items()} if model_type == "granite" else {}
    # That is how llama.cpp runs it, whatever its configuration said.
    special = {"smollm3": {"no_rope_layer_interval": 4, "use_sliding_window": False}}.get(model_type, {})
    return AutoConfig.for_model(
        model_type,
        vocab_size=header.shapes["token_embd.weight"][0],
        hidden_size=number("embedding_length"),
        intermediate_size=number("feed_forward_length"),
        num_hidden_layers=number("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=number("attention.head_count_kv", heads),
        head_dim=head_dim,
        max_position_embeddings=number("context_length"),
        rms_norm_eps=number("attention.layer_norm_rms_epsilon"),
        rope_parameters=_rotation(header, family, number("rope.freq_base", 10000.0), path),
        tie_word_embeddings="output.weight" not in header.shapes,
        attention_bias="blk.0.attn_q.bias" in header.shapes,
        mlp_bias="blk.0.ffn_up.bias" in header.shapes,
        pad_token_id=None,
        bos_token_id=header.count("tokenizer.ggml.bos_token_id"),
        eos_token_id=header.count("tokenizer.ggml.eos_token_id"),
        **scales,
        **special,
    )


def _rotation(header: GGUFHeader, family: Family, base: float, path: Path) -> dict[str, Any]:
    kind = header.values.get(f"{family.name}.rope.scaling.type", "none")
    if kind == "none":
        return {"rope_type": "default", "rope_theta": base}
    factor = header.values.get(f"{family.name}.rope.scaling.factor")
    if kind == "linear" and isinstance(factor, int | float):
        return {"rope_type": "linear", "rope_theta": base, "factor": factor}
    raise TrainingError(
        f"{path} scales its rotation as {kind!r}, expected 'linear' or none; give the Hugging Face folder"
    )


class _Tensors:
    """The tensors of a file, by the names that transformers has for them."""

    def __init__(self, path: Path, header: GGUFHeader, family: Family) -> None:
        self._path = path
        self._header = header
        self._family = family
        self._names = gguf.get_tensor_name_map(family.arch, header.values[f"{family.name}.block_count"])
        self._data = np.memmap(path, mode="r")
        self._left = set(header.shapes) - {_ROTATION_FACTORS}
        self._rows = dict(self._split_rows())

    def values(self, name: str) -> Array:
        """A tensor's numbers, float32, in the file's order of rows.

        Raises:
            TrainingError: It is cut off, or its numbers are of a type that is not known.
        """
        shape, kind = self._header.shapes[name], gguf.GGMLQuantizationType(self._header.types[name])
        try:
            stored = gguf.quant_shape_to_byte_shape(shape, kind)
            start = self._header.offsets[name]
            data = self._data[start : start + int(np.prod(stored))].reshape(stored)
            return np.array(gguf.dequantize(data, kind), dtype=np.float32).reshape(shape)
        except (ValueError, NotImplementedError) as error:
            raise TrainingError(
                f"the tensor {name} of {self._path}, of type {kind.name}, cannot be read ({error}); take another"
                " quantization of the base, or its Hugging Face folder"
            ) from error

    def read(self, name: str) -> Array:
        """A tensor as transformers has it.

        Raises:
            TrainingError: It is not there, or cannot be read.
        """
        stem, _, suffix = name.rpartition(".")
        tensor = f"{self._names.get_name(stem)}.{suffix}"
        part = self._rows.get(tensor, (tensor, slice(None)))
        if part[0] not in self._header.shapes:
            raise TrainingError(f"{self._path} has no tensor {part[0]}; it is damaged: download it again")
        self._left.discard(part[0])
        values = self.values(part[0])[part[1]]
        return np.ascontiguousarray(self._unpermuted(stem, values))

    def expect_no_more(self) -> None:
        """Checks that every tensor had its place.

        Raises:
            TrainingError: Some are left over.
        """
        if self._left:
            raise TrainingError(
                f"{self._path} has tensors that its architecture {self._family.name} does not know:"
                f" {', '.join(sorted(self._left)[:5])}; give the base's Hugging Face folder"
            )

    def _split_rows(self) -> Iterator[tuple[str, tuple[str, slice]]]:
        """Where query, key and value are rows of one tensor."""
        query, key = (self._heads(kind) * self._head_dim() for kind in ("", "_kv"))
        ends = {"q": (0, query), "k": (query, query + key), "v": (query + key, query + 2 * key)}
        for name in self._header.shapes:
            if name.split(".")[-2] == "attn_qkv":
                for letter, (begin, end) in ends.items():
                    yield name.replace("attn_qkv", f"attn_{letter}"), (name, slice(begin, end))

    def _heads(self, kind: str) -> int:
        prefix = f"{self._family.name}.attention.head_count"
        return int(self._header.values.get(prefix + kind, self._header.values[prefix]))

    def _head_dim(self) -> int:
        values: Mapping[str, Any] = self._header.values
        name = self._family.name
        return int(values.get(f"{name}.attention.key_length", values[f"{name}.embedding_length"] // self._heads("")))

    def _unpermuted(self, stem: str, values: Array) -> Array:
        """Of neighbours that rotate together, the first ones make the first half of a head, the others the second."""
        heads = {"q_proj": "", "k_proj": "_kv"}.get(stem.rpartition(".")[2])
        if heads is None or not self._family.interleaved_rotary:
            return values
        split = values.reshape(self._heads(heads), -1, 2, *values.shape[1:])
        return split.swapaxes(1, 2).reshape(values.shape)
