"""What the converter must know about a base model, and how its sizes are worked out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from alora_cpp.errors import ConversionError

from .families import Family, Part, Width

# No model has as many; a damaged number must not keep anyone busy.
_MOST_LAYERS = 10_000


class Keys(NamedTuple):
    """How one format spells the sizes of a model."""

    layers: str
    embedding: str
    feed_forward: str
    shared_feed_forward: str
    heads: str
    heads_kv: str
    key_length: str
    value_length: str
    ssm_inner: str
    ssm_state: str
    ssm_groups: str
    ssm_heads: str


@dataclass(frozen=True)
class Base:
    """What the converter must know about a base model.

    Attributes:
        family: The rules of its architecture.
        model_type: What Hugging Face calls its kind, or None where only a GGUF is at hand.
        name: Its name, for the adapter's metadata.
        source: The file or folder the facts come from, for messages.
        n_head: Number of query heads.
        n_head_kv: Number of key and value heads.
        widths: Row and column counts of the parts of a block.
        n_vocab: Size of the vocabulary, or None where it is not recorded.
        blocks: For each block, the parts in its weights, by the weights' names in a GGUF.
        shapes: Shapes [out, in] of the tensors in its GGUF, or None where no list is complete.
    """

    family: Family
    model_type: str | None
    name: str
    source: Path
    n_head: int
    n_head_kv: int
    widths: Mapping[Width, int]
    n_vocab: int | None
    blocks: tuple[Mapping[str, tuple[Part, ...]], ...]
    shapes: Mapping[str, tuple[int, ...]] | None

    def height(self, part: Part) -> int:
        """How many rows a part has."""
        return self.widths[part.outputs]

    def shape(self, parts: tuple[Part, ...]) -> tuple[int, int]:
        """Gives the shape [out, in] of a matrix that holds some parts."""
        return sum(map(self.height, parts)), self.widths[parts[0].inputs]

    def parts(self, layer: int) -> set[Part]:
        """Gives the parts that a block has."""
        return {part for parts in self.blocks[layer].values() for part in parts}


def assemble(
    family: Family,
    source: Path,
    values: Mapping[str, Any],
    keys: Keys,
    *,
    name: str,
    n_vocab: int | None,
    blocks: tuple[Mapping[str, tuple[Part, ...]], ...],
    model_type: str | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Base:
    """Works out the widths of the parts from the sizes that a base's file states.

    Args:
        family: The base's family.
        source: The file, for messages.
        values: What it says, by its own keys.
        keys: How it spells the sizes.
        name: As in `Base`.
        n_vocab: As in `Base`.
        blocks: As in `Base`.
        model_type: As in `Base`.
        shapes: As in `Base`.

    Raises:
        ConversionError: A size is missing or is no positive number.
    """
    n_embd = count(values, keys.embedding, source)
    n_head = count(values, keys.heads, source)
    n_head_kv = count(values, keys.heads_kv, source, default=n_head)
    key_length = count(values, keys.key_length, source, default=n_embd // n_head)
    value_length = count(values, keys.value_length, source, default=n_embd // n_head)
    # Where a model has a network beside its experts, that one is adapted.
    shared = values.get(keys.shared_feed_forward)
    widths: dict[Width, int] = {
        "embedding": n_embd,
        "query": n_head * key_length,
        "key": n_head_kv * key_length,
        "value": n_head_kv * value_length,
        "attention": n_head * value_length,
        "feed_forward": count(values, keys.shared_feed_forward if shared else keys.feed_forward, source),
    }
    if values.get(keys.ssm_inner):
        inner, state, groups, heads = (count(values, key, source) for key in keys[-4:])
        widths["ssm_inner"] = inner
        widths["ssm_in"] = 2 * inner + 2 * groups * state + heads
    return Base(
        family=family,
        model_type=model_type,
        name=name,
        source=source,
        n_head=n_head,
        n_head_kv=n_head_kv,
        widths=widths,
        n_vocab=n_vocab,
        blocks=blocks,
        shapes=shapes,
    )


def count(values: Mapping[str, Any], key: str, source: Path, *, default: int | None = None) -> int:
    """Gives a size.

    Raises:
        ConversionError: It is missing or no positive number.
    """
    value = values.get(key)
    if value is None:
        value = default
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConversionError(
            f"{source} says {key} = {value!r}; expected one positive number for the whole model:"
            " check that it is the base that the adapter was trained on"
        )
    return value


def count_layers(values: Mapping[str, Any], key: str, source: Path) -> int:
    """Gives the number of layers, where it can be true."""
    n_layers = count(values, key, source)
    if n_layers > _MOST_LAYERS:
        raise ConversionError(
            f"{source} says {key} = {n_layers}; expected at most {_MOST_LAYERS}: it is damaged, download it again"
        )
    return n_layers
