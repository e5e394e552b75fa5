"""What cannot be converted is refused by name, and leaves no file behind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gguf
import numpy as np
import pytest

from alora_cpp.convert import convert_adapter
from alora_cpp.errors import ConversionError
from oracle.adapter_files import Array, edit_config, edit_header, edit_weights
from oracle.tiny_models import (
    ALL_LINEAR,
    AdapterSpec,
    make_model,
    write_adapter,
    write_gguf,
    write_hf,
)

Q0 = "base_model.model.model.layers.0.self_attn.q_proj"


def config(**changes: object) -> Callable[[Path], None]:
    """Changes settings of the adapter."""
    return lambda folder: edit_config(folder, **changes)


def weights(change: Callable[[dict[str, Array]], Any]) -> Callable[[Path], None]:
    """Changes the adapter's tensors."""
    return lambda folder: edit_weights(folder, change)


def header(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Changes the header of the adapter's tensors."""
    return lambda folder: edit_header(folder, change)


def rename(old: str, new: str) -> Callable[[Path], None]:
    """Renames the tensors whose names contain a text."""

    def change(tensors: dict[str, Array]) -> None:
        for name in [name for name in tensors if old in name]:
            tensors[name.replace(old, new)] = tensors.pop(name)

    return weights(change)


def content(file: str, data: bytes) -> Callable[[Path], None]:
    """Replaces a file of the folder."""

    def change(folder: Path) -> None:
        (folder / file).write_bytes(data)

    return change


def append(file: str, data: bytes) -> Callable[[Path], None]:
    """Lengthens a file of the folder."""

    def change(folder: Path) -> None:
        (folder / file).write_bytes((folder / file).read_bytes() + data)

    return change


def cut(file: str, keep: float) -> Callable[[Path], None]:
    """Keeps the first part of a file."""

    def change(folder: Path) -> None:
        data = (folder / file).read_bytes()
        (folder / file).write_bytes(data[: int(len(data) * keep)])

    return change


def shift_offsets(entries: dict[str, Any], by: int) -> None:
    """Moves where a header looks for every tensor's data."""
    for name in entries.keys() - {"__metadata__"}:
        entries[name]["data_offsets"] = [offset + by for offset in entries[name]["data_offsets"]]


def gap_at_the_start(folder: Path) -> None:
    """Puts bytes that belong to no tensor before the first one's."""
    edit_header(folder, lambda entries: shift_offsets(entries, 8))
    data = (folder / TENSORS).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    (folder / TENSORS).write_bytes(data[:start] + bytes(8) + data[start:])


def as_pickle(folder: Path) -> None:
    """Leaves only the old format of weights."""
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def remove(file: str) -> Callable[[Path], None]:
    """Removes a file of the folder."""
    return lambda folder: (folder / file).unlink()


def put(name: str, index: tuple[int, ...], value: float) -> Callable[[Path], None]:
    """Sets one number of one tensor."""
    return weights(lambda tensors: tensors[name].__setitem__(index, value))


TENSORS = "adapter_model.safetensors"

BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    # The configuration.
    "no config": (remove("adapter_config.json"), "cannot read .*adapter_config.json"),
    "bad JSON": (content("adapter_config.json", b"{"), "adapter_config.json is not valid JSON"),
    "no object": (content("adapter_config.json", b"[]"), "adapter_config.json holds no JSON obj"),
    "deep JSON": (content("adapter_config.json", b"[" * 200_000), "is not valid JSON"),
    "not UTF-8": (content("adapter_config.json", b'{"\xff": 1}'), "is not valid JSON"),
    "other kind": (config(peft_type="IA3"), "peft_type 'IA3'; expected 'LORA'"),
    "DoRA": (config(use_dora=True), "use_dora = True; DoRA"),
    "QALoRA": (config(use_qalora=True), "use_qalora = True"),
    "bias": (config(bias="lora_only"), "bias = 'lora_only'; expected 'none'"),
    "bias of B": (config(lora_bias=True), "lora_bias = True"),
    "modules_to_save": (config(modules_to_save=["lm_head"]), r"modules_to_save = \['lm_head'\]"),
    "new tokens": (config(trainable_token_indices=[3]), "trainable_token_indices"),
    "expert parameters": (config(target_parameters=["a.b"]), "target_parameters"),
    "transposed": (config(fan_in_fan_out=True), "fan_in_fan_out"),
    "replicated layers": (config(layer_replication=[[0, 1]]), "layer_replication"),
    "PiSSA": (config(init_lora_weights="pissa_niter_4"), "'pissa_niter_4', so the adapter fits"),
    "rank zero": (config(r=0), "r = 0; expected a positive integer"),
    "rank text": (config(r="4"), "r = '4'; expected a positive integer"),
    "rank true": (config(r=True), "r = True; expected a positive integer"),
    "no alpha": (config(lora_alpha=None), "lora_alpha = None; expected a finite number"),
    "alpha NaN": (config(lora_alpha=float("nan")), "lora_alpha = nan; expected a finite"),
    "alpha huge": (config(lora_alpha=10**400), "lora_alpha = 1000.*; expected a finite"),
    "pattern list": (config(rank_pattern=[1]), r"rank_pattern = \[1\]; expected an object"),
    "pattern broken": (config(alpha_pattern={"(": 1}), "'.' in alpha_pattern, which is no reg"),
    "pattern value": (config(rank_pattern={"q_proj": 0}), "rank of q_proj = 0"),
    # The invocation.
    "legacy number": (
        config(alora_invocation_tokens=None, invocation_string=5),
        "_string = 5; expected a text",
    ),
    "legacy half character": (
        config(alora_invocation_tokens=None, invocation_string="\ud800 sure"),
        "half of a character",
    ),
    "empty invocation": (config(alora_invocation_tokens=[]), r"tokens = \[\]; expected a list"),
    "invocation text": (config(alora_invocation_tokens="5"), "tokens = '5'; expected a list"),
    "negative token": (config(alora_invocation_tokens=[5, -1]), "-1 in alora_invocation_tokens"),
    "fractional token": (config(alora_invocation_tokens=[5.5]), "5.5 in alora_invocation_tokens"),
    "unknown token": (config(alora_invocation_tokens=[104]), "token 104, but .* ends at 103"),
    # The tensors.
    "pickle": (as_pickle, "adapter_model.bin, a pickle"),
    "no weights": (remove(TENSORS), "has no adapter_model.safetensors"),
    "no tensors": (weights(lambda tensors: tensors.clear()), "holds no tensors"),
    "missing A": (weights(lambda t: t.pop(f"{Q0}.lora_A.weight")), "no lora_A for model.layers.0"),
    "missing B": (weights(lambda t: t.pop(f"{Q0}.lora_B.weight")), "no lora_B for model.layers.0"),
    "missing pair": (
        weights(lambda t: [t.pop(f"{Q0}.lora_{part}.weight") for part in "AB"]),
        "no lora_A and lora_B for model.layers.0.self_attn.q_proj, which target_modules names",
    ),
    "DoRA tensor": (rename("q_proj.lora_A.weight", "q_proj.lora_magnitude_vector"), "DoRA"),
    "full module": (rename("q_proj.lora_A.weight", "modules_to_save.weight"), "fully trained"),
    "embedding": (rename("layers.0.self_attn.q_proj", "embed_tokens"), "which is an embedding"),
    "embedding pair": (rename("q_proj.lora_A.weight", "lora_embedding_A"), "of an embedding"),
    "head": (rename("model.layers.0.self_attn.q_proj", "lm_head"), "is the output embedding"),
    "expert": (rename("self_attn.q_proj", "mlp.experts.1.up_proj"), "which belongs to experts"),
    "convolution": (rename("self_attn.q_proj", "mixer.conv1d"), "which is a convolution"),
    "unknown module": (
        rename("self_attn.q_proj", "self_attn.x_proj"),
        "x_proj.lora_A.weight, which is not known",
    ),
    "other family": (rename("mlp.up_proj", "mlp.gate_up_proj"), "has both .*gate_proj and .*gate_up_proj, which are"),
    "twice": (
        weights(lambda t: t.update({f"{Q0}.lora_A.weight".replace("model.layers", "layers"): np.zeros((4, 64), "f4")})),
        "has no lora_B for layers.0.self_attn.q_proj",
    ),
    "odd layer": (rename("layers.0.", "layers.00."), "which is not known"),
    "adapter name": (rename("lora_A.weight", "lora_A.default.weight"), "which is not known"),
    "layer too high": (rename("layers.1.", "layers.2."), "has layer 2 .* has only 2 layers"),
    "rank differs": (config(r=5), r"lora_A of shape \[4, 96\] .* says rank 5"),
    "flat": (weights(lambda t: t.update({f"{Q0}.lora_A.weight": np.zeros(4, "f4")})), "rank 4"),
    "too narrow": (
        weights(lambda t: t.update({f"{Q0}.lora_A.weight": np.zeros((4, 32), "f4")})),
        r"weight of shape \[64, 32\], but blk.0.attn_q.weight of .* is \[64, 64\]",
    ),
    "too short": (
        weights(lambda t: t.update({f"{Q0}.lora_B.weight": np.zeros((32, 4), "f4")})),
        r"weight of shape \[32, 64\], but blk.0.attn_q.weight of .* is \[64, 64\]",
    ),
    "NaN": (put(f"{Q0}.lora_B.weight", (3, 1), float("nan")), "attn_q.weight.lora_b contain NaN"),
    "infinity": (put(f"{Q0}.lora_A.weight", (0, 0), float("-inf")), "lora_a contain NaN or inf"),
    "too large": (put(f"{Q0}.lora_A.weight", (0, 0), 1e6), r"reach 1e\+06, too much for f16"),
    # The tensors' file.
    "empty file": (content(TENSORS, b""), "no valid safetensors file|damaged or truncated"),
    "header cut": (cut(TENSORS, 0.01), "is no valid safetensors file"),
    "data cut": (cut(TENSORS, 0.9), "is damaged or truncated"),
    "length huge": (content(TENSORS, b"\xff" * 64), "is no valid safetensors file"),
    "header text": (content(TENSORS, b"\x02" + bytes(7) + b"[]"), "is no valid safetensors file"),
    "header deep": (
        content(TENSORS, (200_000).to_bytes(8, "little") + b"[" * 200_000),
        "is no valid safetensors file",
    ),
    "appended": (
        append(TENSORS, b"12"),
        "is damaged or truncated",
    ),
    "gap": (header(lambda h: h.pop(f"{Q0}.lora_A.weight")), "is damaged or truncated"),
    "no shape": (header(lambda h: h[f"{Q0}.lora_A.weight"].pop("shape")), "is no valid safete"),
    "wrong shape": (
        header(lambda h: h[f"{Q0}.lora_A.weight"].update(shape=[4, 63])),
        r"of shape \[4, 63\] has 1024 bytes",
    ),
    "negative shape": (
        header(lambda h: h[f"{Q0}.lora_A.weight"].update(shape=[-4, -64])),
        r"no valid .* has shape \[-4, -64\]",
    ),
    "other type": (header(lambda h: h[f"{Q0}.lora_A.weight"].update(dtype="I32")), "type I32, exp"),
    "offset text": (
        header(lambda h: h[f"{Q0}.lora_A.weight"].update(data_offsets=["0", "1024"])),
        "is no valid safetensors file",
    ),
    "offset before": (
        header(lambda h: shift_offsets(h, -8)),
        "is damaged or truncated",
    ),
    "gap at the start": (gap_at_the_start, "is damaged or truncated"),
    # What lies beside them.
    "io.yaml": (content("io.yaml", b"model: \xff"), "io.yaml is not UTF-8 .* at byte 7"),
    "io.yaml that says nothing": (content("io.yaml", b"model: ~\n"), "io.yaml, line 1: .*lacks response_format"),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama base."""
    return write_gguf(make_model("llama"), tmp_path_factory.mktemp("base") / "base.gguf")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An adapter in order, as every test starts from."""
    return write_adapter(make_model("llama"), AdapterSpec(targets=ALL_LINEAR), tmp_path / "adapter")


def refuse(folder: Path, message: str, *, base: Path | None = None, outtype: str = "f16") -> None:
    """Expects a refusal in one line, and the folder around as it was."""
    outfile = folder.parent / "out.gguf"
    outfile.write_text("of an earlier run")
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(ConversionError) as caught:
        convert_adapter(folder, outfile, base=base, outtype=outtype)
    assert re.search(message, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(folder.parent.rglob("*")) == before
    assert outfile.read_text() == "of an earlier run"


def test_the_adapter_is_in_order(folder: Path, base: Path) -> None:
    """Otherwise the refusals below would prove nothing."""
    convert_adapter(folder, folder.parent / "out.gguf", base=base)


@pytest.mark.parametrize("case", BROKEN)
def test_broken_adapter(case: str, folder: Path, base: Path) -> None:
    """Each defect is named."""
    change, message = BROKEN[case]
    change(folder)
    refuse(folder, message, base=base)


def test_no_folder(tmp_path: Path, base: Path) -> None:
    """A file is not taken for a folder."""
    with pytest.raises(ConversionError, match=r"base\.gguf is no folder"):
        convert_adapter(base, tmp_path / "out.gguf", base=base)


def test_unknown_outtype(folder: Path, base: Path) -> None:
    """The known ones are listed."""
    refuse(folder, "'q4_0' is not known; expected f32, f16, bf16, q8_0", base=base, outtype="q4_0")


@pytest.mark.parametrize("name", [None, "org/name", "/no/such/folder"])
def test_base_not_given(name: str | None, folder: Path) -> None:
    """Nothing is fetched, and nothing guessed."""
    edit_config(folder, base_model_name_or_path=name)
    refuse(folder, rf"names the base {name!r}, which is no local folder; name the base's GGUF")


def test_base_missing(folder: Path, tmp_path: Path) -> None:
    """A wrong path is a wrong path."""
    refuse(folder, "nowhere.gguf does not exist", base=tmp_path / "nowhere.gguf")


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.005, 0.012])
def test_base_truncated(keep: float, folder: Path, base: Path) -> None:
    """Wherever it ends."""
    data = base.read_bytes()
    broken = folder.parent / "broken.gguf"
    broken.write_bytes(data[: int(len(data) * keep)])
    refuse(folder, "broken.gguf cannot be read as GGUF", base=broken)


@pytest.mark.parametrize(
    ("start", "message"), [(b"{", "does not begin with GGUF"), (b"GGUF\1", "version 1, expected 2 or 3")]
)
def test_base_of_another_format(start: bytes, message: str, folder: Path, base: Path) -> None:
    """Old files of the same name, and other files."""
    other = folder.parent / "other.gguf"
    other.write_bytes(start + base.read_bytes()[len(start) :])
    refuse(folder, message, base=other)


def test_base_is_an_adapter(folder: Path, base: Path) -> None:
    """Mixing up the two files is easy."""
    adapter = convert_adapter(folder, folder.parent / "adapter.gguf", base=base)
    refuse(folder, "has general.type 'adapter' and general.architecture 'llama'", base=adapter)


def test_base_of_unknown_architecture(folder: Path) -> None:
    """In a GGUF and in a folder."""
    path = folder.parent / "other.gguf"
    writer = gguf.GGUFWriter(path, "bloom")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    refuse(folder, "'bloom'; expected 'model' and one of llama, granite, granitemoe", base=path)
    hf_folder = folder.parent / "other"
    hf_folder.mkdir()
    refuse(folder, "cannot read .*config.json", base=hf_folder)
    (hf_folder / "config.json").write_text('{"model_type": "bloom"}')
    refuse(folder, "model_type 'bloom'; expected one of llama, mistral, granite", base=hf_folder)
    for text in ("{", "3"):
        (hf_folder / "config.json").write_text(text)
        refuse(folder, "config.json (is not valid JSON|holds no JSON object)", base=hf_folder)


@pytest.mark.parametrize("value", [None, 0, -1, 2.5, "64", [64, 64], True])
def test_base_with_odd_sizes(value: object, folder: Path) -> None:
    """Such as one for each layer."""
    hf_folder = write_hf(make_model("llama"), folder.parent / "hf")
    path = hf_folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_size": value}))
    refuse(folder, "hidden_size = .*; expected one positive number", base=hf_folder)


@pytest.mark.parametrize("family", ["mistral", "qwen3"])
def test_base_of_other_shapes(family: str, folder: Path) -> None:
    """A base of the right family or layer count is not yet the right base."""
    base = write_gguf(make_model(family), folder.parent / "base.gguf")
    refuse(folder, r"shape \[32, 64\], but blk.0.attn_k.weight of .* is \[48, 64\]", base=base)


def test_base_without_a_weight(folder: Path, base: Path) -> None:
    """The tensor is looked for, not only its shape worked out."""
    other = write_again(base, folder.parent / "other.gguf", renamed=("ffn_gate", "ffn_gate_exps"))
    refuse(
        folder,
        r"has no weight in block 0 that holds gate, which the adapter's model\.layers\.0\.mlp\.gate_p",
        base=other,
    )


@pytest.mark.parametrize("value", [[2, 4], 2.0, "2"])
def test_base_with_odd_keys(value: object, folder: Path, base: Path) -> None:
    """Such as a number of heads for each layer."""
    odd = write_again(base, folder.parent / "odd.gguf", changes={"llama.attention.head_count_kv": value})
    refuse(folder, "head_count_kv = .*; expected one positive number", base=odd)


@pytest.mark.parametrize("heads", [3, 8, 10**9])
def test_base_that_contradicts_itself(heads: int, folder: Path, base: Path) -> None:
    """Rows can be put in order only where the number of heads is right."""
    odd = write_again(base, folder.parent / "odd.gguf", changes={"llama.attention.head_count_kv": heads})
    refuse(
        folder,
        f"says 4 heads, {heads} key and value heads and thus .* for blk.0.attn_k.weight, which has .32, 64.;",
        base=odd,
    )


@pytest.mark.parametrize("size", [2**40, 2**64 - 1])
def test_base_with_a_damaged_count(size: int, folder: Path, base: Path) -> None:
    """A huge count ends the reading; it does not keep it busy."""
    data = base.read_bytes()
    at = data.index(b"tokenizer.ggml.tokens") + len("tokenizer.ggml.tokens") + 8
    broken = folder.parent / "broken.gguf"
    broken.write_bytes(data[:at] + size.to_bytes(8, "little") + data[at + 8 :])
    refuse(folder, "broken.gguf cannot be read as GGUF", base=broken)


def write_again(
    base: Path, path: Path, *, renamed: tuple[str, str] = ("", ""), changes: Mapping[str, object] = MappingProxyType({})
) -> Path:
    """Copies a base with other keys, or other names of tensors."""
    reader = gguf.GGUFReader(base)
    writer = gguf.GGUFWriter(path, "llama")
    for key, field in reader.fields.items():
        if key.startswith("llama."):
            value = changes.get(key, field.contents())
            writer.add_key_value(key, value, gguf.GGUFValueType.get_type(value))
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name.replace(*renamed), tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_outfile_cannot_be_written(folder: Path, base: Path) -> None:
    """A missing folder, a folder, and the base itself."""
    for outfile, message in (
        (folder.parent / "missing" / "out.gguf", "cannot write"),
        (folder, "is a folder"),
        (base, "is the base model"),
    ):
        content_before = base.read_bytes()
        with pytest.raises(ConversionError, match=message):
            convert_adapter(folder, outfile, base=base)
        assert base.read_bytes() == content_before
