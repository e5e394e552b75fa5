"""Our files against those of llama.cpp's own converter, where that one is right.

It knows neither rsLoRA nor patterns, so it is asked about plain adapters only; PEFT itself is the
oracle for the others, in `test_peft_scaling.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from alora_cpp.convert import convert_adapter
from oracle.adapter_files import AdapterFile
from oracle.tiny_models import (
    ALL_LINEAR,
    FAMILIES,
    AdapterSpec,
    make_model,
    write_adapter,
    write_gguf,
    write_hf,
)

pytestmark = pytest.mark.oracle

SCRIPT = "convert_lora_to_gguf.py"
REPOSITORY = Path(__file__).resolve().parents[2]

# What the two files may differ in: upstream guesses names and sizes for a model card.
GUESSED = ("general.name", "general.size_label", "general.base_model.", "general.file_type")


@pytest.fixture(scope="module")
def script() -> Path:
    """Finds upstream's converter: in the folder that the builder named, or that the build made."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    named = os.environ.get("ALORA_LLAMA_CPP_DIR")
    if named is not None:
        return Path(named) / SCRIPT
    found = next(REPOSITORY.glob(f"build/**/{SCRIPT}"), None)
    if found is None:
        pytest.skip(f"no {SCRIPT}: set ALORA_LLAMA_CPP_DIR to a folder with llama.cpp's source")
    return found


@pytest.mark.parametrize(
    ("family", "outtype"),
    [*((family, "f32") for family in FAMILIES), *(("llama", t) for t in ("f16", "bf16", "q8_0"))],
)
def test_same_as_upstream(family: str, outtype: str, script: Path, tmp_path: Path) -> None:
    """Every tensor's name, type, shape and bytes, and every key that upstream writes."""
    model = make_model(family)
    hf_folder = write_hf(model, tmp_path / "base")
    spec = AdapterSpec(targets=ALL_LINEAR, rank=32, alpha=24)
    folder = write_adapter(model, spec, tmp_path / "adapter", base=str(hf_folder))
    theirs_path = tmp_path / "theirs.gguf"
    options = ("--base", hf_folder, "--outfile", theirs_path, "--outtype", outtype)
    subprocess.run([sys.executable, script, folder, *options], check=True, capture_output=True)
    theirs = AdapterFile(theirs_path)
    base = write_gguf(model, tmp_path / "base.gguf")
    ours = AdapterFile(convert_adapter(folder, tmp_path / "ours.gguf", base=base, outtype=outtype))
    assert ours.types == theirs.types
    for name, values in theirs.tensors.items():
        np.testing.assert_array_equal(ours.tensors[name], values, err_msg=name)
    for key, value in theirs.fields.items():
        if not key.startswith(("GGUF.", *GUESSED)):
            assert (key, ours.kinds[key], ours.fields[key]) == (key, theirs.kinds[key], value)
