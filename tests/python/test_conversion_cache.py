"""PEFT folders as GGUF files: when they are converted, when what was made before serves, and what goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from alora_cpp import AdapterMismatchError, ConversionError, Model, convert
from alora_cpp.conversion_cache import as_gguf
from oracle.tiny_models import ATTENTION, AdapterSpec, adapter_weights, write_adapter
from tiny import Key, Kind, make_model, rewrite_gguf, write_gguf

if TYPE_CHECKING:
    from oracle.tiny_models import TinyModel

SPEC = AdapterSpec(ATTENTION, 4)


@pytest.fixture
def peft(tmp_path: Path, tiny_model: TinyModel) -> Path:
    return write_adapter(tiny_model, SPEC, tmp_path / "safety")


@pytest.fixture
def base(model: Model) -> Model:
    return model


@pytest.fixture
def cache(cache_home: Path) -> Path:
    return cache_home / "alora_cpp" / "converted"


@pytest.fixture
def conversions(cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders converted so far."""
    made: list[Path] = []
    real = convert.convert_adapter

    def spy(folder: Path, outfile: Path, **options: object) -> Path:
        made.append(folder)
        return real(folder, outfile, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(convert, "convert_adapter", spy)
    return made


def files_of(cache: Path) -> list[str]:
    return sorted(file.suffix for file in cache.iterdir() if file.name != "read")


def change(file: Path, content: bytes) -> None:
    """Writes a file anew, with another time even where the clock is coarse."""
    time = file.stat().st_mtime_ns
    file.write_bytes(content)
    os.utime(file, ns=(time + 1_000_000, time + 1_000_000))


def test_a_gguf_stays_as_it_is(base: Model, adapter_paths: list[Path], cache: Path) -> None:
    assert as_gguf(adapter_paths[0], base) == adapter_paths[0]
    assert not cache.exists()


def test_a_folder_is_converted_once(peft: Path, base: Model, cache: Path, conversions: list[Path]) -> None:
    made = as_gguf(peft, base)
    assert made.parent == cache
    assert [as_gguf(peft, base) for _ in range(3)] == [made] * 3
    assert conversions == [peft]
    assert files_of(cache) == [".gguf", ".json"]


def test_it_holds_the_weights_in_float16(peft: Path, base: Model, cache_home: Path, tiny_model: TinyModel) -> None:
    """Against the numbers that the folder was written from; B of v is not reordered."""
    reader = gguf.GGUFReader(as_gguf(peft, base, name="mine"))
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    name = "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight"
    found = tensors["blk.1.attn_v.weight.lora_b"]
    assert found.tensor_type is gguf.GGMLQuantizationType.F16
    assert np.array_equal(found.data, adapter_weights(tiny_model, SPEC)[name].astype(np.float16))
    assert reader.fields["general.name"].contents() == "mine"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("adapter_config.json", None),
        ("adapter_model.safetensors", None),
        ("io.yaml", b"model: null\nresponse_format: null\ntransformations: null\n"),
        ("README.md", b"---\nlicense: mit\n---\n"),
    ],
)
def test_another_content_is_converted_anew(
    peft: Path, base: Model, conversions: list[Path], tiny_model: TinyModel, file: str, content: bytes | None
) -> None:
    first = as_gguf(peft, base)
    if content is None:
        other = write_adapter(tiny_model, AdapterSpec(ATTENTION, 4, alpha=9), peft.parent / "other", seed=1)
        content = (other / file).read_bytes()
    if (peft / file).exists():
        assert (peft / file).read_bytes() != content
        change(peft / file, content)
    else:
        (peft / file).write_bytes(content)
    second = as_gguf(peft, base)
    assert first != second
    assert len(conversions) == 2


def test_the_same_content_elsewhere_is_the_same_entry(
    peft: Path, base: Model, conversions: list[Path], tiny_model: TinyModel
) -> None:
    again = write_adapter(tiny_model, SPEC, peft.parent / "again" / "safety")
    assert as_gguf(again, base) == as_gguf(peft, base)
    assert len(conversions) == 1
    assert as_gguf(again, base, name="other") != as_gguf(peft, base)


def test_the_base_is_known_by_what_it_is(peft: Path, base: Model, conversions: list[Path], tmp_path: Path) -> None:
    path = rewrite_gguf(base.path, tmp_path / "renamed-Q8_0.gguf", general__name=Key("renamed", Kind.STRING))
    with Model(path) as renamed:
        assert as_gguf(peft, renamed) == as_gguf(peft, base)
    with Model(write_gguf(make_model("llama", seed=1), tmp_path / "other.gguf")) as other:
        assert as_gguf(peft, other) != as_gguf(peft, base)
    assert len(conversions) == 2


def test_unchanged_files_are_not_read_again(
    peft: Path, base: Model, conversions: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file with the same size, time and inode is taken for the same: so this change goes unnoticed."""
    made = as_gguf(peft, base)
    weights = peft / "adapter_model.safetensors"
    status = weights.stat()
    with weights.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert as_gguf(peft, base) == made
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert as_gguf(peft, base) != made


@pytest.mark.parametrize("damage", ["cut", "flipped", "removed", "no record", "empty record", "wrong record"])
def test_a_damaged_entry_is_made_again(
    peft: Path, base: Model, conversions: list[Path], damage: str, cache: Path
) -> None:
    made = as_gguf(peft, base)
    content, record = made.read_bytes(), made.with_suffix(".json")
    if damage == "cut":
        change(made, content[:-100])
    elif damage == "flipped":
        change(made, content[:-100] + bytes([content[-100] ^ 1]) + content[-99:])
    elif damage == "removed":
        made.unlink()
    elif damage == "no record":
        record.unlink()
    else:
        facts = json.loads(record.read_bytes())
        change(record, b"" if damage == "empty record" else json.dumps({**facts, "size": 1, "sha256": "x"}).encode())
    assert as_gguf(peft, base) == made
    assert made.read_bytes() == content
    assert len(conversions) == 2
    assert files_of(cache) == [".gguf", ".json"]


def test_an_entry_that_was_moved_with_its_cache_still_serves(peft: Path, base: Model, conversions: list[Path]) -> None:
    made = as_gguf(peft, base)
    os.utime(made)
    assert as_gguf(peft, base) == made
    assert len(conversions) == 1


def test_many_processes_at_once(peft: Path, base: Model, cache: Path) -> None:
    script = (
        "from pathlib import Path; from alora_cpp import Model; from alora_cpp.conversion_cache import as_gguf\n"
        f"input(); print(as_gguf(Path({str(peft)!r}), Model({str(base.path)!r})))"
    )
    command = [sys.executable, "-c", script]
    processes = [subprocess.Popen(command, stdin=-1, stdout=-1, text=True) for _ in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    printed = {process.communicate()[0].strip() for process in processes}
    assert printed == {str(as_gguf(peft, base))}
    assert files_of(cache) == [".gguf", ".json"]


class TestErrors:
    def test_a_folder_that_cannot_be_converted_leaves_nothing(
        self, peft: Path, base: Model, cache: Path, tiny_model: TinyModel
    ) -> None:
        other = write_adapter(tiny_model, AdapterSpec(ATTENTION, 8), peft.parent / "other")
        (peft / "adapter_model.safetensors").write_bytes((other / "adapter_model.safetensors").read_bytes())
        with pytest.raises(ConversionError, match="rank 4"):
            as_gguf(peft, base)
        assert files_of(cache) == []

    def test_a_cache_that_cannot_be_written(self, peft: Path, base: Model, cache_home: Path) -> None:
        cache_home.write_text("a file")
        with pytest.raises(ConversionError, match=r"HF_HOME.*alora-cli convert"):
            as_gguf(peft, base)

    def test_another_base_is_refused_by_name(self, peft: Path, base: Model, cache_home: Path) -> None:
        path = peft / "adapter_config.json"
        config = json.loads(path.read_text())

        def named(name: str) -> None:
            change(path, json.dumps({**config, "base_model_name_or_path": name}).encode())

        named("org/tiny-llama")
        made = as_gguf(peft, base)
        named("ibm-granite/granite-3.3-8b-instruct")
        # Also where it was forced before.
        forced = as_gguf(peft, base, force=True)
        assert forced != made
        with pytest.raises(AdapterMismatchError, match=r"granite-3\.3-8b-instruct.*tiny-llama"):
            as_gguf(peft, base)
        # A folder of whoever trained it says nothing.
        named("/somewhere/checkpoint-500")
        as_gguf(peft, base)
