"""Adapters of separate projections on bases that have fused them, and the other way round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alora_cpp import Model
from alora_cpp.convert import convert_adapter
from alora_cpp.convert.families import GATE, KEY, QUERY, UP, VALUE, Part
from alora_cpp.convert.regroup import join_b, regroup
from oracle.adapter_files import AdapterFile
from oracle.cases import ADAPTERS, prompt_ids
from oracle.engine import largest_difference, make_context, queue_prompt
from oracle.tiny_models import ATTENTION, AdapterSpec, adapter_weights, make_model, write_adapter, write_gguf

HEIGHTS = {QUERY: 8, KEY: 4, VALUE: 4, GATE: 6, UP: 6}


def both_ways(spec: AdapterSpec, tmp_path: Path, family: str) -> tuple[AdapterFile, AdapterFile]:
    """Converts one adapter for a base with separate projections and for the same base with fused ones."""
    tiny = make_model(family)
    folder = write_adapter(tiny, spec, tmp_path / "adapter")
    files = []
    for fused in (False, True):
        base = write_gguf(tiny, tmp_path / f"base-{fused}.gguf", fuse_qkv=fused)
        files.append(AdapterFile(convert_adapter(folder, tmp_path / f"{fused}.gguf", base=base, outtype="f32")))
    return files[0], files[1]


@pytest.mark.parametrize("name", ["qkv-r4", "patterns", "patterns-rslora"])
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_separate_adapter_on_a_fused_base(name: str, family: str, tmp_path: Path) -> None:
    """What it adds to the fused weight is what it adds to the three, one below the other."""
    separate, fused = both_ways(ADAPTERS[name], tmp_path, family)
    for layer in (0, 1):
        expected = np.concatenate([separate.delta(f"blk.{layer}.attn_{letter}.weight") for letter in "qkv"])
        ours = fused.delta(f"blk.{layer}.attn_qkv.weight")
        assert np.abs(ours - expected).max() < 1e-6 * np.abs(expected).max()
    others = [weight for weight in separate.weights() if ".attn_output." in weight or ".ffn_" in weight]
    assert fused.weights() == sorted([*others, "blk.0.attn_qkv.weight", "blk.1.attn_qkv.weight"])
    for weight in others:
        np.testing.assert_allclose(fused.delta(weight), separate.delta(weight), rtol=1e-5, atol=1e-7)


def test_numbers_stay_as_they_are_in_a_fused_base(tmp_path: Path) -> None:
    """The sum of the ranks is made good by the file's alpha, not by the numbers."""
    _, fused = both_ways(AdapterSpec(rank=4, alpha=6), tmp_path, "qwen3")
    weights = adapter_weights(make_model("qwen3"), AdapterSpec(rank=4, alpha=6))
    a = fused.tensors["blk.1.attn_qkv.weight.lora_a"]
    b = fused.tensors["blk.1.attn_qkv.weight.lora_b"]
    assert fused.fields["adapter.lora.alpha"] == 18
    assert a.shape == (12, 64)
    row = 0
    for index, target in enumerate(ATTENTION):
        module = f"base_model.model.model.layers.1.{target}"
        columns = slice(4 * index, 4 * index + 4)
        values = weights[f"{module}.lora_B.weight"]
        np.testing.assert_array_equal(a[columns], weights[f"{module}.lora_A.weight"])
        np.testing.assert_array_equal(b[row : row + len(values), columns], values)
        row += len(values)
    assert row == len(b)
    assert np.count_nonzero(b) == sum(
        weights[f"base_model.model.model.layers.1.{t}.lora_B.weight"].size for t in ATTENTION
    )


def test_one_of_three_on_a_fused_base(tmp_path: Path) -> None:
    """Rows that the adapter does not change get zeros."""
    _, fused = both_ways(AdapterSpec(targets=("self_attn.k_proj",)), tmp_path, "llama")
    delta = fused.delta("blk.0.attn_qkv.weight")
    assert np.abs(delta[64:96]).min() > 0
    assert not delta[:64].any()
    assert not delta[96:].any()


def test_both_compute_the_same(tmp_path: Path) -> None:
    """In the engine, on the two bases."""
    spec = ADAPTERS["patterns-rslora"]
    both_ways(spec, tmp_path, "llama")
    ids = prompt_ids("middle", spec.invocation, seed=1)
    logits = []
    for fused in (False, True):
        with Model(tmp_path / f"base-{fused}.gguf") as model:
            context = make_context(model, n_ubatch=512)
            branch = queue_prompt(context, model.load_adapter(tmp_path / f"{fused}.gguf"), ids)
            context.decode()
            logits.append(branch.logits(rows=len(ids)))
    assert largest_difference(logits[0], logits[1]) < 5e-5


def test_module_of_two_parts_on_a_base_that_separates_them(tmp_path: Path) -> None:
    """Granite 4's `input_linear` holds what GGUF has as gate and up: both get its A, each its rows of B."""
    tiny, spec = make_model("granite4"), AdapterSpec(targets=("mlp.gate_proj",), rank=4, alpha=4)
    folder = write_adapter(tiny, spec, tmp_path / "adapter")
    base = write_gguf(tiny, tmp_path / "base.gguf")
    file = AdapterFile(convert_adapter(folder, tmp_path / "out.gguf", base=base, outtype="f32"))
    weights = adapter_weights(tiny, spec)
    module = "base_model.model.model.layers.1.shared_mlp.input_linear"
    gate, up = np.split(weights[f"{module}.lora_B.weight"], 2)
    for name, rows in (("gate", gate), ("up", up)):
        np.testing.assert_array_equal(
            file.tensors[f"blk.1.ffn_{name}.weight.lora_a"], weights[f"{module}.lora_A.weight"]
        )
        np.testing.assert_array_equal(file.tensors[f"blk.1.ffn_{name}.weight.lora_b"], rows)


@pytest.mark.parametrize(
    ("sources", "targets"),
    [
        ({"qkv": (QUERY, KEY, VALUE)}, {"q": (QUERY,), "k": (KEY,), "v": (VALUE,)}),
        ({"q": (QUERY,), "v": (VALUE,)}, {"qkv": (QUERY, KEY, VALUE)}),
        ({"kq": (KEY, QUERY), "v": (VALUE,)}, {"qkv": (QUERY, KEY, VALUE)}),
        ({"gu": (GATE, UP)}, {"ug": (UP, GATE)}),
        ({"gu": (GATE, UP)}, {"up": (UP,)}),
    ],
)
def test_every_part_keeps_its_product(
    sources: dict[str, tuple[Part, ...]], targets: dict[str, tuple[Part, ...]]
) -> None:
    """Whatever holds it before and after."""
    random = np.random.default_rng(0)

    def rows_of(parts: tuple[Part, ...]) -> int:
        return sum(HEIGHTS[part] for part in parts)

    def cut(parts: tuple[Part, ...], product: np.ndarray) -> dict[Part, np.ndarray]:
        ends = np.cumsum([HEIGHTS[part] for part in parts])[:-1]
        return dict(zip(parts, np.split(product, ends), strict=True))

    pairs = {
        name: (random.standard_normal((rank, 5), "f4"), random.standard_normal((rows_of(parts), rank), "f4"))
        for rank, (name, parts) in enumerate(sources.items(), start=2)
    }
    before: dict[Part, np.ndarray] = {}
    for name, (a, b) in pairs.items():
        before |= cut(sources[name], b @ a)
    after: dict[Part, np.ndarray] = {}
    for name, shares in regroup(sources, targets, HEIGHTS.__getitem__).items():
        a = np.concatenate([pairs[share.source][0] for share in shares])
        b = join_b(shares, [pairs[share.source][1] for share in shares], rows_of(targets[name]), lambda _, rows: rows)
        after |= cut(targets[name], b @ a)
    for part, product in after.items():
        expected = before.get(part, np.zeros_like(product))
        np.testing.assert_allclose(product, expected, rtol=1e-5, atol=1e-6, err_msg=part.name)
    assert {part for parts in targets.values() for part in parts} == set(after)
