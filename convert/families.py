"""What the supported model families have in common, and where they differ.

A family is one GGUF architecture. To support another one, add a row to `FAMILIES`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import gguf

Width = Literal["embedding", "query", "key", "value", "feed_forward"]


class Projection(NamedTuple):
    """A linear layer that an adapter may target."""

    tensor: gguf.MODEL_TENSOR
    inputs: Width
    outputs: Width


PROJECTIONS: Mapping[str, Projection] = {
    "self_attn.q_proj": Projection(gguf.MODEL_TENSOR.ATTN_Q, "embedding", "query"),
    "self_attn.k_proj": Projection(gguf.MODEL_TENSOR.ATTN_K, "embedding", "key"),
    "self_attn.v_proj": Projection(gguf.MODEL_TENSOR.ATTN_V, "embedding", "value"),
    "self_attn.o_proj": Projection(gguf.MODEL_TENSOR.ATTN_OUT, "query", "embedding"),
    "mlp.gate_proj": Projection(gguf.MODEL_TENSOR.FFN_GATE, "embedding", "feed_forward"),
    "mlp.up_proj": Projection(gguf.MODEL_TENSOR.FFN_UP, "embedding", "feed_forward"),
    "mlp.down_proj": Projection(gguf.MODEL_TENSOR.FFN_DOWN, "feed_forward", "embedding"),
}


@dataclass(frozen=True)
class Family:
    """One GGUF architecture and the rules for its adapters.

    Attributes:
        arch: The GGUF architecture.
        model_types: The values of `model_type` in Hugging Face configurations that become it.
        interleaved_rotary: Whether llama.cpp rotates neighbouring pairs of rows in this
            architecture. Hugging Face rotates the first half of a head against the second, so
            the rows of q and k are reordered in the base's GGUF, and with them those of B.
            It is a property of the architecture, not of a file: every GGUF of it has the order.
    """

    arch: gguf.MODEL_ARCH
    model_types: tuple[str, ...]
    interleaved_rotary: bool

    @property
    def name(self) -> str:
        """The architecture as `general.architecture` spells it."""
        return gguf.MODEL_ARCH_NAMES[self.arch]


FAMILIES: tuple[Family, ...] = (
    Family(gguf.MODEL_ARCH.LLAMA, ("llama", "mistral"), interleaved_rotary=True),
    Family(gguf.MODEL_ARCH.GRANITE, ("granite",), interleaved_rotary=True),
    Family(gguf.MODEL_ARCH.QWEN2, ("qwen2",), interleaved_rotary=False),
    Family(gguf.MODEL_ARCH.QWEN3, ("qwen3",), interleaved_rotary=False),
)

_BY_ARCHITECTURE = {family.name: family for family in FAMILIES}
_BY_MODEL_TYPE = {kind: family for family in FAMILIES for kind in family.model_types}

ARCHITECTURES: tuple[str, ...] = tuple(_BY_ARCHITECTURE)
MODEL_TYPES: tuple[str, ...] = tuple(_BY_MODEL_TYPE)

_MODULE = re.compile(
    r"model\.layers\.(?P<layer>0|[1-9][0-9]{0,5})\.(?P<projection>" + "|".join(map(re.escape, PROJECTIONS)) + ")"
)


def family_of_architecture(name: str) -> Family | None:
    """Finds the family of a `general.architecture`."""
    return _BY_ARCHITECTURE.get(name)


def family_of_model_type(name: str) -> Family | None:
    """Finds the family of a Hugging Face `model_type`."""
    return _BY_MODEL_TYPE.get(name)


def locate(module: str) -> tuple[int, Projection] | None:
    """Says which layer and projection a module name means.

    Args:
        module: The name inside the model, such as `model.layers.3.self_attn.q_proj`.

    Returns:
        Layer and projection, or None where the module is no projection that we adapt.
    """
    match = _MODULE.fullmatch(module)
    if match is None:
        return None
    return int(match["layer"]), PROJECTIONS[match["projection"]]


def module_name(layer: int, projection: str) -> str:
    """Spells a module the way Hugging Face models of all these families do."""
    return f"model.layers.{layer}.{projection}"
