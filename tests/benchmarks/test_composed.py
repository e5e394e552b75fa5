"""A composed model taken apart again, by code of its own, is the base and the adapters that it was made of."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest

from alora_cpp.convert import convert_adapter, take_apart
from benchmarks.composed import adapter_stacks, rank_of, write_composed
from oracle.adapter_files import AdapterFile
from oracle.tiny_models import ALL_LINEAR, ATTENTION, INVOCATION, AdapterSpec, make_model, write_adapter, write_gguf

SPECS = {"all": AdapterSpec(targets=ALL_LINEAR, rank=6, alpha=15), "attention": AdapterSpec(targets=ATTENTION, rank=6)}


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """A base, and two adapters."""
    model = make_model("granite")
    base = write_gguf(model, tmp_path / "base.gguf")
    folders = [write_adapter(model, spec, tmp_path / name, base="org/tiny") for name, spec in SPECS.items()]
    return [base, *(convert_adapter(one, tmp_path / f"{one.name}.gguf", base=base, outtype="f32") for one in folders)]


def test_taken_apart_it_is_what_it_was(parts: list[Path], tmp_path: Path) -> None:
    base, *adapters = parts
    path = tmp_path / "switch.gguf"
    stacks = adapter_stacks(base, adapters)
    write_composed(base, path, list(SPECS), stacks, rank=rank_of(adapters[0]), first_token=INVOCATION[0])
    for name in SPECS:
        described = tmp_path / "switch.intrinsics" / name / "adapter_config.json"
        described.parent.mkdir(parents=True)
        described.write_text(json.dumps({"alora_invocation_tokens": INVOCATION}))
    base_again, *adapters_again = take_apart(path, tmp_path / "apart")
    before, after = ({one.name: one.data for one in gguf.GGUFReader(file).tensors} for file in (base, base_again))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    for one, again in zip(map(AdapterFile, adapters), map(AdapterFile, adapters_again), strict=True):
        assert one.weights() == again.weights()
        for weight in one.weights():
            # The stacks are float16.
            np.testing.assert_allclose(again.delta(weight), one.delta(weight), atol=2e-3)


def test_query_key_and_value_of_several_types_are_refused(parts: list[Path], tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "mixed.gguf", "llama")
    for name, kind in {"q": np.float32, "k": np.float32, "v": np.float16}.items():
        writer.add_tensor(f"blk.0.attn_{name}.weight", np.zeros((32, 32), kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ValueError, match=r"blk\.0 has query.* of the types F16, F32, .* quantize"):
        write_composed(tmp_path / "mixed.gguf", tmp_path / "switch.gguf", ["one"], (), rank=4, first_token=5)
    assert [one.name for one in tmp_path.glob("switch*")] == []
