"""Folders that came back from GGUF, loaded by PEFT itself: what they compute is what the first ones computed."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from alora_cpp.convert import convert_adapter, write_peft_folder
from oracle.adapter_files import Array, edit_config, edit_weights
from oracle.cases import ADAPTERS, prompt_ids
from oracle.tiny_models import ALL_FAMILIES, ALL_LINEAR, AdapterSpec, make_model, write_adapter, write_gguf, write_hf

if TYPE_CHECKING:
    from oracle import peft_oracle
else:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    pytest.importorskip("peft")
    from oracle import peft_oracle

pytestmark = pytest.mark.oracle


def logits(base: Path, adapter: Path, ids: list[int]) -> Array:
    """What PEFT computes; that it finds fewer or other matrices than it wants is only a warning there."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*adapter keys.*")
        warnings.filterwarnings("error", message=".*[Uu]nexpected.*")
        return peft_oracle.logits(peft_oracle.load_adapter(peft_oracle.load_base(base), adapter), ids)


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_the_same_logits(family: str, tmp_path: Path) -> None:
    """To the bit, where the numbers are the same; else up to rounding."""
    model = make_model(family)
    base, hf_folder = write_gguf(model, tmp_path / "base.gguf"), write_hf(model, tmp_path / "hf")
    plain = peft_oracle.logits(
        peft_oracle.load_base(hf_folder), prompt_ids("middle", ADAPTERS["qkv-r4"].invocation, seed=1)
    )
    for name in ("all-r4", "all-r32-rslora", "lora", "patterns"):
        spec = ADAPTERS[name]
        there = write_adapter(model, spec, tmp_path / name, base="org/tiny")
        file = convert_adapter(there, tmp_path / f"{name}.gguf", base=base, outtype="f32")
        back = write_peft_folder(file, tmp_path / f"{name}-back")
        ids = prompt_ids("middle", spec.invocation, seed=1)
        ours, theirs = (logits(hf_folder, folder, ids) for folder in (back, there))
        if spec.alpha_pattern:
            np.testing.assert_allclose(ours, theirs, atol=1e-4)
        else:
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
        assert np.abs(ours - plain).max() > 0.01


@pytest.mark.parametrize("kept", [("layers.1.",), ("layers.0.self_attn.v_proj", "layers.1.mlp.up_proj")])
def test_peft_adapts_no_other_modules(kept: tuple[str, ...], tmp_path: Path) -> None:
    """Of a model of which only some modules are adapted; one that PEFT wanted besides would be a warning."""
    model = make_model("llama")
    base, hf_folder = write_gguf(model, tmp_path / "base.gguf"), write_hf(model, tmp_path / "hf")
    there = write_adapter(model, AdapterSpec(targets=ALL_LINEAR), tmp_path / "adapter", base="org/tiny")

    def drop_others(tensors: dict[str, Array]) -> None:
        for name in [name for name in tensors if not any(part in name for part in kept)]:
            del tensors[name]

    edit_weights(there, drop_others)
    edit_config(there, target_modules=r".*layers\.1\..*proj" if len(kept) == 1 else "|".join(f".*{k}" for k in kept))
    file = convert_adapter(there, tmp_path / "adapter.gguf", base=base, outtype="f32")
    back = write_peft_folder(file, tmp_path / "back", base=base)
    ids = prompt_ids("middle", AdapterSpec().invocation, seed=2)
    np.testing.assert_array_equal(logits(hf_folder, back, ids), logits(hf_folder, there, ids))
