"""Adapters: what they say about themselves, and where their invocation is found."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alora_cpp import Adapter, InvocationNotFoundError, Model
from oracle.tiny_models import ALL_LINEAR, TinyModel
from tiny import INVOCATION, Key, Kind, adapter_file, fresh_logits, random_tokens


def test_an_adapter_tells_what_it_is(adapters: list[Adapter], adapter_paths: list[Path]) -> None:
    adapter = adapters[1]
    assert (adapter.name, adapter.path, adapter.rank, adapter.alpha) == ("random-1", adapter_paths[1], 8, 16.0)
    assert adapter.invocation_tokens == INVOCATION
    assert sorted(adapter.targets) == ["attn_k", "attn_q", "attn_v"]
    assert (adapter.activation_offset, adapter.io_yaml) == (0, None)
    assert adapter.size == 2 * 4 * 8 * ((64 + 64) + (64 + 32) + (64 + 32))
    assert adapter.metadata["adapter.type"] == "lora"


def test_our_own_keys_are_read(model: Model, tiny_model: TinyModel, tmp_path: Path) -> None:
    path = adapter_file(tiny_model).write(
        tmp_path / "certainty.gguf",
        general__name=Key("", Kind.STRING),
        alora__io_yaml=Key("model: null\n", Kind.STRING),
        alora__activation_offset=Key(1, Kind.UINT32),
        adapter__lora__alpha=Key(0.0, Kind.FLOAT32),
    )
    adapter = model.load_adapter(path)
    assert (adapter.name, adapter.io_yaml, adapter.activation_offset) == ("certainty", "model: null\n", 1)


def test_alpha_of_zero_means_a_scale_of_one(model: Model, tiny_model: TinyModel, tmp_path: Path) -> None:
    """llama.cpp's rule; alpha / rank is 1 for the other."""
    none = adapter_file(tiny_model).write(tmp_path / "zero.gguf", adapter__lora__alpha=Key(0.0, Kind.FLOAT32))
    rank = adapter_file(tiny_model).write(tmp_path / "rank.gguf", adapter__lora__alpha=Key(4.0, Kind.FLOAT32))
    tokens = random_tokens(90, 10)
    first, second = (fresh_logits(model, tokens, adapter=model.load_adapter(path), at=3) for path in (none, rank))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0"])
def test_smaller_number_types_come_near(model: Model, tiny_model: TinyModel, tmp_path: Path, kind: str) -> None:
    """Ranks of 32, so that q8_0's blocks fit."""
    file = adapter_file(tiny_model, rank=32, targets=ALL_LINEAR[:4])
    exact = model.load_adapter(file.write(tmp_path / "exact.gguf"))
    small = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(tmp_path / "small.gguf", "llama")
    for name, key in file.keys.items():
        writer.add_key_value(name, key.value, key.kind, key.items)
    for name, tensor in file.tensors.items():
        writer.add_tensor(name, gguf.quants.quantize(tensor, small), raw_dtype=small)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    rounded = model.load_adapter(tmp_path / "small.gguf")
    assert rounded.size < exact.size
    tokens = random_tokens(91, 20)
    first, second = (fresh_logits(model, tokens, adapter=adapter, at=5) for adapter in (exact, rounded))
    assert np.abs(first - second).max() < 0.3
    assert np.abs(first[:5] - second[:5]).max() < 1e-5


def test_many_adapters_can_be_loaded_and_dropped(model: Model, adapter_paths: list[Path]) -> None:
    tokens = random_tokens(92, 10)
    wanted = fresh_logits(model, tokens, adapter=model.load_adapter(adapter_paths[3]), at=2)
    for i in range(40):
        adapter = model.load_adapter(adapter_paths[i % 4])
        if i % 4 == 3:
            assert np.array_equal(fresh_logits(model, tokens, adapter=adapter, at=2), wanted)


def test_a_branch_keeps_its_adapter_alive(model: Model, adapter_paths: list[Path]) -> None:
    tokens = random_tokens(93, 10)
    wanted = fresh_logits(model, tokens, adapter=model.load_adapter(adapter_paths[0]), at=0)[-1]
    with model.context(n_ctx=64, kv_type="f32", flash_attention=False, n_threads=1) as context:
        branch = context.branch()
        branch._core.activate(model.load_adapter(adapter_paths[0])._core)
        branch.append(tokens)
        context.decode()
        assert np.abs(branch.logits() - wanted).max() < 1e-5


@pytest.mark.parametrize(
    ("tokens", "invocation", "from_end"),
    [
        ([0, 1, 2, 3], (1, 2), 3),
        ([0, 4, 5, 6], (1, 2), None),
        ([1, 2, 1, 2], (1, 2), 2),
        ([0, 4, 1, 2], (1, 2), 2),
        ([1, 1, 1], (1, 1), 2),
        ([1, 1, 2, 1, 1, 3], (1, 1, 2), 6),
        ([1, 2], (1, 2, 3), None),
        ([], (1,), None),
    ],
)
def test_the_last_occurrence_counts_as_in_peft(
    model: Model,
    tiny_model: TinyModel,
    tmp_path: Path,
    tokens: list[int],
    invocation: tuple[int, ...],
    from_end: int | None,
) -> None:
    """Vectors of PEFT's own tests, and overlapping ones. Tried with: the first occurrence."""
    path = adapter_file(tiny_model, invocation=invocation).write(tmp_path / "a.gguf")
    adapter = model.load_adapter(path)
    if from_end is None:
        with pytest.raises(InvocationNotFoundError, match="random-0"):
            adapter.find_invocation(tokens)
    else:
        assert adapter.find_invocation(tokens) == len(tokens) - from_end


@given(st.lists(st.integers(5, 8), max_size=30))
def test_the_last_occurrence_is_found_by_any_search(adapters: list[Adapter], tokens: list[int]) -> None:
    places = [i for i in range(len(tokens) - 2) if tuple(tokens[i : i + 3]) == INVOCATION]
    if places:
        assert adapters[0].find_invocation(tokens) == places[-1]
    else:
        with pytest.raises(InvocationNotFoundError):
            adapters[0].find_invocation(tokens)


def test_an_ordinary_lora_has_no_invocation_to_find(model: Model, tiny_model: TinyModel, tmp_path: Path) -> None:
    adapter = model.load_adapter(adapter_file(tiny_model, invocation=None).write(tmp_path / "lora.gguf"))
    with pytest.raises(InvocationNotFoundError, match="ordinary LoRA"):
        adapter.find_invocation([5, 6, 7])
