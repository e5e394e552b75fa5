"""What needs no hub: references, choosing among what a repository lists, and what is said when a disk fails."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import pytest

from alora_cpp import ArgumentError, HubError
from alora_cpp.hub import is_reference
from alora_cpp.hub.adapters import choose_offer, is_called
from alora_cpp.hub.failures import UnreachableError, hub_errors
from alora_cpp.hub.models import choose_model, model_offers
from alora_cpp.hub.offers import Offer, adapter_offers
from alora_cpp.hub.reference import Reference, parse_reference
from alora_cpp.hub.repository import RemoteFile, Repository

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def repository(*paths: str) -> Repository:
    return Repository("org/repo", "main", COMMIT, {path: RemoteFile(7, None) for path in paths})


def offer(name: str, *, path: str = "", in_library: bool = False) -> Offer:
    return Offer(name, "alora", None, path, (path,), 7, in_library)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("org/repo", Reference("org/repo")),
        ("ibm-granite/granite-4.0-micro-GGUF:Q4_K_M", Reference("ibm-granite/granite-4.0-micro-GGUF", "Q4_K_M")),
        ("org/repo#query rewrite", Reference("org/repo", None, "query rewrite")),
        ("a/b:UD-Q4_K_XL", Reference("a/b", "UD-Q4_K_XL")),
    ],
)
def test_references(text: str, expected: Reference) -> None:
    assert is_reference(text)
    assert parse_reference(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "repo", "/org/repo", "org/repo/file", "../repo", "org/..", "org/a..b", "org/repo:", "org/repo#", "org/-x",
     "org/re po", "org/repo\n", "https://host/org/repo", "órg/repo", "-o/repo"],
)  # fmt: skip
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(ArgumentError, match="expected org/repo"):
        parse_reference(text)


def test_files_are_no_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "here").mkdir(parents=True)
    assert not is_reference("org/here")
    assert not is_reference("models/granite.gguf")
    assert is_reference("org/there")


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("citations/lora/granite-3.3-8b-instruct", ("citations", "lora", "granite-3.3-8b-instruct")),
        ("citations/granite-4.0-micro/alora", ("citations", "alora", "granite-4.0-micro")),
        ("intrinsics/v2/citations/granite-4.0-micro/aLoRA", ("citations", "alora", "granite-4.0-micro")),
    ],
)
def test_folders_of_a_library_say_it_all(folder: str, expected: tuple[str, str, str]) -> None:
    files = [f"{folder}/{name}" for name in ("adapter_config.json", "adapter_model.safetensors", "io.yaml", "x.png")]
    (found,) = adapter_offers(repository(*files, "README.md"))
    assert (found.name, found.kind, found.base) == expected
    assert sorted(found.files) == sorted(files[:3])


def test_one_adapter_in_several_number_types() -> None:
    at = "citations/lora/granite-3.3-8b"
    (found,) = adapter_offers(repository(f"{at}/Lora-q4_0.gguf", f"{at}/Lora-q8_0.gguf", f"{at}/Lora-f16.gguf"))
    assert found.path == f"{at}/Lora-f16.gguf"


def test_names_and_aliases() -> None:
    library = offer("hallucination_detection", in_library=True)
    assert is_called(library, "hallucination")
    assert is_called(library, "Hallucination-Detection")
    assert not is_called(library, "detection")
    plain = offer("granite-3.3-8b-alora-uncertainty")
    assert is_called(plain, "certainty")
    assert is_called(plain, "uncertainty")
    assert not is_called(plain, "safety")


def test_a_finished_adapter_is_preferred_to_its_checkpoints() -> None:
    offers = [offer("mine"), offer("checkpoint-100", path="checkpoint-100")]
    assert choose_offer(repository(), offers, None).name == "mine"
    with pytest.raises(HubError, match=r"several intrinsics: one, two; say which, as in org/repo#one"):
        choose_offer(repository(), [offer("one", path="one"), offer("two", path="two")], None)
    with pytest.raises(HubError, match=r"there several times: a\.gguf, b\.gguf"):
        choose_offer(repository(), [offer("one", path="a.gguf"), offer("one", path="b.gguf")], "one")
    with pytest.raises(HubError, match=r"holds no adapter; it has a\.gguf"):
        choose_offer(repository("a.gguf"), [], "one")


def chosen(*paths: str, quantization: str | None = None, pattern: str | None = None) -> str:
    here = repository(*paths)
    return choose_model(here, model_offers(here), quantization, pattern).name


def test_choosing_a_model() -> None:
    both = ("m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-m-f16.gguf", "m.imatrix.gguf")
    assert chosen(*both) == "m-Q4_K_M.gguf"
    assert chosen(*both, quantization="q8_0") == "m-Q8_0.gguf"
    assert chosen(*both, pattern="*8_0.gguf") == "m-Q8_0.gguf"
    assert chosen("only-F16.gguf") == "only-F16.gguf"
    assert chosen("Q4_K_M/m.gguf", "Q8_0/m.gguf", quantization="Q8_0") == "Q8_0/m.gguf"
    # Q4_K is no Q4_K_M.
    with pytest.raises(HubError, match=r"none that is Q4_K; it has m-Q4_K_M\.gguf, m-Q8_0\.gguf; say which"):
        chosen(*both, quantization="Q4_K")
    with pytest.raises(HubError, match="2 that may be meant"):
        chosen("a-Q8_0.gguf", "b-Q8_0.gguf")


def test_a_client_that_gives_up_is_asked_again_while_something_comes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Older clients do not go on by themselves where a connection breaks."""
    from alora_cpp.hub import transfer

    content, resumed = b"0123456789", []

    def get(url: str, file: BinaryIO, *, resume_size: int, **_: object) -> None:
        resumed.append(resume_size)
        file.write(content[resume_size : resume_size + 4])
        if resume_size + 4 < len(content):
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    monkeypatch.setattr(transfer, "http_get", get)
    transfer._fetch("http://127.0.0.1:9", "m.gguf", tmp_path / "partial", 0, lambda _: None)
    assert (tmp_path / "partial").read_bytes() == content
    assert resumed == [0, 4, 8]


def test_a_full_disk_is_told_before_and_while(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from alora_cpp.hub import transfer

    here = Repository("org/repo", "main", COMMIT, {"m.gguf": RemoteFile(3_000_000_000, "0" * 64)})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000_000))
    with pytest.raises(HubError, match=r"3\.00 GB are to come, but only 1\.00 GB are free"):
        transfer.download(here, ["m.gguf"])
    with pytest.raises(HubError, match="no space left where the hub's cache is"), hub_errors("org/repo"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(HubError, match="set HF_HOME to a folder of your own"), hub_errors("org/repo"):
        raise PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(UnreachableError, match="cannot be reached"), hub_errors("org/repo"):
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
