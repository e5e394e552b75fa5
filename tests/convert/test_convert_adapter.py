"""What a converted adapter contains, family by family and type by type."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from alora_cpp import ConversionError
from alora_cpp.convert import OUTTYPES, convert_adapter
from oracle.adapter_files import AdapterFile, Array, edit_config, edit_weights, write_raw
from oracle.cases import ADAPTERS, adapter_names
from oracle.tiny_models import (
    ALL_FAMILIES,
    ALL_LINEAR,
    ATTENTION,
    FAMILIES,
    INVOCATION,
    STATE_SPACE,
    AdapterSpec,
    adapter_weights,
    make_model,
    to_gguf_rows,
    write_adapter,
    write_gguf,
    write_hf,
)

Type = gguf.GGMLQuantizationType

GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def convert(tmp_path: Path, spec: AdapterSpec, *, family: str = "llama", outtype: str = "f32") -> AdapterFile:
    """Writes a family's base and an adapter, and converts it."""
    model = make_model(family)
    base = write_gguf(model, tmp_path / "base.gguf")
    folder = write_adapter(model, spec, tmp_path / "adapter")
    outfile = tmp_path / "out.gguf"
    assert convert_adapter(folder, outfile, base=base, outtype=outtype) == outfile
    return AdapterFile(outfile)


@pytest.mark.parametrize("family", FAMILIES)
def test_f32_holds_the_very_numbers(family: str, tmp_path: Path) -> None:
    """Names, shapes, and rows of q and k in the order of the base's GGUF."""
    model, spec = make_model(family), AdapterSpec(targets=ALL_LINEAR)
    file = convert(tmp_path, spec, family=family)
    expected = {}
    for key, values in adapter_weights(model, spec).items():
        module, _, part = key.removesuffix(".weight").rpartition(".lora_")
        _, _, _, _, layer, projection = module.split(".", 5)
        name = f"blk.{layer}.{GGUF_NAMES[projection]}.weight.lora_{part.lower()}"
        expected[name] = to_gguf_rows(model, module, values) if part == "B" else values
    assert file.tensors.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(file.tensors[name], values, err_msg=name)


@pytest.mark.parametrize("outtype", OUTTYPES)
@pytest.mark.parametrize("rank", [4, 32])
def test_outtypes(outtype: str, rank: int, tmp_path: Path) -> None:
    """Every type reads back, as near as it can be; q8_0 gives way to f16 for short rows."""
    spec = AdapterSpec(targets=ALL_LINEAR, rank=rank)
    exact = convert(tmp_path, spec)
    file = convert(tmp_path, spec, outtype=outtype)
    wanted = {"f32": Type.F32, "f16": Type.F16, "bf16": Type.BF16, "q8_0": Type.Q8_0}[outtype]
    fallback = Type.F16 if outtype == "q8_0" and rank == 4 else wanted
    tolerance = {Type.F32: 0.0, Type.F16: 6e-4, Type.BF16: 4e-3, Type.Q8_0: 6e-3}
    for name, values in exact.tensors.items():
        kind = file.types[name]
        assert kind == (fallback if name.endswith("lora_b") else wanted), name
        error = np.abs(file.tensors[name] - values).max() / np.abs(values).max()
        assert error <= tolerance[kind], name
    assert file.fields["general.file_type"] == {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7}[outtype]
    assert file.fields["general.quantization_version"] == 2


@pytest.mark.parametrize("kind", ["BF16", "F16"])
def test_half_precision_input(kind: str, tmp_path: Path) -> None:
    """Numbers stored in 16 bits arrive exactly."""
    model, spec = make_model("qwen3"), AdapterSpec()
    folder = write_adapter(model, spec, tmp_path / "adapter")
    raw, expected = {}, {}
    for name, values in adapter_weights(model, spec).items():
        if kind == "BF16":
            bits = (values.view(np.uint32) >> 16).astype("<u2")
            expected[name] = (bits.astype(np.uint32) << 16).view(np.float32)
        else:
            bits = values.astype("<f2").view("<u2")
            expected[name] = values.astype(np.float16).astype(np.float32)
        raw[name] = (kind, values.shape, bits.tobytes())
    write_raw(folder / "adapter_model.safetensors", raw)
    base = write_gguf(model, tmp_path / "base.gguf")
    file = AdapterFile(convert_adapter(folder, tmp_path / "out.gguf", base=base, outtype="f32"))
    for part in "AB":
        key = f"base_model.model.model.layers.1.self_attn.k_proj.lora_{part}.weight"
        ours = file.tensors[f"blk.1.attn_k.weight.lora_{part.lower()}"]
        np.testing.assert_array_equal(ours, expected[key])


@pytest.mark.parametrize("name", adapter_names("qwen2"))
def test_scale(name: str, tmp_path: Path) -> None:
    """One alpha in the file, yet every pair has its own scale, patterns and rsLoRA included."""
    model, spec = make_model("qwen2"), ADAPTERS[name]
    file = convert(tmp_path, spec, family="qwen2")
    weights = adapter_weights(model, spec)
    for layer in (0, 1):
        for target in spec.targets:
            module = f"model.layers.{layer}.{target}"
            rank = next((r for k, r in spec.rank_pattern.items() if module.endswith(k)), spec.rank)
            alpha = next((a for k, a in spec.alpha_pattern.items() if module.endswith(k)), spec.alpha)
            a = weights[f"base_model.model.{module}.lora_A.weight"].astype(np.float64)
            b = weights[f"base_model.model.{module}.lora_B.weight"].astype(np.float64)
            expected = b @ a * (alpha / (rank**0.5 if spec.use_rslora else rank))
            ours = file.delta(f"blk.{layer}.{GGUF_NAMES[target]}.weight")
            assert np.abs(ours - expected).max() < 3e-7 * np.abs(expected).max(), module


def test_numbers_stay_as_they_are_where_one_alpha_is_enough(tmp_path: Path) -> None:
    """RsLoRA and a rank pattern alone need no change of B, so nothing is rounded twice."""
    for index, spec in enumerate(
        (
            AdapterSpec(rank=32, use_rslora=True),
            AdapterSpec(rank=8, alpha=12, rank_pattern={"q_proj": 3}),
        )
    ):
        folder = tmp_path / str(index)
        folder.mkdir()
        file = convert(folder, spec, family="qwen3")
        for key, values in adapter_weights(make_model("qwen3"), spec).items():
            if "layers.0.self_attn.q_proj.lora_B" in key:
                np.testing.assert_array_equal(file.tensors["blk.0.attn_q.weight.lora_b"], values)


def test_alpha_of_zero_does_nothing(tmp_path: Path) -> None:
    """The engines read a zero in the file as "no scale at all", so it must not stand there."""
    file = convert(tmp_path, AdapterSpec(alpha=8))
    folder = tmp_path / "adapter"
    edit_config(folder, lora_alpha=0)
    base = tmp_path / "base.gguf"
    file = AdapterFile(convert_adapter(folder, tmp_path / "zero.gguf", base=base))
    assert file.fields["adapter.lora.alpha"] != 0
    assert not file.delta("blk.0.attn_q.weight").any()


def test_metadata(tmp_path: Path) -> None:
    """llama.cpp's keys with their types, and ours."""
    model = make_model("granite")
    base = write_gguf(model, tmp_path / "base.gguf")
    folder = write_adapter(model, AdapterSpec(alpha=12), tmp_path / "certainty", base="org/tiny-granite")
    text = "model: ~\r\nresponse_format: ~\r\ntransformations: ~\r\ninstruction: \u201cHow sure?\u201d\n"
    (folder / "io.yaml").write_bytes(text.encode())
    file = AdapterFile(convert_adapter(folder, tmp_path / "out.gguf", base=base))
    expected = {
        "general.architecture": "granite",
        "general.type": "adapter",
        "general.name": "certainty",
        "general.base_model.count": 1,
        "general.base_model.0.name": "tiny-granite",
        "general.base_model.0.organization": "org",
        "general.base_model.0.repo_url": "https://huggingface.co/org/tiny-granite",
        "adapter.type": "lora",
        "adapter.lora.alpha": 12.0,
        "adapter.alora.invocation_tokens": list(INVOCATION),
        "alora.activation_offset": 0,
        "alora.io_yaml": text,
    }
    assert expected.items() <= file.fields.items()
    array, uint32 = gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT32
    assert file.kinds["adapter.alora.invocation_tokens"] == [array, uint32]
    assert file.kinds["adapter.lora.alpha"] == [gguf.GGUFValueType.FLOAT32]
    assert file.kinds["alora.activation_offset"] == [uint32]


def test_ordinary_lora(tmp_path: Path) -> None:
    """A null in the configuration means no invocation, and no key for it; nor one for io.yaml."""
    file = convert(tmp_path, AdapterSpec(invocation=None))
    assert "adapter.alora.invocation_tokens" not in file.fields
    assert "alora.io_yaml" not in file.fields


def test_the_whole_invocation_can_be_given(tmp_path: Path) -> None:
    """PEFT knows only its end, from which on the adapter acts."""
    model = make_model("llama")
    base = write_gguf(model, tmp_path / "base.gguf")
    folder = write_adapter(model, AdapterSpec(invocation=INVOCATION[-1:]), tmp_path / "adapter")
    file = AdapterFile(convert_adapter(folder, tmp_path / "out.gguf", base=base, invocation=INVOCATION))
    assert file.fields["adapter.alora.invocation_tokens"] == list(INVOCATION)
    assert file.fields["alora.activation_offset"] == len(INVOCATION) - 1
    assert len(file.fields["alora.invocation_pieces"]) == len(INVOCATION)


@pytest.mark.parametrize("adapted", [None, INVOCATION[:1]])
def test_another_invocation_than_the_adapters(adapted: tuple[int, ...] | None, tmp_path: Path) -> None:
    model = make_model("llama")
    base = write_gguf(model, tmp_path / "base.gguf")
    folder = write_adapter(model, AdapterSpec(invocation=adapted), tmp_path / "adapter")
    with pytest.raises(ConversionError, match="expected the end of"):
        convert_adapter(folder, tmp_path / "out.gguf", base=base, invocation=INVOCATION)
    assert not (tmp_path / "out.gguf").exists()


def test_name_can_be_given(tmp_path: Path) -> None:
    """The option wins over the folder's name; a base on this disk is named, not its path."""
    model = make_model("llama")
    hf_folder = write_hf(model, tmp_path / "my-base")
    folder = write_adapter(model, AdapterSpec(), tmp_path / "a", base=str(hf_folder))
    file = AdapterFile(convert_adapter(folder, tmp_path / "out.gguf", name="safety"))
    assert file.fields["general.name"] == "safety"
    assert file.fields["general.base_model.0.name"] == "my-base"
    assert str(tmp_path).encode() not in (tmp_path / "out.gguf").read_bytes()


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_base_may_be_gguf_or_folder(family: str, tmp_path: Path) -> None:
    """Both say the same about the base, and so does a GGUF split into parts, but for what it does not hold."""
    model = make_model(family)
    spec = AdapterSpec(targets=(*ALL_LINEAR, *STATE_SPACE))
    folder = write_adapter(model, spec, tmp_path / "adapter", base="org/tiny")
    whole = write_gguf(model, tmp_path / "base.gguf")
    bases = [whole, write_hf(model, tmp_path / "hf"), split(whole, tmp_path / "part")]
    first, *others = [
        AdapterFile(convert_adapter(folder, tmp_path / f"{index}.gguf", base=base)) for index, base in enumerate(bases)
    ]
    for other in others:
        assert first.types == other.types
        for name, values in first.tensors.items():
            np.testing.assert_array_equal(other.tensors[name], values, err_msg=name)
        assert set(first.fields) - set(other.fields) == {
            "alora.invocation_pieces",
            "alora.base.vocabulary",
            "alora.base.weights",
        }
        for key in other.fields.keys() - {"GGUF.kv_count", "alora.base.model_type"}:
            assert other.fields[key] == first.fields[key], key


def split(whole: Path, folder: Path) -> Path:
    """Writes a base again in parts of a few tensors; returns the first part."""
    folder.mkdir()
    reader = gguf.GGUFReader(whole)
    arch = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(folder / "base.gguf", arch, split_max_tensors=4)
    for key, field in reader.fields.items():
        if not key.startswith(("GGUF.", "tokenizer.", "general.architecture")):
            writer.add_key_value(key, field.contents(), field.types[0])
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return min(folder.iterdir())


def test_some_layers_only(tmp_path: Path) -> None:
    """`layers_to_transform` and expressions leave modules out on purpose."""
    for changes in ({"layers_to_transform": [1]}, {"target_modules": r".*\.1\.self_attn\.[qkv]_proj"}):
        model = make_model("llama")
        base = write_gguf(model, tmp_path / "base.gguf")
        folder = write_adapter(model, AdapterSpec(), tmp_path / "adapter")
        edit_weights(folder, without_first_layer)
        edit_config(folder, **changes)
        file = AdapterFile(convert_adapter(folder, tmp_path / "out.gguf", base=base))
        expected = [f"blk.1.{GGUF_NAMES[target]}.weight" for target in ATTENTION]
        assert file.weights() == sorted(expected)


def without_first_layer(tensors: dict[str, Array]) -> None:
    """Drops the matrices of layer 0."""
    for name in [name for name in tensors if ".layers.0." in name]:
        del tensors[name]


def test_outfile_is_replaced_and_nothing_else_appears(tmp_path: Path) -> None:
    """A second run takes the place of the first, with the permissions of a new file."""
    model = make_model("llama")
    base = write_gguf(model, tmp_path / "base.gguf")
    folder = write_adapter(model, AdapterSpec(), tmp_path / "adapter")
    (tmp_path / "plain").touch()
    before = {path.name for path in tmp_path.iterdir()}
    outfile = tmp_path / "out.gguf"
    outfile.write_text("old")
    convert_adapter(folder, outfile, base=base)
    assert outfile.read_bytes()[:4] == b"GGUF"
    assert {path.name for path in tmp_path.iterdir()} == before | {"out.gguf"}
    assert outfile.stat().st_mode == (tmp_path / "plain").stat().st_mode
