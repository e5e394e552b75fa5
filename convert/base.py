"""Facts about the base model that an adapter belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alora_cpp.errors import ConversionError

from .base_sizes import Base, Keys, assemble, count, count_layers
from .families import (
    ARCHITECTURES,
    MODEL_TYPES,
    WEIGHTS,
    Family,
    Part,
    families_of_model_type,
    family_of_architecture,
    weight_name,
)
from .gguf_header import read_header

__all__ = ["Base", "read_base"]

_HEADS_KV = "attention.head_count_kv"

# What configurations call a block without attention; before version 5, transformers called it "mamba".
_RECURRENT = ("mamba", "linear_attention")

_CONFIG_KEYS = Keys(
    layers="num_hidden_layers",
    embedding="hidden_size",
    feed_forward="intermediate_size",
    shared_feed_forward="shared_intermediate_size",
    heads="num_attention_heads",
    heads_kv="num_key_value_heads",
    key_length="head_dim",
    value_length="head_dim",
    ssm_inner="mamba_inner",
    ssm_state="mamba_d_state",
    ssm_groups="mamba_n_groups",
    ssm_heads="mamba_n_heads",
)
_GGUF_KEYS = Keys(
    layers="block_count",
    embedding="embedding_length",
    feed_forward="feed_forward_length",
    shared_feed_forward="expert_shared_feed_forward_length",
    heads="attention.head_count",
    heads_kv=_HEADS_KV,
    key_length="attention.key_length",
    value_length="attention.value_length",
    ssm_inner="ssm.inner_size",
    ssm_state="ssm.state_size",
    ssm_groups="ssm.group_count",
    ssm_heads="ssm.time_step_rank",
)


def read_base(path: Path) -> Base:
    """Reads the facts from a base's GGUF or from a Hugging Face folder.

    Args:
        path: A GGUF file, or a folder with a config.json.

    Raises:
        ConversionError: There is no base there, it is damaged, or its family is not supported.
    """
    if path.is_dir():
        return _from_folder(path)
    if path.is_file():
        return _from_gguf(path)
    raise ConversionError(f"the base {path} does not exist; expected a GGUF file or a folder with a config.json")


def _from_folder(folder: Path) -> Base:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise ConversionError(
            f"cannot read {path} ({error.strerror});"
            " expected the Hugging Face folder of the base model, or give its GGUF instead"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConversionError(f"{path} is not valid JSON ({error}); download it again") from error
    if not isinstance(config, dict):
        raise ConversionError(f"{path} holds no JSON object; download it again")
    model_type = str(config.get("model_type"))
    families = families_of_model_type(model_type)
    if not families:
        raise ConversionError(
            f"{path} says model_type {model_type!r}; expected one of"
            f" {', '.join(MODEL_TYPES)}: adapters for other bases are not supported yet"
        )
    # Models with more than text keep the text's sizes apart.
    values = config["text_config"] if isinstance(config.get("text_config"), dict) else config
    n_layers = count_layers(values, _CONFIG_KEYS.layers, path)
    recurrent = _recurrent_layers(values, n_layers, path)
    experts = bool(values.get("num_local_experts"))
    family = _family_of_config(families, recurrent, experts)
    sizes = {key: value for key, value in values.items() if value is not None}
    if any(recurrent):
        sizes["mamba_inner"] = count(sizes, "mamba_expand", path) * count(sizes, "hidden_size", path)
    return assemble(
        family,
        path,
        {**family.defaults, **sizes},
        _CONFIG_KEYS,
        model_type=model_type,
        name=_name_of(folder.resolve()),
        n_vocab=count(values, "vocab_size", path) if "vocab_size" in values else None,
        blocks=_usual_blocks(family, recurrent, experts),
    )


def _name_of(folder: Path) -> str:
    # The hub's cache: models--ORGANIZATION--NAME/snapshots/COMMIT
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.rpartition("--")[2]
    return folder.name


def _recurrent_layers(values: Mapping[str, Any], n_layers: int, path: Path) -> list[bool]:
    kinds = values.get("layer_types")
    if kinds is None:
        return [False] * n_layers
    if not isinstance(kinds, list) or len(kinds) != n_layers:
        raise ConversionError(
            f"{path} says layer_types = {kinds!r}; expected a list of {n_layers} kinds, one for each layer:"
            " download it again"
        )
    return [kind in _RECURRENT for kind in kinds]


def _family_of_config(families: tuple[Family, ...], recurrent: list[bool], experts: bool) -> Family:
    """Chooses among the architectures of one `model_type`, as llama.cpp's converter does."""
    wanted = "granitehybrid" if any(recurrent) else "granitemoe" if experts else "granite"
    return next((family for family in families if family.name == wanted), families[0])


def _usual_blocks(family: Family, recurrent: list[bool], experts: bool) -> tuple[dict[str, tuple[Part, ...]], ...]:
    return tuple(
        {
            weight_name(tensor, layer): family.parts(tensor)
            for tensor in family.usual_weights(recurrent=without_attention, experts=experts)
        }
        for layer, without_attention in enumerate(recurrent)
    )


def _from_gguf(path: Path) -> Base:
    try:
        # A hybrid model has one such number for each block.
        header = read_header(path, arrays={f"{architecture}.{_HEADS_KV}" for architecture in ARCHITECTURES})
    except OSError as error:
        raise ConversionError(f"cannot read the base {path} ({error.strerror})") from error
    except ValueError as error:
        raise ConversionError(
            f"{path} cannot be read as GGUF ({error}); it is damaged or of another format: download the base again"
        ) from error
    arrays = {key: f"an array of {length}" for key, length in header.lengths.items()}
    fields, shapes = header.values | arrays, header.shapes
    architecture = fields.get("general.architecture")
    kind = fields.get("general.type", "model")
    family = family_of_architecture(str(architecture))
    if kind != "model" or family is None:
        raise ConversionError(
            f"the base {path} has general.type {kind!r} and general.architecture {architecture!r};"
            f" expected 'model' and one of {', '.join(ARCHITECTURES)}:"
            " give the GGUF of the model that the adapter was trained on"
        )
    keys = Keys(*(f"{architecture}.{key}" for key in _GGUF_KEYS))
    n_layers = count_layers(fields, keys.layers, path)
    recurrent = _layers_without_heads(fields, keys.heads_kv, n_layers)
    if isinstance(fields.get(keys.heads_kv), list):
        fields[keys.heads_kv] = _one_count(fields[keys.heads_kv])
    # The other parts of a split model hold tensors of which this part knows nothing.
    complete = fields.get("split.count", 0) in (0, 1)
    embedding = shapes.get("token_embd.weight")
    experts = bool(fields.get(f"{architecture}.expert_count"))
    return assemble(
        family,
        path,
        fields,
        keys,
        name=str(fields.get("general.name", path.stem)),
        n_vocab=header.lengths.get("tokenizer.ggml.tokens") if not embedding else embedding[0],
        blocks=_blocks(family, shapes, n_layers) if complete else _usual_blocks(family, recurrent, experts),
        shapes=shapes if complete else None,
    )


def _layers_without_heads(fields: Mapping[str, Any], key: str, n_layers: int) -> list[bool]:
    heads = fields.get(key)
    return [number == 0 for number in heads] if isinstance(heads, list) else [False] * n_layers


def _one_count(heads: list[Any]) -> Any:
    numbers = set(heads) - {0}
    return numbers.pop() if len(numbers) == 1 else heads


def _blocks(
    family: Family, shapes: Mapping[str, tuple[int, ...]], n_layers: int
) -> tuple[dict[str, tuple[Part, ...]], ...]:
    blocks: list[dict[str, tuple[Part, ...]]] = []
    for layer in range(min(n_layers, len(shapes))):
        names = {weight_name(tensor, layer): family.parts(tensor) for tensor in WEIGHTS}
        blocks.append({name: parts for name, parts in names.items() if name in shapes})
    return tuple(blocks)
