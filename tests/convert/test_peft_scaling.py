"""Ranks and scales against those that PEFT itself works out, expressions included."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from alora_cpp.convert import convert_adapter
from oracle.adapter_files import AdapterFile
from oracle.tiny_models import make_model, to_gguf_rows, write_gguf, write_hf

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig, get_peft_model

    from oracle import peft_oracle
else:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    pytest.importorskip("peft")
    from peft import LoraConfig, get_peft_model

    from oracle import peft_oracle

pytestmark = pytest.mark.oracle

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "names": {"rank_pattern": {"k_proj": 3}, "alpha_pattern": {"mlp.up_proj": 7.5}},
    "expressions": {
        "rank_pattern": {r"layers\.0\..*": 5, r"self_attn\.[qk]_proj": 2},
        "alpha_pattern": {r"(q|down)_proj": 1, r".*\.1\.mlp\.\w+": 40},
    },
    # The first that matches counts, in the saved order, which is the alphabet's; a part of a
    # name's component does not match.
    "order": {"rank_pattern": {".*v_proj": 2, "_proj": 9, "v_proj": 6}},
    "anchored": {"alpha_pattern": {"^model.layers.1.mlp.up_proj": 3, "model.*gate_proj": 5}},
    "everything": {
        "use_rslora": True,
        "rank_pattern": {"o_proj": 16, r"layers\.1\.mlp\..*": 1},
        "alpha_pattern": {"o_proj": 4, "k_proj": 0},
    },
}


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize("case", SETTINGS)
def test_same_as_peft(case: str, family: str, tmp_path: Path) -> None:
    """Each module's whole contribution: scaling times B times A."""
    tiny = make_model(family)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        lora_alpha=6,
        target_modules="all-linear",
        init_lora_weights=False,
        alora_invocation_tokens=[5, 6],
        **SETTINGS[case],
    )
    torch.manual_seed(0)
    hf_folder = write_hf(tiny, tmp_path / "hf")
    trained = get_peft_model(peft_oracle.load_base(hf_folder), config)
    trained.save_pretrained(str(tmp_path / "adapter"))
    adapted = peft_oracle.load_adapter(peft_oracle.load_base(hf_folder), tmp_path / "adapter")
    base = write_gguf(tiny, tmp_path / "base.gguf")
    out = convert_adapter(tmp_path / "adapter", tmp_path / "out.gguf", base=base, outtype="f32")
    file, compared = AdapterFile(out), []
    for name, module in adapted.get_base_model().named_modules():
        if not hasattr(module, "lora_A"):
            continue
        a = module.lora_A["default"].weight.detach().numpy().astype(np.float64)
        b = module.lora_B["default"].weight.detach().numpy()
        b = to_gguf_rows(tiny, name, b).astype(np.float64)
        weight = gguf_name(name)
        expected = b @ a * module.scaling["default"]
        error = np.abs(file.delta(weight) - expected).max()
        assert error <= 3e-7 * np.abs(expected).max(), name
        assert len(file.tensors[f"{weight}.lora_a"]) == module.r["default"], name
        compared.append(weight)
    assert sorted(compared) == file.weights()
    assert len(compared) == 14


def gguf_name(module: str) -> str:
    """Spells `model.layers.3.mlp.up_proj` as llama.cpp does."""
    _, _, layer, _, projection = module.split(".")
    short = {"o_proj": "attn_output", "gate_proj": "ffn_gate", "up_proj": "ffn_up"}
    short["down_proj"] = "ffn_down"
    letter = projection.removesuffix("_proj")
    return f"blk.{layer}.{short.get(projection, f'attn_{letter}')}.weight"
