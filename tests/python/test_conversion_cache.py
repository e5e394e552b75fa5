"""PEFT folders as GGUF files: when they are converted, when what was made before serves, and what goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import gguf
import numpy as np
import pytest

from alora_cpp import AdapterMismatchError, ConversionError, Model, convert
from alora_cpp import conversion_cache as module
from alora_cpp.conversion_cache import as_gguf, held_gguf
from alora_cpp.convert import gguf_header
from alora_cpp.finding.place import Place
from alora_cpp.whole_file import write_whole
from oracle.tiny_models import ATTENTION, AdapterSpec, adapter_weights, write_adapter
from tiny import Key, Kind, make_model, rewrite_gguf, write_gguf

if TYPE_CHECKING:
    from oracle.tiny_models import TinyModel

pytestmark = pytest.mark.usefixtures("cache_home")

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


class TestHousekeeping:
    def test_a_changed_folder_replaces_its_earlier_entry(self, peft: Path, base: Model, cache: Path) -> None:
        for _ in range(3):
            made = as_gguf(peft, base)
            assert [file.name for file in cache.glob("*.gguf")] == [made.name]
            assert files_of(cache) == [".gguf", ".json"]
            touch_up(peft)

    def test_an_entry_says_what_it_was_made_from(self, peft: Path, base: Model) -> None:
        record = json.loads(as_gguf(peft, base, name="mine").with_suffix(".json").read_bytes())
        assert (record["source"], record["base"], record["name"]) == (
            str(peft.resolve()),
            str(base.path.resolve()),
            "mine",
        )

    def test_entries_of_another_source_base_name_or_converter_stay(
        self, peft: Path, base: Model, tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        elsewhere = write_adapter(tiny_model, SPEC, tmp_path / "elsewhere" / "safety")
        change(elsewhere / "adapter_config.json", (elsewhere / "adapter_config.json").read_bytes() + b"\n")
        others = [as_gguf(elsewhere, base), as_gguf(peft, base, name="other")]
        with Model(write_gguf(make_model("llama", seed=1), tmp_path / "other.gguf")) as other_base:
            others.append(as_gguf(peft, other_base))
        with monkeypatch.context() as patch:
            patch.setattr(module, "_converter_digest", lambda: "of another version")
            others.append(as_gguf(peft, base))
        first = as_gguf(peft, base)
        assert len({first, *others}) == 5
        touch_up(peft)
        as_gguf(peft, base)
        assert not first.exists()
        assert all(other.exists() and other.with_suffix(".json").exists() for other in others)

    def test_a_folder_that_is_called_otherwise_is_the_same_source(
        self, peft: Path, base: Model, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = as_gguf(peft, base)
        touch_up(peft)
        monkeypatch.chdir(peft)
        as_gguf(Path("../safety"), base)
        assert not first.exists()

    def test_what_another_process_has_loaded_stays_until_it_ends(self, peft: Path, base: Model, cache: Path) -> None:
        first = as_gguf(peft, base)
        script = (
            "from alora_cpp import Model\n"
            f"adapter = Model({str(base.path)!r}).load_adapter({str(peft)!r}); print(adapter.path, flush=True); input()"
        )
        with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == str(first)
            touch_up(peft)
            second = as_gguf(peft, base)
            assert first.exists()
            assert first.with_suffix(".json").exists()
            process.communicate("\n")
        touch_up(peft)
        third = as_gguf(peft, base)
        assert not first.exists()
        assert not second.exists()
        assert third.exists()
        assert files_of(cache) == [".gguf", ".json"]

    def test_an_adapter_lets_go_of_its_entry_when_it_ends(self, peft: Path, base: Model) -> None:
        adapter = base.load_adapter(peft)
        first = adapter.path
        touch_up(peft)
        as_gguf(peft, base)
        assert first.exists()
        del adapter
        touch_up(peft)
        as_gguf(peft, base)
        assert not first.exists()

    def test_an_entry_that_cannot_be_removed_goes_the_next_time(
        self, peft: Path, base: Model, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on Windows, where it is open in another program."""
        first = as_gguf(peft, base)
        touch_up(peft)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", refuse)
            second = as_gguf(peft, base)
        assert first.exists()
        assert first.with_suffix(".json").exists()
        touch_up(peft)
        as_gguf(peft, base)
        assert not first.exists()
        assert not second.exists()

    def test_an_entry_stays_while_it_is_read(
        self, peft: Path, base: Model, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place = Place("safety", "given", peft)
        real, read_header = base._engine.Adapter, gguf_header.read_header

        def after_another_conversion(read: Callable[..., Any]) -> Callable[..., Any]:
            def reading(*arguments: Any, **options: Any) -> Any:
                touch_up(peft)
                as_gguf(peft, base)
                assert len(list(cache.glob("*.gguf"))) > 1
                return read(*arguments, **options)

            return reading

        slow = {name: staticmethod(after_another_conversion(getattr(real, name))) for name in ("check", "load")}
        monkeypatch.setattr(base, "_engine", SimpleNamespace(Adapter=type("Adapter", (), slow)))
        monkeypatch.setattr(gguf_header, "read_header", after_another_conversion(read_header))
        place.check(base)
        assert place.load(base).invocation_tokens == tuple(place.invocation_tokens(base))

    @pytest.mark.parametrize(
        "when",
        [
            "before it is opened",
            pytest.param(
                "after it was opened", marks=pytest.mark.skipif(sys.platform == "win32", reason="that keeps it there")
            ),
        ],
    )
    def test_an_entry_that_is_removed_before_it_is_held_is_made_again(
        self, peft: Path, base: Model, conversions: list[Path], monkeypatch: pytest.MonkeyPatch, when: str
    ) -> None:
        real = module.hold

        def late(entry: Path) -> BinaryIO:
            if len(conversions) > 1:
                return real(entry)
            if when == "before it is opened":
                entry.unlink()
                return real(entry)
            with monkeypatch.context() as patch:
                patch.setattr("fcntl.flock", lambda file, operation: entry.unlink())
                return real(entry)

        monkeypatch.setattr(module, "hold", late)
        with held_gguf(peft, base) as gguf:
            assert gguf.exists()
        assert len(conversions) == 2

    def test_the_same_made_by_another_process_that_has_it_open(
        self, peft: Path, base: Model, conversions: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On Windows, such a file cannot be replaced."""
        made = as_gguf(peft, base)
        record = made.with_suffix(".json")
        record.unlink()
        real = Path.replace
        monkeypatch.setattr(
            Path, "replace", lambda self, target: refuse(self) if target == made else real(self, target)
        )
        assert as_gguf(peft, base) == made
        assert as_gguf(peft, base) == made
        assert len(conversions) == 2
        change(made, made.read_bytes()[:-1])
        with pytest.raises(ConversionError, match="in use"):
            as_gguf(peft, base)

    def test_leftovers_go_after_a_day(self, peft: Path, base: Model, cache: Path) -> None:
        first = as_gguf(peft, base)
        day = 24 * 60 * 60
        leftovers = [cache / f".converting-{name}" for name in ("old", "young")]
        for leftover, age in zip(leftovers, (day + 60, day - 60), strict=True):
            leftover.mkdir()
            (leftover / "adapter.gguf").write_bytes(b"half")
            os.utime(leftover, (time.time() - age, time.time() - age))
        assert as_gguf(peft, base) == first
        assert all(leftover.exists() for leftover in leftovers)
        touch_up(peft)
        as_gguf(peft, base)
        assert [leftover.exists() for leftover in leftovers] == [False, True]

    def test_a_deleted_cache_is_made_again(self, peft: Path, base: Model, cache: Path) -> None:
        made = as_gguf(peft, base)
        content = made.read_bytes()
        shutil.rmtree(cache)
        assert as_gguf(peft, base) == made
        assert made.read_bytes() == content

    def test_processes_load_a_folder_that_changes_all_the_time(self, peft: Path, base: Model, cache: Path) -> None:
        script = (
            "from alora_cpp import Model\n"
            f"model = Model({str(base.path)!r}); print(flush=True)\n"
            f"for _ in range(15): model.load_adapter({str(peft)!r})"
        )
        command = [sys.executable, "-c", script]
        processes = [subprocess.Popen(command, stdout=-1, stderr=-1, text=True) for _ in range(2)]
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        ended = threading.Event()
        changing = threading.Thread(target=keep_touching_up, args=(peft, ended))
        changing.start()
        try:
            assert [process.communicate()[1] for process in processes] == ["", ""]
        finally:
            ended.set()
            changing.join()
        touch_up(peft)
        as_gguf(peft, base)
        assert files_of(cache) == [".gguf", ".json"]


def touch_up(folder: Path) -> None:
    """Changes something that makes another conversion."""
    card = folder / "README.md"
    write_whole(card, f"{card.read_text() if card.exists() else ''}One more line.\n")


def keep_touching_up(folder: Path, ended: threading.Event) -> None:
    while not ended.wait(0.005):
        touch_up(folder)


def refuse(path: Path, **_: object) -> NoReturn:
    raise PermissionError(f"{path} is in use")


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
