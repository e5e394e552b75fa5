"""The mutator of each target: changes where a file's format has joints, so that most pass the first checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from fuzz.gguf_mutator import mutate_gguf
from fuzz.json_mutator import mutate_config
from fuzz.safetensors_mutator import mutate_safetensors

MUTATORS: Mapping[str, Callable[[bytes, Random], bytes | None]] = {
    "safetensors": mutate_safetensors,
    "config": mutate_config,
    "adapter": mutate_gguf,
}
