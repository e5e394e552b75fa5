"""An adapter knows its base by the weights that every quantization shares, by its name and by its invocation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from alora_cpp import AdapterError, AdapterMismatchError, Model, _core
from alora_cpp.convert import convert_adapter
from oracle.tiny_models import AdapterSpec, TinyModel, make_model, write_adapter
from tiny import Array, Key, Kind, adapter_file, base_named, fresh_logits, random_tokens, rewrite_gguf, write_gguf


@pytest.fixture(scope="module")
def converted(tiny_model: TinyModel, model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted")
    peft = write_adapter(tiny_model, AdapterSpec(), folder / "peft")
    return convert_adapter(peft, folder / "certainty.gguf", base=model_path)


def loads(path: Path, adapter: Path, *, force: bool = False) -> bool:
    """Whether a model takes the adapter; loading and checking must agree."""
    with Model(path) as model:
        told = [
            mismatch(lambda: model.load_adapter(adapter, force=force)),
            mismatch(lambda: _core.Adapter.check(model._core, str(adapter), force=force)),
        ]
    assert told[0] == told[1]
    return told[0] is None


def mismatch(act: Callable[[], object]) -> str | None:
    try:
        act()
    except AdapterMismatchError as error:
        return str(error)
    return None


def quantize(source: Path, path: Path) -> Path:
    """Copies a model with its matrices in blocks, as quantizing does: vectors stay what they are."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, "llama")
    for name, entry in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            items = entry.types[-1] if entry.types[0] is Kind.ARRAY else None
            writer.add_key_value(name, entry.contents(), entry.types[0], items)
    for tensor in reversed(reader.tensors):
        kind = gguf.GGMLQuantizationType.Q8_0 if len(tensor.shape) > 1 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(tensor.name, gguf.quantize(np.array(tensor.data), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_every_quantization_of_the_base_will_do(model_path: Path, converted: Path, tmp_path: Path) -> None:
    """Whatever it is called, and in whatever order its tensors are."""
    assert loads(model_path, converted)
    renamed = rewrite_gguf(model_path, tmp_path / "renamed.gguf", general__name=named("other"))
    assert loads(quantize(renamed, tmp_path / "q8_0.gguf"), converted)


def test_another_training_run_will_not(model: Model, converted: Path, tmp_path: Path) -> None:
    """Same architecture, shapes, name and vocabulary, other weights. Tried with: names looked at first."""
    other = write_gguf(make_model("llama", seed=5), tmp_path / "other.gguf")
    with Model(other) as tuned:
        assert tuned._core.fingerprints.vocabulary == model._core.fingerprints.vocabulary
        with pytest.raises(AdapterMismatchError) as raised:
            tuned.load_adapter(converted)
        for told in (
            "'tiny-llama'",
            str(model._core.fingerprints.weights),
            str(tuned._core.fingerprints.weights),
            str(other),
            "force",
        ):
            assert told in str(raised.value)
        forced = tuned.load_adapter(converted, force=True)
        tokens = random_tokens(1, 12)
        assert np.abs(fresh_logits(tuned, tokens, adapter=forced) - fresh_logits(tuned, tokens)).max() > 1e-2


def named(name: str) -> Key:
    return Key(name, Kind.STRING)


@pytest.mark.parametrize(
    ("base", "name", "fits"),
    [
        ("granite-3.3-8b-instruct", "Granite 3.3 8b Instruct", True),
        ("ibm-granite/granite-3.3-8b-instruct", "granite-3.3-8b", True),
        ("granite-3.3-8b-instruct", "Granite 3.2 8b Instruct", False),
        ("granite-3.3-8b-instruct", "", True),
        ("", "Granite 3.2 8b Instruct", True),
    ],
)
def test_where_nothing_is_known_of_the_weights_names_decide(
    tiny_model: TinyModel, model_path: Path, base: str, name: str, fits: bool, tmp_path: Path
) -> None:
    """As for files of other converters. What the model's file or the base's folder is called does not matter."""
    local = adapter_file(tiny_model).write(tmp_path / "local.gguf", general__base_model__0__name=named(base))
    adapter = adapter_file(tiny_model).write(tmp_path / "a.gguf", **base_named(base))
    path = rewrite_gguf(model_path, tmp_path / "granite-3.3-8b-instruct.gguf", general__name=named(name))
    assert loads(path, adapter) == fits
    assert loads(path, adapter, force=True)
    assert loads(path, local)
    assert loads(rewrite_gguf(model_path, tmp_path / "unnamed.gguf", general__name=None), adapter)


def swapped(model_path: Path, path: Path, first: int, second: int) -> Path:
    """Copies a model with two tokens in each other's place."""
    texts = list(gguf.GGUFReader(model_path).fields["tokenizer.ggml.tokens"].contents())
    texts[first], texts[second] = texts[second], texts[first]
    return rewrite_gguf(model_path, path, tokenizer__ggml__tokens=Key(texts, Kind.ARRAY, Kind.STRING))


def test_a_vocabulary_that_spells_the_invocation_otherwise_is_caught(
    model_path: Path, converted: Path, tmp_path: Path
) -> None:
    """Other differences do not matter."""
    assert loads(swapped(model_path, tmp_path / "elsewhere.gguf", 40, 50), converted)
    path = swapped(model_path, tmp_path / "here.gguf", 7, 50)
    assert not loads(path, converted)
    assert loads(path, converted, force=True)
    with Model(path) as model, pytest.raises(AdapterMismatchError, match=r"token 7 is '!', but .* 'L' there"):
        model.load_adapter(converted)


def test_what_cannot_be_computed_is_refused_with_force_too(model: Model, tiny_model: TinyModel, tmp_path: Path) -> None:
    def wider(matrix: Array) -> Array:
        return np.concatenate([matrix, matrix])

    file = adapter_file(tiny_model)
    name = next(name for name in file.tensors if name.endswith("lora_b"))
    file.tensors[name] = wider(file.tensors[name])
    with pytest.raises(AdapterMismatchError, match="made for another base"):
        model.load_adapter(file.write(tmp_path / "wide.gguf"), force=True)
    bent = adapter_file(tiny_model).write(
        tmp_path / "bent.gguf", alora__invocation_pieces=Key(["a"], Kind.ARRAY, Kind.STRING)
    )
    with pytest.raises(AdapterError, match="no array of 3 texts"):
        model.load_adapter(bent, force=True)


def test_checking_reads_no_numbers(model: Model, tiny_model: TinyModel, tmp_path: Path) -> None:
    file = adapter_file(tiny_model)
    next(iter(file.tensors.values()))[0, 0] = np.nan
    path = file.write(tmp_path / "nan.gguf")
    _core.Adapter.check(model._core, str(path))
    with pytest.raises(AdapterError, match="not finite"):
        model.load_adapter(path)


def test_a_vocabulary_alone_computes_nothing(model: Model, model_path: Path, converted: Path) -> None:
    from alora_cpp import BackendError

    with Model(model_path, vocabulary_only=True) as vocabulary:
        text = "Is the cat here?<|end_of_text|>"
        assert vocabulary.tokenize(text, parse_special=True) == model.tokenize(text, parse_special=True)
        assert (vocabulary.name, vocabulary._core.fingerprints.weights) == (
            model.name,
            model._core.fingerprints.weights,
        )
        with pytest.raises(BackendError, match="vocabulary alone"):
            vocabulary.context()
        with pytest.raises(AdapterMismatchError):
            vocabulary.load_adapter(converted)
