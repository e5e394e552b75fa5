"""An adapter of random numbers for a model: it says nothing sensible, and takes as long as a trained one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from alora_cpp.bench.random_tokens import random_tokens
from alora_cpp.convert.adapter_gguf import write_matrices
from alora_cpp.convert.adapter_metadata import AdapterFacts, add_metadata, identify_base
from alora_cpp.convert.adapter_plan import AdapterPlan, Matrix
from alora_cpp.convert.base import Base, read_base
from alora_cpp.convert.families import KEY, QUERY, VALUE
from alora_cpp.convert.model_card import ModelCard
from alora_cpp.model import Model

# As in the paper on activated LoRA (arXiv 2504.12397), and an invocation of the usual length.
_RANK = 32
_PARTS = {QUERY, KEY, VALUE}
_N_INVOCATION = 4


def write_random_adapter(path: Path, model: Model, *, seed: int) -> None:
    """Writes an adapter of rank 32 for queries, keys and values, with an invocation of four tokens.

    Args:
        path: The file to write.
        model: The model it is for.
        seed: Adapters of other seeds have other numbers and another invocation.

    Raises:
        ConversionError: Adapters for the model's architecture cannot be written.
        OSError: The file cannot be written.
    """
    base = read_base(model.path)
    invocation = random_tokens(model, _N_INVOCATION, seed=seed)
    plan = AdapterPlan(np.float32(_RANK), _matrices(base, seed), next(iter(base.family.model_types)))
    facts = AdapterFacts(
        name=f"random-{seed}",
        base_name=None,
        io_yaml=None,
        invocation_tokens=invocation,
        activation_offset=0,
        chat_template=None,
        card=ModelCard({}, {}),
    )
    writer = gguf.GGUFWriter(path, base.family.name)
    try:
        add_metadata(writer, facts, base, identify_base(model.path, invocation), plan)
        write_matrices(writer, plan.matrices)
    finally:
        writer.close()


def _matrices(base: Base, seed: int) -> list[Matrix]:
    random = np.random.default_rng([seed, 1])
    found = []
    for weights in base.blocks:
        for name, parts in weights.items():
            if set(parts) <= _PARTS:
                n_out, n_in = base.shape(parts)
                # Outputs change by about a tenth, whatever the width.
                for half, shape, size in (("a", (_RANK, n_in), n_in**-0.5), ("b", (n_out, _RANK), 0.1 * _RANK**-0.5)):
                    read = partial(_numbers, random, shape, size)
                    found.append(Matrix(f"{name}.lora_{half}", shape, gguf.GGMLQuantizationType.F16, read))
    return found


def _numbers(random: np.random.Generator, shape: tuple[int, int], size: float) -> npt.NDArray[np.float32]:
    return random.standard_normal(shape, np.float32) * np.float32(size)
