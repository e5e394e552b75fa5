"""A GGUF as a model of transformers: the same logits as the weights that it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from alora_cpp import TrainingError
from oracle.tiny_models import make_model, write_gguf, write_hf
from tiny import Key, Kind, rewrite_gguf

if TYPE_CHECKING:
    import torch
    from transformers import AutoModelForCausalLM

    from alora_cpp.train.gguf_base import load_gguf_base
else:
    torch = pytest.importorskip("torch")
    AutoModelForCausalLM = pytest.importorskip("transformers").AutoModelForCausalLM
    from alora_cpp.train.gguf_base import load_gguf_base

pytestmark = pytest.mark.oracle

FAMILIES = ("llama", "mistral", "granite", "granite4", "qwen2", "qwen3", "olmo2", "smollm3")
IDS = torch.arange(10, 90)[None]


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.mark.parametrize(("family", "fuse_qkv"), [*((family, False) for family in FAMILIES), ("granite", True)])
def test_the_same_logits(family: str, fuse_qkv: bool, tmp_path: Path) -> None:
    model = make_model(family)
    file = write_gguf(model, tmp_path / "base.gguf", fuse_qkv=fuse_qkv)
    ours = logits(load_gguf_base(file, torch.float32))
    theirs = logits(AutoModelForCausalLM.from_pretrained(write_hf(model, tmp_path / "hf"), dtype=torch.float32))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_tied_embeddings(tmp_path: Path) -> None:
    model = make_model("granite", changes={"tie_word_embeddings": True})
    ours = load_gguf_base(write_gguf(model, tmp_path / "base.gguf"), torch.float32)
    theirs = AutoModelForCausalLM.from_pretrained(write_hf(model, tmp_path / "hf"), dtype=torch.float32)
    assert ours.get_output_embeddings().weight is ours.get_input_embeddings().weight
    torch.testing.assert_close(logits(ours), logits(theirs), atol=1e-6, rtol=0)


def test_factors_of_the_rotation(tmp_path: Path) -> None:
    """Llama 3's, which GGUF has as a tensor that llama.cpp divides the frequencies by."""
    rotation = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    scaled = make_model("llama", changes={"rope_parameters": rotation})
    theirs = AutoModelForCausalLM.from_pretrained(write_hf(scaled, tmp_path / "hf"), dtype=torch.float32)
    plain = write_gguf(make_model("llama"), tmp_path / "plain.gguf")
    before = load_gguf_base(plain, torch.float32)
    factors = before.model.rotary_emb.inv_freq / theirs.model.rotary_emb.inv_freq
    assert factors.max() > 2
    file = rewrite_gguf(plain, tmp_path / "scaled.gguf", tensors={"rope_freqs.weight": factors.numpy()})
    torch.testing.assert_close(logits(load_gguf_base(file, torch.float32)), logits(theirs), atol=1e-4, rtol=0)
    assert (logits(before) - logits(theirs)).abs().max() > 0.01


def test_linear_scaling_of_the_rotation(tmp_path: Path) -> None:
    rotation = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
    scaled = make_model("llama", changes={"rope_parameters": rotation})
    theirs = AutoModelForCausalLM.from_pretrained(write_hf(scaled, tmp_path / "hf"), dtype=torch.float32)
    keys = {
        "llama__rope__scaling__type": Key("linear", Kind.STRING),
        "llama__rope__scaling__factor": Key(4.0, Kind.FLOAT32),
    }
    file = rewrite_gguf(write_gguf(make_model("llama"), tmp_path / "plain.gguf"), tmp_path / "scaled.gguf", **keys)
    torch.testing.assert_close(logits(load_gguf_base(file, torch.float32)), logits(theirs), atol=1e-5, rtol=0)


def test_quantized(tmp_path: Path) -> None:
    """What is trained over is what the engine computes with: the numbers that the blocks stand for."""
    from alora_cpp.bundled_model import BUNDLED

    model = load_gguf_base(BUNDLED, torch.float32)
    reader = {tensor.name: tensor for tensor in gguf.GGUFReader(BUNDLED).tensors}
    stored = reader["blk.1.ffn_down.weight"]
    assert stored.tensor_type not in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16)
    expected = gguf.dequantize(stored.data, stored.tensor_type)
    np.testing.assert_array_equal(model.model.layers[1].mlp.down_proj.weight.detach().numpy(), expected)


@pytest.mark.parametrize(
    ("family", "keys", "found"),
    [
        ("phi3", {}, "architecture 'phi3'"),
        ("llama", {"llama__expert_count": Key(4, Kind.UINT32)}, "experts"),
        ("llama", {"llama__rope__dimension_count": Key(8, Kind.UINT32)}, "only a part of each head"),
        ("llama", {"llama__rope__scaling__type": Key("yarn", Kind.STRING)}, "'yarn'"),
        ("llama", {"llama__embedding_length": Key("wide", Kind.STRING)}, "llama.embedding_length"),
        ("llama", {"split__count": Key(2, Kind.UINT16)}, "part of a split model"),
    ],
)
def test_refused(family: str, keys: dict[str, Key], found: str, tmp_path: Path) -> None:
    file = write_gguf(make_model(family), tmp_path / "plain.gguf")
    with pytest.raises(TrainingError, match=found):
        load_gguf_base(rewrite_gguf(file, tmp_path / "bent.gguf", **keys), torch.float32)


def test_no_gguf(tmp_path: Path) -> None:
    file = tmp_path / "base.gguf"
    file.write_bytes(b"GGUF, or not")
    with pytest.raises(TrainingError, match="cannot be read as GGUF"):
        load_gguf_base(file, torch.float32)


def test_cut_off(tmp_path: Path) -> None:
    whole = write_gguf(make_model("llama"), tmp_path / "whole.gguf").read_bytes()
    file = tmp_path / "cut.gguf"
    file.write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(TrainingError, match="cannot be read"):
        load_gguf_base(file, torch.float32)


def test_a_tensor_too_many(tmp_path: Path) -> None:
    plain = write_gguf(make_model("llama"), tmp_path / "plain.gguf")
    extra = {"blk.0.attn_sinks.weight": np.zeros(4, np.float32)}
    file = rewrite_gguf(plain, tmp_path / "more.gguf", tensors=extra)
    with pytest.raises(TrainingError, match=r"blk\.0\.attn_sinks\.weight"):
        load_gguf_base(file, torch.float32)
