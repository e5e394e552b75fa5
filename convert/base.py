"""Facts about the base model that an adapter belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from alora_cpp.errors import ConversionError

from .families import (
    ARCHITECTURES,
    MODEL_TYPES,
    Family,
    Projection,
    Width,
    family_of_architecture,
    family_of_model_type,
)
from .gguf_header import read_header


class _Keys(NamedTuple):
    """How one format spells the sizes of a model."""

    layers: str
    embedding: str
    feed_forward: str
    heads: str
    heads_kv: str
    key_length: str
    value_length: str


_CONFIG_KEYS = _Keys(
    layers="num_hidden_layers",
    embedding="hidden_size",
    feed_forward="intermediate_size",
    heads="num_attention_heads",
    heads_kv="num_key_value_heads",
    key_length="head_dim",
    value_length="head_dim",
)
_GGUF_KEYS = _Keys(
    layers="block_count",
    embedding="embedding_length",
    feed_forward="feed_forward_length",
    heads="attention.head_count",
    heads_kv="attention.head_count_kv",
    key_length="attention.key_length",
    value_length="attention.value_length",
)


@dataclass(frozen=True)
class Base:
    """What the converter must know about a base model.

    Attributes:
        family: The rules of its architecture.
        name: Its name, for the adapter's metadata.
        source: The file or folder the facts come from, for messages.
        n_layers: Number of blocks.
        n_head: Number of query heads.
        n_head_kv: Number of key and value heads.
        widths: Row and column counts of the projections.
        n_vocab: Size of the vocabulary, or None where it is not recorded.
        shapes: Shapes [out, in] of the tensors in its GGUF, or None where no list is complete.
    """

    family: Family
    name: str
    source: Path
    n_layers: int
    n_head: int
    n_head_kv: int
    widths: Mapping[Width, int]
    n_vocab: int | None
    shapes: Mapping[str, tuple[int, ...]] | None

    def shape(self, projection: Projection, tensor: str) -> tuple[int, ...]:
        """Gives the shape [out, in] of a projection's weight.

        Args:
            projection: The projection.
            tensor: The name of its weight in a GGUF.

        Raises:
            ConversionError: The base has no such tensor.
        """
        if self.shapes is None:
            return self.widths[projection.outputs], self.widths[projection.inputs]
        if tensor not in self.shapes:
            raise ConversionError(
                f"the base {self.source} has no tensor {tensor}, which the adapter targets;"
                " expected a base with separate, dense projections:"
                " convert against the base that the adapter was trained on"
            )
        return self.shapes[tensor]


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
    family = family_of_model_type(str(config.get("model_type")))
    if family is None:
        raise ConversionError(
            f"{path} says model_type {config.get('model_type')!r}; expected one of"
            f" {', '.join(MODEL_TYPES)}: adapters for other bases are not supported yet"
        )
    n_vocab = _count(config, "vocab_size", path) if "vocab_size" in config else None
    return _assemble(family, folder.resolve().name, path, config, _CONFIG_KEYS, n_vocab, None)


def _from_gguf(path: Path) -> Base:
    try:
        header = read_header(path)
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
    keys = _Keys(*(f"{architecture}.{key}" for key in _GGUF_KEYS))
    embedding = shapes.get("token_embd.weight")
    n_vocab = header.lengths.get("tokenizer.ggml.tokens") if not embedding else embedding[0]
    # The other parts of a split model hold tensors of which this part knows nothing.
    complete = fields.get("split.count", 0) in (0, 1)
    name = str(fields.get("general.name", path.stem))
    return _assemble(family, name, path, fields, keys, n_vocab, shapes if complete else None)


def _assemble(
    family: Family,
    name: str,
    source: Path,
    values: Mapping[str, Any],
    keys: _Keys,
    n_vocab: int | None,
    shapes: Mapping[str, tuple[int, ...]] | None,
) -> Base:
    n_embd = _count(values, keys.embedding, source)
    n_head = _count(values, keys.heads, source)
    n_head_kv = _count(values, keys.heads_kv, source, default=n_head)
    key_length = _count(values, keys.key_length, source, default=n_embd // n_head)
    value_length = _count(values, keys.value_length, source, default=n_embd // n_head)
    return Base(
        family=family,
        name=name,
        source=source,
        n_layers=_count(values, keys.layers, source),
        n_head=n_head,
        n_head_kv=n_head_kv,
        widths={
            "embedding": n_embd,
            "query": n_head * key_length,
            "key": n_head_kv * key_length,
            "value": n_head_kv * value_length,
            "feed_forward": _count(values, keys.feed_forward, source),
        },
        n_vocab=n_vocab,
        shapes=shapes,
    )


def _count(values: Mapping[str, Any], key: str, source: Path, *, default: int | None = None) -> int:
    value = values.get(key)
    if value is None:
        value = default
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConversionError(
            f"{source} says {key} = {value!r}; expected one positive number for the whole model:"
            " check that it is the base that the adapter was trained on"
        )
    return value
