"""Small random models and adapters of every supported family, the same on every machine.

The weights come from a seed, so nothing large is kept: a test writes a model as the folder that
transformers loads and as the GGUF that llama.cpp loads, and an adapter as PEFT saves it. Needs
numpy, gguf and safetensors, but neither torch nor transformers, and none of our own code: what
the tests compare with must not share our mistakes.
"""

from .adapters import (
    ALL_LINEAR,
    ATTENTION,
    INVOCATION,
    STATE_SPACE,
    AdapterSpec,
    adapter_weights,
    target_modules,
    write_adapter,
)
from .configs import ALL_FAMILIES, COMMON, FAMILIES, HYBRID_FAMILIES, N_LAYERS, N_VOCAB, SLIDING_FAMILIES
from .gguf_file import to_gguf_rows, write_gguf
from .model import Array, TinyModel, make_model, write_hf

__all__ = [
    "ALL_FAMILIES",
    "ALL_LINEAR",
    "ATTENTION",
    "COMMON",
    "FAMILIES",
    "HYBRID_FAMILIES",
    "INVOCATION",
    "N_LAYERS",
    "N_VOCAB",
    "SLIDING_FAMILIES",
    "STATE_SPACE",
    "AdapterSpec",
    "Array",
    "TinyModel",
    "adapter_weights",
    "make_model",
    "target_modules",
    "to_gguf_rows",
    "write_adapter",
    "write_gguf",
    "write_hf",
]
