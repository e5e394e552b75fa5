"""Files that are broken or belong elsewhere: each gives its typed error, names what was found, and harms nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from alora_cpp import (
    Adapter,
    AdapterError,
    AdapterMismatchError,
    AloraError,
    ArgumentError,
    Context,
    ConversionError,
    InvocationNotFoundError,
    Model,
    ModelLoadError,
)
from oracle.tiny_models import ALL_LINEAR
from tiny import N_VOCAB, AdapterFile, Key, Kind, adapter_file, fresh_logits, make_model, random_tokens, rewrite_gguf

TOKENS = random_tokens(80, 12)
INVOCATION_KEY = "adapter.alora.invocation_tokens"


@pytest.fixture(scope="module")
def reference(model: Model) -> np.ndarray:
    return fresh_logits(model, TOKENS)


@pytest.fixture(autouse=True)
def nothing_is_harmed(model: Model, reference: np.ndarray, context: Context) -> Any:
    """Whatever a test throws at the library, a context that was open all the while works afterwards."""
    branch = context.branch()
    branch.append(TOKENS)
    yield
    context.decode()
    assert np.abs(branch.logits(rows=len(TOKENS)) - reference).max() < 1e-5


def message(error: type[AloraError], call: Callable[[], object]) -> str:
    with pytest.raises(AloraError) as caught:
        call()
    assert type(caught.value) is error, caught.value
    text = str(caught.value)
    assert len(text) > 10
    assert "\n" not in text
    return text


def offsets(size: int) -> list[int]:
    random = np.random.Generator(np.random.PCG64(6000))
    return sorted({0, 1, 3, 4, 8, 23, 24, 25, 100, size // 2, size - 1, *random.integers(1, size, 60).tolist()})


def test_a_model_cut_short_anywhere_is_refused(model_path: Path, tmp_path: Path) -> None:
    content = model_path.read_bytes()
    for size in offsets(len(content)):
        (tmp_path / "cut.gguf").write_bytes(content[:size])
        assert "cut.gguf" in message(ModelLoadError, lambda: Model(tmp_path / "cut.gguf"))


def test_an_adapter_cut_short_anywhere_is_refused(model: Model, adapter_paths: list[Path], tmp_path: Path) -> None:
    content = adapter_paths[0].read_bytes()
    for size in offsets(len(content)):
        (tmp_path / "cut.gguf").write_bytes(content[:size])
        text = message(AdapterError, lambda: model.load_adapter(tmp_path / "cut.gguf"))
        assert "cut.gguf" in text
    assert "cut short" in text


def test_flipped_bytes_in_an_adapters_header_never_take_the_process_down(
    model: Model, adapter_paths: list[Path], tmp_path: Path
) -> None:
    content = bytearray(adapter_paths[1].read_bytes())
    random = np.random.Generator(np.random.PCG64(6001))
    header = content.index(b"blk.0.") + 2000
    for _ in range(300):
        changed = bytearray(content)
        changed[int(random.integers(header))] = int(random.integers(256))
        (tmp_path / "flipped.gguf").write_bytes(changed)
        with contextlib.suppress(AloraError):
            model.load_adapter(tmp_path / "flipped.gguf")


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF" + b"\xff" * 100, b"no model at all", b"\0" * 4096])
def test_files_that_are_no_gguf(model: Model, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.gguf"
    path.write_bytes(content)
    assert "odd.gguf" in message(ModelLoadError, lambda: Model(path))
    assert "odd.gguf" in message(AdapterError, lambda: model.load_adapter(path))


def test_files_that_are_not_there_or_are_folders(model: Model, tmp_path: Path) -> None:
    assert "nothing.gguf" in message(ModelLoadError, lambda: Model(tmp_path / "nothing.gguf"))
    assert "nothing.gguf" in message(AdapterError, lambda: model.load_adapter(tmp_path / "nothing.gguf"))
    assert str(tmp_path) in message(ModelLoadError, lambda: Model(tmp_path))
    assert "adapter_config.json" in message(ConversionError, lambda: model.load_adapter(tmp_path))


def test_a_model_is_no_adapter_and_an_adapter_no_model(
    model: Model, model_path: Path, adapter_paths: list[Path]
) -> None:
    assert "general.type" in message(AdapterError, lambda: model.load_adapter(model_path))
    message(ModelLoadError, lambda: Model(adapter_paths[0]))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("general__architecture", None),
        ("llama__block_count", Key("two", Kind.STRING)),
        ("llama__embedding_length", Key(48, Kind.UINT32)),
        ("llama__attention__head_count", Key(0, Kind.UINT32)),
        ("llama__attention__head_count", Key(3, Kind.UINT32)),
        ("llama__attention__head_count_kv", Key(3, Kind.UINT32)),
        ("llama__block_count", Key(3, Kind.UINT32)),
        ("llama__context_length", Key(-1.5, Kind.FLOAT32)),
        ("llama__rope__dimension_count", Key(7, Kind.UINT32)),
        ("tokenizer__ggml__model", Key("unknown", Kind.STRING)),
        ("tokenizer__ggml__model", Key("no_vocab", Kind.STRING)),
        ("tokenizer__ggml__tokens", Key([1, 2, 3], Kind.ARRAY, Kind.UINT32)),
        ("tokenizer__ggml__tokens", Key(["a", "b"], Kind.ARRAY, Kind.STRING)),
        ("tokenizer__ggml__tokens", Key(["a"] * N_VOCAB, Kind.ARRAY, Kind.STRING)),
    ],
)
def test_a_model_whose_keys_are_wrong_is_refused(model_path: Path, tmp_path: Path, key: str, value: Key | None) -> None:
    path = tmp_path / "wrong.gguf"
    if key == "general__architecture":
        path.write_bytes(model_path.read_bytes().replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0llami", 1))
    else:
        rewrite_gguf(model_path, path, **{key: value})
    assert "wrong.gguf" in message(ModelLoadError, lambda: Model(path))


def bend(change: Callable[[AdapterFile], object], **options: Any) -> AdapterFile:
    file = adapter_file(make_model("llama"), **options)
    change(file)
    return file


def without(name: str) -> AdapterFile:
    return bend(lambda file: file.tensors.pop(name))


def with_tensor(name: str, tensor: np.ndarray) -> AdapterFile:
    return bend(lambda file: file.tensors.update({name: tensor.astype(np.float32)}))


def with_key(name: str, key: Key) -> AdapterFile:
    return bend(lambda file: file.keys.update({name: key}))


def with_pair(weight: str, inputs: int, outputs: int) -> AdapterFile:
    pair = {f"{weight}.lora_a": np.ones((4, inputs), np.float32), f"{weight}.lora_b": np.ones((outputs, 4), np.float32)}
    return bend(lambda file: file.tensors.update(pair))


def spoil(value: float) -> AdapterFile:
    return bend(lambda file: file.tensors["blk.1.ffn_up.weight.lora_b"].__setitem__((3, 2), value))


A, B = "blk.0.attn_q.weight.lora_a", "blk.1.attn_v.weight.lora_b"

BROKEN: dict[str, tuple[AdapterFile, type[AloraError], str]] = {
    "other architecture": (adapter_file(make_model("qwen3")), AdapterMismatchError, "qwen3"),
    "no a": (without(A), AdapterError, "attn_q"),
    "no b": (without(B), AdapterError, "attn_v"),
    "no weights": (bend(lambda file: file.tensors.clear()), AdapterError, "no LoRA weights"),
    "other width in": (with_tensor(A, np.ones((4, 48))), AdapterMismatchError, "48"),
    "other width out": (with_tensor(B, np.ones((40, 4))), AdapterMismatchError, "40"),
    "ranks that differ": (with_tensor(A, np.ones((5, 64))), AdapterError, "ranks"),
    "three dimensions": (with_tensor(A, np.ones((2, 4, 64))), AdapterError, "attn_q"),
    "a layer too many": (with_pair("blk.2.attn_q.weight", 64, 64), AdapterMismatchError, "blk.2"),
    "token embeddings": (with_pair("token_embd.weight", 64, N_VOCAB), AdapterError, "token_embd"),
    "output head": (with_pair("output.weight", 64, N_VOCAB), AdapterError, "output.weight"),
    "experts": (with_pair("blk.0.ffn_up_exps.weight", 64, 96), AdapterError, "ffn_up_exps"),
    "router": (with_pair("blk.0.ffn_gate_inp.weight", 64, 4), AdapterError, "ffn_gate_inp"),
    "norm": (with_pair("blk.0.attn_norm.weight", 64, 64), AdapterError, "attn_norm"),
    "dora": (with_tensor("blk.0.attn_q.weight.lora_magnitude", np.ones(64)), AdapterError, "lora_magnitude"),
    "whole weight": (with_tensor("blk.0.attn_q.weight", np.ones((64, 64))), AdapterError, "attn_q"),
    "nan weight": (spoil(float("nan")), AdapterError, "ffn_up"),
    "infinite weight": (spoil(float("inf")), AdapterError, "ffn_up"),
    "no type": (bend(lambda file: file.keys.pop("general.type")), AdapterError, "general.type"),
    "other type": (with_key("general.type", Key("model", Kind.STRING)), AdapterError, "general.type"),
    "type as number": (with_key("general.type", Key(1, Kind.UINT32)), AdapterError, "general.type"),
    "other kind": (with_key("adapter.type", Key("ia3", Kind.STRING)), AdapterError, "ia3"),
    "alpha as string": (with_key("adapter.lora.alpha", Key("8", Kind.STRING)), AdapterError, "alpha"),
    "alpha as integer": (with_key("adapter.lora.alpha", Key(8, Kind.UINT32)), AdapterError, "alpha"),
    "nan alpha": (with_key("adapter.lora.alpha", Key(float("nan"), Kind.FLOAT32)), AdapterError, "alpha"),
    "name as number": (with_key("general.name", Key(3, Kind.UINT32)), AdapterError, "general.name"),
    "int32 invocation": (with_key(INVOCATION_KEY, Key([5, 6], Kind.ARRAY, Kind.INT32)), AdapterError, "i32"),
    "text invocation": (with_key(INVOCATION_KEY, Key(["a"], Kind.ARRAY, Kind.STRING)), AdapterError, "str"),
    "invocation no array": (with_key(INVOCATION_KEY, Key(5, Kind.UINT32)), AdapterError, "u32"),
    "unknown token": (
        with_key(INVOCATION_KEY, Key([5, N_VOCAB], Kind.ARRAY, Kind.UINT32)),
        AdapterMismatchError,
        str(N_VOCAB),
    ),
    "huge token": (
        with_key(INVOCATION_KEY, Key([2**32 - 1], Kind.ARRAY, Kind.UINT32)),
        AdapterMismatchError,
        "4294967295",
    ),
    "offset behind the invocation": (
        with_key("alora.activation_offset", Key(4, Kind.UINT32)),
        AdapterError,
        "activation_offset is 4",
    ),
    "huge offset": (with_key("alora.activation_offset", Key(2**32 - 1, Kind.UINT32)), AdapterError, "offset"),
    "offset as string": (with_key("alora.activation_offset", Key("1", Kind.STRING)), AdapterError, "offset"),
    "io_yaml as number": (with_key("alora.io_yaml", Key(1, Kind.UINT32)), AdapterError, "io_yaml"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_adapter_that_cannot_be_run_is_refused(model: Model, tmp_path: Path, name: str) -> None:
    file, error, named = BROKEN[name]
    text = message(error, lambda: model.load_adapter(file.write(tmp_path / "bad.gguf")))
    assert "bad.gguf" in text
    assert named in text


def test_an_adapter_for_a_wider_model_of_the_same_architecture_is_refused(
    model: Model, folder: Path, tmp_path: Path
) -> None:
    """mistral's GGUF is a llama too, with wider heads here."""
    mistral = make_model("mistral")
    path = adapter_file(mistral).write(tmp_path / "wide.gguf")
    assert "another base" in message(AdapterMismatchError, lambda: model.load_adapter(path))


@pytest.mark.parametrize("kind", [gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.BF16])
def test_nan_in_smaller_number_types_is_found(model: Model, tmp_path: Path, kind: gguf.GGMLQuantizationType) -> None:
    file = spoil(float("nan"))
    writer = gguf.GGUFWriter(tmp_path / "half.gguf", "llama")
    for name, key in file.keys.items():
        writer.add_key_value(name, key.value, key.kind, key.items)
    for name, tensor in file.tensors.items():
        writer.add_tensor(name, gguf.quants.quantize(tensor, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert "ffn_up" in message(AdapterError, lambda: model.load_adapter(tmp_path / "half.gguf"))


def test_a_scale_that_is_no_number_is_refused(context: Context, adapters: list[Adapter]) -> None:
    branch = context.branch()
    for scale in (float("nan"), float("inf"), float("-inf")):
        assert "scale" in message(ArgumentError, lambda scale=scale: branch.activate(adapters[0], scale=scale))
    assert branch.adapter is None


@pytest.mark.parametrize("text", ["\ud800", "fine \udfff not", "\udc80abc"])
def test_text_that_is_no_unicode_is_refused(model: Model, context: Context, text: str) -> None:
    assert "Unicode" in message(ArgumentError, lambda: model.tokenize(text))
    branch = context.branch()
    branch.append([9])
    message(ArgumentError, lambda: context.score([(branch, ["ok", text])]))
    message(ArgumentError, lambda: context.generate([branch], stop=["ok", text]))
    message(ArgumentError, lambda: context.generate([branch], stop="END"))


def test_text_in_files_may_be_any_bytes(model: Model, model_path: Path, tmp_path: Path) -> None:
    path = adapter_file(make_model("llama"), name="XXXX", targets=ALL_LINEAR[:1]).write(tmp_path / "a.gguf")
    path.write_bytes(path.read_bytes().replace(b"XXXX", b"X\xff\x80X"))
    adapter = model.load_adapter(path)
    assert adapter.name == adapter.metadata["general.name"] == "X\ufffd\ufffdX"
    assert "X\ufffd\ufffdX" in message(InvocationNotFoundError, lambda: adapter.find_invocation([9]))
    other = tmp_path / "m.gguf"
    other.write_bytes(model_path.read_bytes().replace(b"tiny-llama", b"tiny-\xfflama"))
    with Model(other) as changed:
        assert changed.metadata["general.name"] == "tiny-\ufffdlama"
