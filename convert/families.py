"""What the supported model families have in common, and where they differ.

A block is made of *parts*, the linear maps that an adapter may change. Hugging Face keeps them in
modules and GGUF in weights, and either may hold several parts, one below the other, as rows of one
matrix: phi3's `qkv_proj` and `attn_qkv` hold query, key and value. So an adapter goes from modules
to weights, and back, by its parts.

A family is one GGUF architecture. To support another one, add a row to `FAMILIES`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, MODEL_TENSOR, TENSOR_NAMES

Width = Literal["embedding", "query", "key", "value", "attention", "feed_forward", "ssm_in", "ssm_inner"]


class Part(NamedTuple):
    """A linear map of a block, and how wide its input and its output are."""

    name: str
    inputs: Width
    outputs: Width


QUERY = Part("query", "embedding", "query")
KEY = Part("key", "embedding", "key")
VALUE = Part("value", "embedding", "value")
OUTPUT = Part("output", "attention", "embedding")
GATE = Part("gate", "embedding", "feed_forward")
UP = Part("up", "embedding", "feed_forward")
DOWN = Part("down", "feed_forward", "embedding")
SSM_IN = Part("ssm in", "embedding", "ssm_in")
SSM_OUT = Part("ssm out", "ssm_inner", "embedding")

MODULES: Mapping[str, tuple[Part, ...]] = {
    "self_attn.q_proj": (QUERY,),
    "self_attn.k_proj": (KEY,),
    "self_attn.v_proj": (VALUE,),
    "self_attn.qkv_proj": (QUERY, KEY, VALUE),
    "self_attn.o_proj": (OUTPUT,),
    "mlp.gate_proj": (GATE,),
    "mlp.up_proj": (UP,),
    "mlp.gate_up_proj": (GATE, UP),
    "mlp.down_proj": (DOWN,),
    "shared_mlp.input_linear": (GATE, UP),
    "shared_mlp.output_linear": (DOWN,),
    "mamba.in_proj": (SSM_IN,),
    "mamba.out_proj": (SSM_OUT,),
}
"""The parts in each module of a Hugging Face block, from the top row down."""

WEIGHTS: Mapping[MODEL_TENSOR, tuple[Part, ...]] = {
    MODEL_TENSOR.ATTN_Q: (QUERY,),
    MODEL_TENSOR.ATTN_K: (KEY,),
    MODEL_TENSOR.ATTN_V: (VALUE,),
    MODEL_TENSOR.ATTN_QKV: (QUERY, KEY, VALUE),
    MODEL_TENSOR.ATTN_OUT: (OUTPUT,),
    MODEL_TENSOR.FFN_GATE: (GATE,),
    MODEL_TENSOR.FFN_UP: (UP,),
    MODEL_TENSOR.FFN_DOWN: (DOWN,),
    # Beside experts stands the network that every token passes, and only that one is adapted.
    MODEL_TENSOR.FFN_GATE_SHEXP: (GATE,),
    MODEL_TENSOR.FFN_UP_SHEXP: (UP,),
    MODEL_TENSOR.FFN_DOWN_SHEXP: (DOWN,),
    MODEL_TENSOR.SSM_IN: (SSM_IN,),
    MODEL_TENSOR.SSM_OUT: (SSM_OUT,),
}
"""The parts in each weight of a GGUF block; `Family.parts` knows the exceptions."""

_ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
_PLAIN = (*_ATTENTION, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
_FUSED = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
_SHARED = (*_ATTENTION, "shared_mlp.input_linear", "shared_mlp.output_linear")
_HYBRID = (*_SHARED, "mamba.in_proj", "mamba.out_proj")


@dataclass(frozen=True)
class Family:
    """One GGUF architecture and the rules for its adapters.

    Attributes:
        arch: The GGUF architecture.
        model_types: The modules of a block by `model_type` in Hugging Face configurations that
            become this architecture, the usual one first. A block need not have all of them.
        interleaved_rotary: Whether llama.cpp rotates neighbouring pairs of rows in this
            architecture. Hugging Face rotates the first half of a head against the second, so
            the rows of q and k are reordered in the base's GGUF, and with them those of B.
            It is a property of the architecture, not of a file: every GGUF of it has the order.
        fused: Whether its GGUFs have query, key and value in one weight, and the gate above the
            rows of `ffn_up`. (A GGUF of another family may have the first, too.)
        defaults: Sizes that configurations of this family may leave out.
    """

    arch: MODEL_ARCH
    model_types: Mapping[str, tuple[str, ...]]
    interleaved_rotary: bool
    fused: bool = False
    defaults: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The architecture as `general.architecture` spells it."""
        return MODEL_ARCH_NAMES[self.arch]

    def parts(self, tensor: MODEL_TENSOR) -> tuple[Part, ...]:
        """Gives the parts that a weight of a block holds, from the top row down."""
        return (GATE, UP) if self.fused and tensor is MODEL_TENSOR.FFN_UP else WEIGHTS[tensor]

    def usual_weights(self, *, recurrent: bool, experts: bool) -> tuple[MODEL_TENSOR, ...]:
        """Lists the weights that a block has in GGUFs of this family.

        Args:
            recurrent: Whether the block has a state-space layer in place of attention.
            experts: Whether it has experts.
        """
        t = MODEL_TENSOR
        if recurrent:
            mixer: tuple[MODEL_TENSOR, ...] = (t.SSM_IN, t.SSM_OUT)
        else:
            mixer = (*((t.ATTN_QKV,) if self.fused else (t.ATTN_Q, t.ATTN_K, t.ATTN_V)), t.ATTN_OUT)
        if experts:
            return (*mixer, t.FFN_GATE_SHEXP, t.FFN_UP_SHEXP, t.FFN_DOWN_SHEXP)
        return (*mixer, *(() if self.fused else (t.FFN_GATE,)), t.FFN_UP, t.FFN_DOWN)


FAMILIES: tuple[Family, ...] = (
    Family(MODEL_ARCH.LLAMA, {"llama": _PLAIN, "mistral": _PLAIN}, interleaved_rotary=True),
    # Granite 4 without state-space layers is `granitemoehybrid` to Hugging Face alone.
    Family(MODEL_ARCH.GRANITE, {"granite": _PLAIN, "granitemoehybrid": _SHARED}, interleaved_rotary=True),
    Family(
        MODEL_ARCH.GRANITE_MOE,
        {"granitemoe": _ATTENTION, "granitemoeshared": _SHARED, "granitemoehybrid": _SHARED},
        interleaved_rotary=True,
    ),
    Family(MODEL_ARCH.GRANITE_HYBRID, {"granitemoehybrid": _HYBRID}, interleaved_rotary=True),
    Family(MODEL_ARCH.QWEN2, {"qwen2": _PLAIN}, interleaved_rotary=False),
    Family(MODEL_ARCH.QWEN3, {"qwen3": _PLAIN}, interleaved_rotary=False),
    Family(MODEL_ARCH.GEMMA2, {"gemma2": _PLAIN}, interleaved_rotary=False),
    Family(
        MODEL_ARCH.GEMMA3,
        {"gemma3_text": _PLAIN, "gemma3": _PLAIN},
        interleaved_rotary=False,
        defaults={"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256},
    ),
    Family(MODEL_ARCH.PHI3, {"phi3": _FUSED}, interleaved_rotary=False, fused=True),
    Family(MODEL_ARCH.OLMO2, {"olmo2": _PLAIN}, interleaved_rotary=False),
    Family(MODEL_ARCH.SMOLLM3, {"smollm3": _PLAIN}, interleaved_rotary=True),
)

# Where the text's blocks are in models that see as well.
_PREFIXES: Mapping[str, str] = {"gemma3": "model.language_model.layers."}

_BY_ARCHITECTURE = {family.name: family for family in FAMILIES}

ARCHITECTURES: tuple[str, ...] = tuple(_BY_ARCHITECTURE)
MODEL_TYPES: tuple[str, ...] = tuple(dict.fromkeys(kind for family in FAMILIES for kind in family.model_types))

# Models with more than text have the text's blocks one or two levels deeper.
_MODULE = re.compile(
    r"(?P<prefix>(?:(?:model|language_model)\.){0,3}layers\.)(?P<layer>0|[1-9][0-9]{0,5})\."
    r"(?P<module>" + "|".join(map(re.escape, MODULES)) + r"|(?:gate|up|gate_up|down)_proj)"
)


class Location(NamedTuple):
    """Where a module is.

    Attributes:
        prefix: What stands before the block's number.
        layer: The block's number.
        module: Its name inside the block, one of `MODULES`.
    """

    prefix: str
    layer: int
    module: str

    def __str__(self) -> str:
        """Spells the module as the Hugging Face model does."""
        return f"{self.prefix}{self.layer}.{self.module}"


def family_of_architecture(name: str) -> Family | None:
    """Finds the family of a `general.architecture`."""
    return _BY_ARCHITECTURE.get(name)


def families_of_model_type(name: str) -> tuple[Family, ...]:
    """Finds the families that models of a Hugging Face `model_type` may belong to."""
    return tuple(family for family in FAMILIES if name in family.model_types)


def block_prefix(model_type: str) -> str:
    """Says what stands before a block's number in the names of a model's modules."""
    return _PREFIXES.get(model_type, "model.layers.")


def locate(name: str) -> Location | None:
    """Says where a module is.

    Args:
        name: Its name inside the model, such as `model.layers.3.self_attn.q_proj`. Some published
            adapters leave out `mlp.`.

    Returns:
        Its place, or None where the module holds no part that we adapt.
    """
    match = _MODULE.fullmatch(name)
    if match is None:
        return None
    module = match["module"]
    return Location(match["prefix"], int(match["layer"]), module if module in MODULES else f"mlp.{module}")


def weight_name(tensor: MODEL_TENSOR, layer: int) -> str:
    """Spells a block's weight as GGUF does."""
    return TENSOR_NAMES[tensor].format(bid=layer) + ".weight"


def block_modules(modules: Collection[str], parts: Collection[Part]) -> list[str]:
    """Lists those modules that a block with some parts has."""
    return [module for module in modules if set(MODULES[module]) <= set(parts)]
