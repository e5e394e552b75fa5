"""Bases as llama.cpp's own converter writes them: the tiny models' writer agrees with it, and adapters run on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from alora_cpp import Model
from alora_cpp.convert import convert_adapter
from oracle.adapter_files import AdapterFile
from oracle.cases import TOLERANCE, prompt_ids
from oracle.engine import largest_difference, make_context, queue_prompt
from oracle.tiny_models import (
    ALL_FAMILIES,
    ALL_LINEAR,
    STATE_SPACE,
    AdapterSpec,
    make_model,
    write_adapter,
    write_gguf,
    write_hf,
)
from oracle.upstream import convert_model

if TYPE_CHECKING:
    from oracle import peft_oracle
else:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    pytest.importorskip("peft")
    from oracle import peft_oracle

pytestmark = pytest.mark.oracle

# Upstream knows BPE tokenizers by their checksums only, and these families have no other kind.
ACCEPTED = [family for family in ALL_FAMILIES if family not in ("qwen3", "olmo2")]

SPEC = AdapterSpec(targets=(*ALL_LINEAR, *STATE_SPACE), rank=6, alpha=9, use_rslora=True)


@pytest.mark.parametrize(
    ("family", "options"),
    [*((family, ()) for family in ACCEPTED), ("llama", ("--fuse-qkv",)), ("granite", ("--fuse-qkv",))],
)
def test_base_by_upstream(family: str, options: tuple[str, ...], tmp_path: Path) -> None:
    """Every tensor is where our writer puts it, and an adapter converted for this file computes what PEFT does."""
    tiny = make_model(family, seed=5)
    hf_folder = write_hf(tiny, tmp_path / "hf")
    base = convert_model(hf_folder, tmp_path / "upstream.gguf", *options)
    theirs = AdapterFile(base).tensors
    ours = AdapterFile(write_gguf(tiny, tmp_path / "ours.gguf", fuse_qkv="--fuse-qkv" in options)).tensors
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-6, err_msg=name)
    folder = write_adapter(tiny, SPEC, tmp_path / "adapter", base=str(hf_folder))
    adapted = peft_oracle.load_adapter(peft_oracle.load_base(hf_folder), folder)
    ids = prompt_ids("middle", SPEC.invocation, seed=3)
    file = convert_adapter(folder, tmp_path / "adapter.gguf", base=base, outtype="f32")
    with Model(base) as model:
        adapter = model.load_adapter(file)
        context = make_context(model, n_ubatch=512)
        branch = queue_prompt(context, adapter, ids)
        context.decode()
        assert largest_difference(branch.logits(rows=len(ids)), peft_oracle.logits(adapted, ids)) < TOLERANCE


def test_fused_rows(tmp_path: Path) -> None:
    """The option that fuses q, k and v does so; otherwise the cases above would compare nothing new."""
    hf_folder = write_hf(make_model("llama"), tmp_path / "hf")
    names = AdapterFile(convert_model(hf_folder, tmp_path / "fused.gguf", "--fuse-qkv")).tensors
    assert "blk.0.attn_qkv.weight" in names
    assert "blk.0.attn_q.weight" not in names
