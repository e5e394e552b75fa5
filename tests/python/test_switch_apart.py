"""Granite Switch models taken apart: the base's bytes are the composed model's, and so are the adapters'."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest

from alora_cpp import ConversionError, Model
from alora_cpp.convert import take_apart
from tiny import Key, Kind, begin, fresh_logits, open_exact, random_tokens, rewrite_gguf
from tiny_switch import ASSISTANT_PROMPT, NAMES, Composed, compose, control_token

PROMPT = random_tokens(1, 40)
Type = gguf.GGMLQuantizationType


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Composed:
    return compose(tmp_path_factory.mktemp("composed"))


@pytest.fixture(scope="module")
def apart(composed: Composed, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return take_apart(composed.path, tmp_path_factory.mktemp("apart") / "new")


@pytest.fixture(scope="module")
def switch(composed: Composed) -> Iterator[Model]:
    with Model(composed.path) as model:
        yield model


def quantize(source: Path, path: Path) -> Path:
    """Copies a composed model with its weights in blocks and its adapters in halves and in blocks."""
    reader = gguf.GGUFReader(source)
    kinds = {"attn_qkv.weight": Type.Q8_0, "ffn_down.weight": Type.Q4_0, "lora_a": Type.Q8_0, "lora_b": Type.F16}
    writer = gguf.GGUFWriter(path, "graniteswitch")
    for name, entry in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            items = entry.types[-1] if entry.types[0] is Kind.ARRAY else None
            writer.add_key_value(name, entry.contents(), entry.types[0], items)
    for tensor in reader.tensors:
        kind = next((kind for end, kind in kinds.items() if tensor.name.endswith(end)), Type.F32)
        writer.add_tensor(tensor.name, gguf.quantize(np.array(tensor.data), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensors(path: Path) -> dict[str, gguf.ReaderTensor]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def test_the_base_and_each_adapter_compute_what_the_composed_model_does(switch: Model, apart: list[Path]) -> None:
    """Tried with: key's rows one row late, the adapters' slots one too early, and alpha 1."""
    with Model(apart[0]) as base, open_exact(switch) as context:
        assert np.array_equal(fresh_logits(base, PROMPT), fresh_logits(switch, PROMPT))
        for name, path in zip(NAMES, apart[1:], strict=True):
            branch = begin(context, PROMPT)
            branch.activate(switch.load_adapter(name))
            branch.append([control_token(name), *ASSISTANT_PROMPT[1:]])
            context.decode()
            adapter = base.load_adapter(path)
            tokens = [*PROMPT, *ASSISTANT_PROMPT]
            separate = fresh_logits(base, tokens, adapter=adapter, at=len(PROMPT))
            assert np.abs(branch.logits(rows=len(tokens)) - separate).max() < 1e-4
            assert np.abs(fresh_logits(base, tokens)[-1] - separate[-1]).max() > 1e-1


def test_the_adapters_are_those_that_were_built_in(composed: Composed, apart: list[Path]) -> None:
    """Zeros that padded them are gone, and nothing else."""
    for (name, source), path in zip(composed.adapters.items(), apart[1:], strict=True):
        found = tensors(path)
        assert found.keys() == source.tensors.keys()
        scale = source.keys["adapter.lora.alpha"].value / min(next(iter(source.tensors.values())).shape)
        for key, matrix in source.tensors.items():
            expected = matrix if key.endswith("lora_a") else matrix * np.float32(scale)
            assert np.array_equal(found[key].data, expected), (name, key)


def test_what_the_files_say(composed: Composed, apart: list[Path]) -> None:
    source, base = (gguf.GGUFReader(path).fields for path in (composed.path, apart[0]))
    assert [path.name for path in apart] == ["switch.gguf", *(f"switch.{name}.gguf" for name in NAMES)]
    for name, field in source.items():
        kept = name.replace("graniteswitch.", "granite.")
        if name == "general.architecture" or name.startswith("GGUF."):
            continue
        if ".adapters." in name:
            assert kept not in base
        else:
            assert (base[kept].types, base[kept].contents()) == (field.types, field.contents())
    with Model(apart[0]) as model:
        assert model.architecture == "granite"
        adapter = model.load_adapter("safety")
        assert (adapter.path, adapter.name, adapter.rank) == (apart[2], "safety", 8)
        assert adapter.invocation_tokens == ASSISTANT_PROMPT
        metadata = adapter.metadata
    assert metadata["general.base_model.0.name"] == "tiny-granite"
    assert (metadata["alora.base.head_count"], metadata["alora.base.head_count_kv"]) == ("4", "2")


def test_no_number_is_rounded_again(composed: Composed, tmp_path: Path) -> None:
    source = quantize(composed.path, tmp_path / "quantized.gguf")
    whole = tensors(source)
    base, *adapters = take_apart(source, tmp_path / "apart")
    made = tensors(base)
    parts = [made.pop(f"blk.1.attn_{part}.weight") for part in "qkv"]
    assert [part.tensor_type for part in parts] == [Type.Q8_0] * 3
    assert np.array_equal(np.concatenate([part.data for part in parts]), whole["blk.1.attn_qkv.weight"].data)
    for name, tensor in made.items():
        if ".attn_q." not in name and ".attn_k." not in name and ".attn_v." not in name:
            assert tensor.tensor_type == whole[name].tensor_type
            assert np.array_equal(tensor.data, whole[name].data)
    for slot, path in enumerate(adapters, start=1):
        for name, tensor in tensors(path).items():
            stack = whole[name.replace(".weight", "")]
            rows, columns = tensor.data.shape
            assert np.array_equal(tensor.data, stack.data[slot, :rows, :columns])
            assert tensor.tensor_type == stack.tensor_type
    with Model(source) as switch, Model(base) as model:
        assert np.abs(fresh_logits(model, PROMPT) - fresh_logits(switch, PROMPT)).max() < 1e-5
        assert [model.load_adapter(path).rank for path in adapters] == [4, 8, 6]


def test_only_those_wanted(composed: Composed, tmp_path: Path) -> None:
    files = take_apart(composed.path, tmp_path, names=["answerability"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["switch.answerability.gguf", "switch.gguf"]
    assert len(files) == 2
    assert take_apart(composed.path, tmp_path, names=[]) == [tmp_path / "switch.gguf"]


def test_names_and_io_yaml_come_along(composed: Composed, tmp_path: Path) -> None:
    path = shutil.copy(composed.path, tmp_path / "m.gguf")
    own = tmp_path / "m.intrinsics" / "safety"
    own.mkdir(parents=True)
    (own / "io.yaml").write_text("model: null\nresponse_format: null\ntransformations: []\n")
    (own / "adapter_config.json").write_text(json.dumps({"alora_invocation_tokens": [3, 9, 4]}))
    base, adapter = take_apart(path, tmp_path / "apart", names=["safety"])
    with Model(base) as model:
        intrinsic = model.load_intrinsic("safety")
    assert intrinsic.adapter.io_yaml == (own / "io.yaml").read_text()
    assert (intrinsic.adapter.path, intrinsic.invocation) == (adapter, (3, 9, 4))


def refused(source: Path, folder: Path, match: str, **options: list[str]) -> None:
    before = sorted(source.parent.rglob("*"))
    with pytest.raises(ConversionError, match=match):
        take_apart(source, folder, **options)
    assert sorted(source.parent.rglob("*")) == before


def test_what_cannot_be_taken_apart_leaves_nothing(composed: Composed, tmp_path: Path) -> None:
    source, out = composed.path, tmp_path / "out"
    refused(composed.base, out, r"general.architecture 'granite'.*expected a Granite Switch model")
    refused(source, out, r"has no built-in adapter 'sure'; it has certainty, safety", names=["sure"])
    refused(source, source.parent, r"would be written over .*switch\.gguf itself")
    refused(source, out / "deeper", r"cannot make the folder .*deeper \(No such file")
    data = source.read_bytes()
    for size, match in ((len(data) - 1, r"ends at byte .* within or before its tensor"), (900, "in the middle of its")):
        cut = tmp_path / "cut.gguf"
        cut.write_bytes(data[:size])
        refused(cut, out, match)
    at = data.index(b"blk.1.attn_norm.weight") + len(b"blk.1.attn_norm.weight")
    cut.write_bytes(data[:at] + bytes([0]) + data[at + 1 : at + 4] + data[at + 12 :])
    refused(cut, out, r"stores blk\.1\.attn_norm\.weight in a way that is not known \(its shape is \[\]\)")
    # With what is missing noticed only while files are written.
    stranger = rewrite_gguf(
        source,
        tmp_path / "stranger.gguf",
        graniteswitch__adapters__token_ids_substitute=Key([3, 9, 3], Kind.ARRAY, Kind.INT32),
    )
    refused(stranger, out, r"nothing says what invokes the adapter 'safety'.*put its adapter_config\.json into")
    assert not out.exists()


def test_an_adapter_without_numbers_is_told(composed: Composed, tmp_path: Path) -> None:
    path = Path(shutil.copy(composed.path, tmp_path / "m.gguf"))
    reader = gguf.GGUFReader(path, "r+")
    for tensor in reader.tensors:
        if tensor.name.endswith("lora_b"):
            tensor.data[3] = 0
    reader.data.flush()
    refused(path, tmp_path / "out", r"'answerability' of .* is all zero; leave it out")
    assert len(take_apart(path, tmp_path / "out", names=["safety"])) == 2
