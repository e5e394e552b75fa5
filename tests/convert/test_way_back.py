"""From GGUF back to a PEFT folder: what comes back is what went in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file

from alora_cpp.convert import OUTTYPES, convert_adapter, write_peft_folder
from alora_cpp.convert.peft_config import read_config
from alora_cpp.errors import ConversionError
from oracle.adapter_files import AdapterFile, Array, edit_config, edit_weights
from oracle.cases import ADAPTERS
from oracle.tiny_models import (
    ALL_FAMILIES,
    ALL_LINEAR,
    ATTENTION,
    INVOCATION,
    AdapterSpec,
    TinyModel,
    make_model,
    write_adapter,
    write_gguf,
    write_hf,
)

# Adapters whose modules all keep their numbers on the way to GGUF.
EXACT = [
    name for name, spec in ADAPTERS.items() if not spec.alpha_pattern and not (spec.use_rslora and spec.rank_pattern)
]
# Families whose weights a GGUF may have fused, though their models have modules for each.
FUSABLE = ("llama", "mistral", "qwen2")
IO_YAML = "model: ~\r\nresponse_format: ~\ntransformations: ~\ninstruction: \u201cSure?\u201d\n"


class Trip:
    """An adapter of a family, as PEFT saves it and as GGUF."""

    def __init__(
        self,
        folder: Path,
        spec: AdapterSpec,
        *,
        family: str = "llama",
        outtype: str = "f32",
        fuse_qkv: bool = False,
    ) -> None:
        self.folder = folder
        self.model: TinyModel = make_model(family)
        self.base = write_gguf(self.model, folder / "base.gguf", fuse_qkv=fuse_qkv)
        self.there = write_adapter(self.model, spec, folder / "adapter", base="org/tiny")
        self.gguf = self.convert(self.there, outtype=outtype)

    def convert(self, source: Path, *, outtype: str = "f32") -> Path:
        """Converts a folder, to a file beside it."""
        return convert_adapter(source, source.with_suffix(f".{outtype}.gguf"), base=self.base, outtype=outtype)

    def back(self, *, base: Path | None = None) -> Path:
        """Converts the file to a folder; what its base is like, the file says itself."""
        return write_peft_folder(self.gguf, self.folder / "back", base=base)


def weights_of(folder: Path) -> dict[str, Array]:
    return load_file(folder / "adapter_model.safetensors")


def config_of(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())
    return config


def scales_of(folder: Path) -> dict[str, float]:
    """Each module's scale, by the rules that test_peft_scaling.py compares with PEFT."""
    config = read_config(folder)
    modules = {name.removeprefix("base_model.model.").rpartition(".lora_")[0] for name in weights_of(folder)}
    return {module: config.scaling_of(module) for module in modules}


def assert_equal_bits(ours: dict[str, Array], theirs: dict[str, Array]) -> None:
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        assert ours[name].dtype == np.float32
        np.testing.assert_array_equal(ours[name].view(np.uint32), values.view(np.uint32), err_msg=name)


def assert_equal_products(ours: Path, theirs: Path) -> None:
    """What each module adds: scale, B and A up to rounding."""
    scales, expected_scales = scales_of(ours), scales_of(theirs)
    assert scales.keys() == expected_scales.keys()
    found, expected = weights_of(ours), weights_of(theirs)
    for module, scale in expected_scales.items():
        a, b = (f"base_model.model.{module}.lora_{half}.weight" for half in "AB")
        np.testing.assert_array_equal(found[a], expected[a], err_msg=module)
        products = found[b].astype(np.float64) * scales[module], expected[b].astype(np.float64) * scale
        np.testing.assert_allclose(*products, rtol=1e-6, err_msg=module)


@pytest.mark.parametrize("family", ALL_FAMILIES)
@pytest.mark.parametrize("name", EXACT)
def test_peft_to_gguf_to_peft_is_exact(name: str, family: str, tmp_path: Path) -> None:
    """The same matrices, to the bit, under the same names, and the very same scales."""
    trip = Trip(tmp_path, ADAPTERS[name], family=family)
    back = trip.back()
    assert_equal_bits(weights_of(back), weights_of(trip.there))
    assert scales_of(back) == scales_of(trip.there)


@pytest.mark.parametrize("family", FUSABLE)
@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("with_base", [True, False])
def test_a_base_with_one_weight_for_q_k_and_v(name: str, family: str, with_base: bool, tmp_path: Path) -> None:
    """Three modules go into one weight of three times the rank, and come out as they were."""
    trip = Trip(tmp_path, ADAPTERS[name], family=family, fuse_qkv=True)
    assert "blk.0.attn_qkv.weight" in AdapterFile(trip.gguf).weights()
    back = trip.back(base=trip.base if with_base else None)
    if ADAPTERS[name].targets == ATTENTION:
        assert_equal_bits(weights_of(back), weights_of(trip.there))
    # Beside weights of another rank, one alpha must do for both.
    assert_equal_products(back, trip.there)


@pytest.mark.parametrize("family", ALL_FAMILIES)
@pytest.mark.parametrize("outtype", OUTTYPES)
def test_gguf_to_peft_to_gguf_is_exact(outtype: str, family: str, tmp_path: Path) -> None:
    """Whatever the numbers' type: float32 holds what the file stands for."""
    trip = Trip(tmp_path, AdapterSpec(targets=ALL_LINEAR, rank=32), family=family, outtype=outtype)
    there, again = AdapterFile(trip.gguf), AdapterFile(trip.convert(trip.back(), outtype=outtype))
    assert again.types == there.types
    assert_equal_bits(again.tensors, there.tensors)
    assert again.fields["adapter.lora.alpha"] == there.fields["adapter.lora.alpha"]


@pytest.mark.parametrize("name", sorted(ADAPTERS.keys() - EXACT))
def test_deviating_alphas_come_back_within_b(name: str, tmp_path: Path) -> None:
    """What each module adds is the same up to rounding; all have one alpha."""
    trip = Trip(tmp_path, ADAPTERS[name])
    back = trip.back()
    assert config_of(back)["alpha_pattern"] == {}
    assert_equal_products(back, trip.there)


def test_modules_of_another_kind(tmp_path: Path) -> None:
    """An adapter of separate gate and up, for a model that holds them in one module: the ranks add up."""
    trip = Trip(tmp_path, AdapterSpec(targets=("mlp.gate_proj", "mlp.up_proj"), alpha=10), family="granite")
    back = trip.back(base=write_hf(make_model("granite4"), tmp_path / "granite4"))
    ours, theirs = weights_of(back), weights_of(trip.there)
    assert config_of(back)["target_modules"] == ["shared_mlp.input_linear"]
    assert len(ours) == 4
    for layer in (0, 1):
        prefix = f"base_model.model.model.layers.{layer}"
        parts = [
            theirs[f"{prefix}.mlp.{name}.lora_B.weight"] @ theirs[f"{prefix}.mlp.{name}.lora_A.weight"]
            for name in ("gate_proj", "up_proj")
        ]
        fused = f"{prefix}.shared_mlp.input_linear"
        product = ours[f"{fused}.lora_B.weight"] @ ours[f"{fused}.lora_A.weight"]
        scale = scales_of(back)[f"model.layers.{layer}.shared_mlp.input_linear"]
        np.testing.assert_allclose(product * scale, np.concatenate(parts) * (10 / 4), rtol=1e-4, atol=1e-6)


def test_models_that_see_have_their_text_deeper(tmp_path: Path) -> None:
    """The file remembers from whose modules it was made; short names would mean those of the eyes, too."""
    trip = Trip(tmp_path, AdapterSpec(targets=("self_attn.q_proj",)), family="gemma3")

    def deepen(tensors: dict[str, Array]) -> None:
        for name in list(tensors):
            tensors[name.replace(".model.layers.", ".model.language_model.layers.")] = tensors.pop(name)

    edit_weights(trip.there, deepen)
    trip.gguf = trip.convert(trip.there)
    back = trip.back()
    assert_equal_bits(weights_of(back), weights_of(trip.there))
    assert set(config_of(back)["target_modules"]) == {
        f"model.language_model.layers.{layer}.self_attn.q_proj" for layer in range(trip.model.n_layers)
    }


def test_a_file_that_does_not_know_its_base(tmp_path: Path) -> None:
    """Of another converter: the order of rows is asked for only where it matters."""
    unknown = {f"alora.base.{key}": None for key in ("model_type", "head_count", "head_count_kv")}
    for family in ("llama", "qwen3", "granite"):
        (tmp_path / family).mkdir()
        trip = Trip(tmp_path / family, AdapterSpec(targets=ALL_LINEAR), family=family)
        rewrite(trip, unknown)
        if family != "qwen3":
            with pytest.raises(ConversionError, match=r"how many heads its base has.*--base"):
                trip.back()
        back = trip.back(base=None if family == "qwen3" else trip.base)
        assert_equal_bits(weights_of(back), weights_of(trip.there))


@pytest.mark.parametrize(("alpha", "rank"), [(16, 8), (0.1, 3), (7.5, 6), (1, 1), (16, 4), (0, 4)])
@pytest.mark.parametrize("use_rslora", [False, True])
def test_alpha_is_spelled_as_it_was(alpha: float, rank: int, use_rslora: bool, tmp_path: Path) -> None:
    """RsLoRA is recognised where only it gives the very scale."""
    spec = AdapterSpec(rank=rank, alpha=alpha or 8, use_rslora=use_rslora)
    trip = Trip(tmp_path, spec)
    if alpha == 0:
        edit_config(trip.there, lora_alpha=0)
        trip.gguf = trip.convert(trip.there)
        assert not AdapterFile(trip.gguf).delta("blk.0.attn_q.weight").any()
        return
    config = config_of(trip.back())
    assert config["r"] == rank
    assert np.float32(next(iter(scales_of(tmp_path / "back").values()))) == np.float32(
        alpha / (rank**0.5 if use_rslora else rank)
    )
    if rank in (3, 6, 8):
        assert (config["lora_alpha"], config["use_rslora"]) == (alpha, use_rslora)


def test_the_configuration(tmp_path: Path) -> None:
    trip = Trip(tmp_path, AdapterSpec(rank=8, alpha=12, rank_pattern={"k_proj": 4, "layers.1.self_attn.v_proj": 2}))
    (trip.there / "io.yaml").write_bytes(IO_YAML.encode())
    trip.gguf = trip.convert(trip.there)
    back = trip.back()
    assert {path.name for path in back.iterdir()} == {"adapter_config.json", "adapter_model.safetensors", "io.yaml"}
    assert (back / "io.yaml").read_bytes() == IO_YAML.encode()
    assert config_of(back) == {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "org/tiny",
        "inference_mode": True,
        "r": 8,
        "lora_alpha": 12,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "rank_pattern": {"self_attn.k_proj": 4, "model.layers.1.self_attn.v_proj": 2},
        "alpha_pattern": {},
        "target_modules": ["k_proj", "q_proj", "v_proj"],
        "alora_invocation_tokens": list(INVOCATION),
    }


def test_an_ordinary_lora_has_no_invocation(tmp_path: Path) -> None:
    back = Trip(tmp_path, AdapterSpec(invocation=None)).back()
    assert "alora_invocation_tokens" not in config_of(back)
    assert not (back / "io.yaml").exists()


@pytest.mark.parametrize("with_base", [True, False])
def test_modules_are_named_so_that_peft_finds_no_others(with_base: bool, tmp_path: Path) -> None:
    """Of two layers only one, or different modules in each."""

    def only(*kept: str) -> dict[str, Any]:
        def change(tensors: dict[str, Array]) -> None:
            for name in [name for name in tensors if not any(part in name for part in kept)]:
                del tensors[name]

        folder = tmp_path / "-".join(kept)
        folder.mkdir()
        trip = Trip(folder, AdapterSpec(targets=ALL_LINEAR), family="qwen2")
        edit_weights(trip.there, change)
        edit_config(trip.there, target_modules=None)
        trip.gguf = trip.convert(trip.there)
        config = config_of(write_peft_folder(trip.gguf, folder / "back", base=trip.base if with_base else None))
        return {key: config[key] for key in ("target_modules", "layers_to_transform") if key in config}

    assert only("layers.1.self_attn") == {
        "target_modules": ["k_proj", "o_proj", "q_proj", "v_proj"],
        "layers_to_transform": [1],
    }
    first = {"target_modules": ["down_proj", "gate_proj", "up_proj"]}
    # Without its base nobody knows of the second layer.
    assert only("layers.0.mlp") == (first | {"layers_to_transform": [0]} if with_base else first)
    assert only("0.self_attn.v_proj", "1.mlp.up_proj") == {
        "target_modules": ["model.layers.0.self_attn.v_proj", "model.layers.1.mlp.up_proj"]
    }


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_base_may_be_gguf_or_folder(family: str, tmp_path: Path) -> None:
    trip = Trip(tmp_path, ADAPTERS["all-r4"], family=family)
    hf_folder = write_hf(trip.model, tmp_path / "hf")
    folders = [
        write_peft_folder(trip.gguf, tmp_path / str(i), base=base) for i, base in enumerate((trip.base, hf_folder))
    ]
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


class TestRefusals:
    """One typed error, and nothing is left behind."""

    @pytest.fixture
    def trip(self, tmp_path: Path) -> Trip:
        return Trip(tmp_path, AdapterSpec())

    def refused(self, trip: Trip, found: str, *, base: Path | None = None, target: str = "back") -> None:
        before = sorted(trip.folder.rglob("*"))
        with pytest.raises(ConversionError) as error:
            write_peft_folder(trip.gguf, trip.folder / target, base=base)
        assert found in str(error.value)
        assert sorted(trip.folder.rglob("*")) == before

    def test_files_that_are_no_adapters(self, trip: Trip) -> None:
        trip.gguf = trip.folder / "none.gguf"
        self.refused(trip, "cannot read")
        trip.gguf = trip.base
        self.refused(trip, "general.type 'model'")
        trip.gguf = trip.there / "adapter_config.json"
        self.refused(trip, "GGUF")

    @pytest.mark.parametrize("keep", [0, 10, 200, 0.5, -1])
    def test_files_that_are_cut(self, trip: Trip, keep: float) -> None:
        content = trip.gguf.read_bytes()
        trip.gguf.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
        self.refused(trip, trip.gguf.name, base=trip.base)

    def test_another_base(self, trip: Trip) -> None:
        other = write_gguf(make_model("qwen2"), trip.folder / "other.gguf")
        self.refused(trip, "architecture llama, but", base=other)
        wider = write_gguf(make_model("mistral"), trip.folder / "wider.gguf")
        self.refused(trip, "of shape [64, 64]", base=wider)

    def test_a_target_that_is_there(self, trip: Trip) -> None:
        self.refused(trip, "is there already", base=trip.base, target="adapter")
        self.refused(trip, "is there already", base=trip.base, target=trip.gguf.name)
        self.refused(trip, "cannot write", base=trip.base, target="no/such/place")
        (trip.folder / "empty").mkdir()
        write_peft_folder(trip.gguf, trip.folder / "empty", base=trip.base)

    def test_numbers_that_are_none(self, trip: Trip) -> None:
        """Found only while writing."""
        content = bytearray(trip.gguf.read_bytes())
        content[-4:] = np.float32(np.nan).tobytes()
        trip.gguf.write_bytes(content)
        self.refused(trip, "NaN", base=trip.base)

    def test_an_activation_that_peft_does_not_know(self, trip: Trip) -> None:
        rewrite(trip, {"alora.activation_offset": 1})
        self.refused(trip, "PEFT has no such adapters", base=trip.base)


def rewrite(trip: Trip, changed: dict[str, int | None]) -> None:
    """Writes an adapter again with some numbers among its keys changed, or left out."""
    reader = gguf.GGUFReader(trip.gguf)
    trip.gguf = trip.folder / "changed.gguf"
    writer = gguf.GGUFWriter(trip.gguf, str(reader.fields["general.architecture"].contents()))
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key not in {"general.architecture", *changed}:
            items = field.types[-1] if field.types[0] is gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), field.types[0], items)
    for key, number in changed.items():
        if number is not None:
            writer.add_uint32(key, number)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
