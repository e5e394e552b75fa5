"""Our files against those of llama.cpp's own converter, where that one is right.

It knows neither rsLoRA nor patterns, so it is asked about plain adapters only; PEFT itself is the
oracle for the others, in `test_peft_scaling.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alora_cpp.convert import convert_adapter
from oracle.adapter_files import AdapterFile
from oracle.tiny_models import (
    ALL_FAMILIES,
    ALL_LINEAR,
    AdapterSpec,
    make_model,
    write_adapter,
    write_gguf,
    write_hf,
)
from oracle.upstream import convert_lora

pytestmark = pytest.mark.oracle

# What the two files may differ in: upstream guesses names and sizes for a model card.
GUESSED = ("general.name", "general.size_label", "general.base_model.", "general.file_type")


# With transformers 5, upstream takes every layer of granitemoehybrid for a state-space layer and leaves the rows of q
# and k as they are. On bases that it converts itself (`tests/oracle/test_families_upstream.py`) they are reordered.
RIGHT = [family for family in ALL_FAMILIES if not family.startswith(("granite4", "granitemoehybrid"))]


@pytest.mark.parametrize(
    ("family", "outtype"),
    [*((family, "f32") for family in RIGHT), *(("llama", t) for t in ("f16", "bf16", "q8_0"))],
)
def test_same_as_upstream(family: str, outtype: str, tmp_path: Path) -> None:
    """Every tensor's name, type, shape and bytes, and every key that upstream writes."""
    model = make_model(family)
    hf_folder = write_hf(model, tmp_path / "base")
    spec = AdapterSpec(targets=ALL_LINEAR, rank=32, alpha=24)
    folder = write_adapter(model, spec, tmp_path / "adapter", base=str(hf_folder))
    theirs = AdapterFile(convert_lora(folder, hf_folder, tmp_path / "theirs.gguf", outtype))
    base = write_gguf(model, tmp_path / "base.gguf")
    ours = AdapterFile(convert_adapter(folder, tmp_path / "ours.gguf", base=base, outtype=outtype))
    assert ours.types == theirs.types
    for name, values in theirs.tensors.items():
        np.testing.assert_array_equal(ours.tensors[name], values, err_msg=name)
    for key, value in theirs.fields.items():
        if not key.startswith(("GGUF.", *GUESSED)):
            assert (key, ours.kinds[key], ours.fields[key]) == (key, theirs.kinds[key], value)
