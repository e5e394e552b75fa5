"""`alora-cli pull`, with the real client of the hub against a hub on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tiny import adapter_file, base_named

if TYPE_CHECKING:
    from hub_server import Hub

    from oracle.tiny_models import TinyModel

# As the tiny model calls itself, and a base that it is not.
BASE, OTHER_BASE = "tiny-llama", "granite-4.0-micro"


def alora_cli(hub: Hub, home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "alora_cpp.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=hub.environment(home, **environment))


def pull(hub: Hub, home: Path, *arguments: str, **environment: str) -> list[dict[str, Any]]:
    """What a pull that must succeed says as JSON."""
    result = alora_cli(hub, home, "pull", *arguments, "--json", **environment)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def fails(hub: Hub, home: Path, *arguments: str, **environment: str) -> str:
    """The one line that a pull that must fail says."""
    result = alora_cli(hub, home, "pull", *arguments, **environment)
    assert result.returncode == 1, result.stdout + result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("alora-cli: error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def peft_files(model: TinyModel, folder: Path, at: str, **spec: Any) -> dict[str, bytes]:
    """A random PEFT adapter's files, at a path of a repository."""
    from oracle.tiny_models import AdapterSpec, write_adapter

    write_adapter(model, AdapterSpec(**spec), folder, base=f"org/{BASE}")
    (folder / "io.yaml").write_text("model: ~\nresponse_format: ~\ntransformations: ~\n")
    return {f"{at}/{file.name}".removeprefix("/"): file.read_bytes() for file in folder.iterdir()}


def gguf_bytes(model: TinyModel, path: Path, name: str, *, base: str = BASE) -> bytes:
    return adapter_file(model, name=name).write(path, **base_named(base)).read_bytes()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def adapter(tiny_model: TinyModel, tmp_path: Path) -> dict[str, bytes]:
    """An aLoRA's files, by name."""
    return peft_files(tiny_model, tmp_path / "alora", "")


@pytest.fixture
def library(tiny_model: TinyModel, tmp_path: Path, adapter: dict[str, bytes]) -> dict[str, bytes]:
    """A library in the new layout: two intrinsics for two bases, one of them also as LoRA."""
    lora = peft_files(tiny_model, tmp_path / "lora", "", invocation=None)
    files = {f"uncertainty/{base}/alora/{name}": body for base in (BASE, OTHER_BASE) for name, body in adapter.items()}
    files |= {f"uncertainty/{BASE}/lora/{name}": body for name, body in lora.items()}
    files |= {f"citations/{OTHER_BASE}/lora/{name}": body for name, body in lora.items()}
    files |= {f"citations/{BASE}/lora/{name}": body for name, body in lora.items()}
    return {**files, "README.md": b"# A library\n"}


LAYOUTS = {
    "old": f"safety/alora/{BASE}",
    "new": f"safety/{BASE}/alora",
    "plain": "",
    "sub-folder": "safety",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_adapter_of_each_layout_is_pulled_and_found_by_name(
    hub: Hub, home: Path, model_path: Path, adapter: dict[str, bytes], layout: str
) -> None:
    at = LAYOUTS[layout]
    commit = hub.add("org/tiny-safety", {f"{at}/{name}".removeprefix("/"): body for name, body in adapter.items()})
    (facts,) = pull(hub, home, "org/tiny-safety", "--intrinsic", "safety", "--base", str(model_path))
    assert facts["name"] == "safety"
    assert facts["kind"] == "alora"
    assert facts["repo"] == "org/tiny-safety"
    assert facts["revision"] == commit
    assert facts["fits"] == str(model_path)
    folder = Path(facts["path"])
    assert home in folder.parents
    assert {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()} == adapter
    found = alora_cli(hub, home, "run", str(model_path), "--prompt", "Hi", "--intrinsic", "safety", HF_HUB_OFFLINE="1")
    assert found.returncode == 0, found.stderr


def test_adapters_and_models_of_a_gguf_repository(
    hub: Hub, home: Path, model_path: Path, tiny_model: TinyModel, tmp_path: Path
) -> None:
    model = model_path.read_bytes()
    names = ["safety", "citations"]
    files = {f"{name}-f16.gguf": gguf_bytes(tiny_model, tmp_path / f"{name}.gguf", name) for name in names}
    files["safety-f16.io.yaml"] = b"model: ~\nresponse_format: ~\ntransformations: ~\n"
    hub.add("org/all", {**files, "tiny-Q4_K_M.gguf": model, "tiny-Q8_0.gguf": model, "mmproj-f16.gguf": model})
    listed = alora_cli(hub, home, "pull", "org/all")
    assert listed.returncode == 2
    cells = [line.split()[:2] for line in listed.stdout.splitlines()]
    assert cells[1:] == [
        ["citations", "alora"], ["safety", "alora"], ["tiny-Q4_K_M.gguf", "model"], ["tiny-Q8_0.gguf", "model"],
    ]  # fmt: skip
    assert "--intrinsic citations" in listed.stderr
    # To list them, the first bytes of each were enough.
    assert hub.ranges(".gguf") == []

    (facts,) = pull(hub, home, "org/all#safety", "--base", str(model_path))
    path = Path(facts["path"])
    assert path.read_bytes() == files["safety-f16.gguf"]
    assert path.with_name("safety-f16.io.yaml").read_bytes() == files["safety-f16.io.yaml"]
    (facts,) = pull(hub, home, "org/all:q8_0")
    assert Path(facts["path"]).name == "tiny-Q8_0.gguf"
    (facts,) = pull(hub, home, "org/all", "--file", "*Q4*")
    assert Path(facts["path"]).read_bytes() == model


def test_an_activated_lora_is_preferred_and_the_base_decides(
    hub: Hub, home: Path, model_path: Path, library: dict[str, bytes]
) -> None:
    hub.add("org/library", library)
    base = ("--base", str(model_path))
    (facts,) = pull(hub, home, "org/library", "--intrinsic", "certainty", *base)
    assert (facts["name"], facts["kind"], facts["base"]) == ("uncertainty", "alora", BASE)
    (facts,) = pull(hub, home, "org/library", "--intrinsic", "certainty", "--kind", "lora", *base)
    assert (facts["kind"], facts["base"]) == ("lora", BASE)
    # Without a model here, the base's name will do.
    (facts,) = pull(hub, home, "org/library", "--intrinsic", "citations", "--base", OTHER_BASE)
    assert (facts["kind"], facts["base"], facts["fits"]) == ("lora", OTHER_BASE, None)
    both = pull(hub, home, "org/library", "--all", *base)
    assert [(one["name"], one["base"]) for one in both] == [("citations", BASE), ("uncertainty", BASE)]
    (facts,) = pull(hub, home, "org/library", "--all", "--kind", "alora", *base)
    assert facts["name"] == "uncertainty"


def test_what_is_not_clear_is_asked_for(hub: Hub, home: Path, model_path: Path, library: dict[str, bytes]) -> None:
    hub.add("org/library", library)
    listed = alora_cli(hub, home, "pull", "org/library")
    assert listed.returncode == 2
    assert listed.stdout.count(OTHER_BASE) == 2
    assert "alora-cli pull org/library --intrinsic citations --base MODEL" in listed.stderr
    several = fails(hub, home, "org/library", "--intrinsic", "uncertainty")
    assert f"several bases: {OTHER_BASE}, {BASE}" in several
    assert "--base MODEL" in several
    absent = fails(hub, home, "org/library", "--intrinsic", "jailbreak")
    assert "no intrinsic 'jailbreak'; it has citations, uncertainty" in absent
    wrong_base = fails(hub, home, "org/library", "--intrinsic", "citations", "--base", "bundled")
    assert f"is for {OTHER_BASE}, {BASE}, not for" in wrong_base
    assert f"is for {OTHER_BASE}, {BASE}, not for" in fails(hub, home, "org/library", "--all", "--base", "bundled")
    kind = fails(hub, home, "org/library", "--intrinsic", "citations", "--kind", "alora", "--base", BASE)
    assert "as lora only" in kind
    assert "expected org/repo" in fails(hub, home, "library")
    model = alora_cli(hub, home, "pull", "org/library:Q4_K_M", "--all")
    assert model.returncode == 2


def test_an_adapter_that_does_not_fit_is_not_remembered(
    hub: Hub, home: Path, model_path: Path, tiny_model: TinyModel, tmp_path: Path
) -> None:
    """Its publisher names the base, but it was made for a model of another shape."""
    from safetensors.numpy import load_file, save_file

    files = peft_files(tiny_model, tmp_path / "peft", f"safety/{BASE}/alora")
    weights = {
        name: np.concatenate([tensor, tensor], axis=1) if name.endswith("lora_A.weight") else tensor
        for name, tensor in load_file(tmp_path / "peft" / "adapter_model.safetensors").items()
    }
    save_file(weights, tmp_path / "wide.safetensors")
    files[f"safety/{BASE}/alora/adapter_model.safetensors"] = (tmp_path / "wide.safetensors").read_bytes()
    hub.add("org/library", files)
    said = fails(hub, home, "org/library", "--intrinsic", "safety", "--base", str(model_path))
    assert "safety of org/library does not fit" in said
    assert not list((home / "alora_cpp" / "pulled").glob("*"))


def test_a_revision(hub: Hub, home: Path, model_path: Path, adapter: dict[str, bytes]) -> None:
    old = hub.add("org/one", {f"safety/{BASE}/alora/{name}": body for name, body in adapter.items()}, ref="v1")
    new = hub.add("org/one", {f"citations/{BASE}/alora/{name}": body for name, body in adapter.items()})
    assert pull(hub, home, "org/one")[0]["revision"] == new
    for revision in ("v1", old):
        (facts,) = pull(hub, home, "org/one", "--revision", revision)
        assert (facts["name"], facts["revision"]) == ("safety", old)
    missing = fails(hub, home, "org/one", "--revision", "v2")
    assert "no revision 'v2'; there are: v1, main" in missing


def test_an_adapter_of_the_old_package_brings_its_tokenizer(hub: Hub, home: Path, adapter: dict[str, bytes]) -> None:
    config = json.loads(adapter["adapter_config.json"])
    config |= {"alora_invocation_tokens": None, "invocation_string": "<certainty>"}
    files = {f"certainty/alora/{BASE}/{name}": body for name, body in adapter.items()}
    files |= {f"certainty/alora/{BASE}/tokenizer.json": b"{}", f"certainty/alora/{BASE}/merges.txt": b"t h"}
    hub.add("org/new", files)
    hub.add("org/old", files | {f"certainty/alora/{BASE}/adapter_config.json": json.dumps(config).encode()})
    (facts,) = pull(hub, home, "org/new")
    assert {file.name for file in Path(facts["path"]).iterdir()} == set(adapter)
    (facts,) = pull(hub, home, "org/old")
    assert {file.name for file in Path(facts["path"]).iterdir()} == {*adapter, "tokenizer.json"}


def test_weights_in_a_pickle_are_not_downloaded(hub: Hub, home: Path, adapter: dict[str, bytes]) -> None:
    hub.add("org/pickle", {"adapter_config.json": adapter["adapter_config.json"], "adapter_model.bin": b"\x80\x04."})
    assert "a .bin is a pickle" in fails(hub, home, "org/pickle")
    assert not hub.ranges(".bin")


def test_a_repository_with_neither_says_what_it_has(hub: Hub, home: Path) -> None:
    hub.add("org/model", {"model.safetensors": b"weights", "config.json": b"{}"})
    said = fails(hub, home, "org/model")
    assert "it has model.safetensors" in said
    assert "-GGUF" in said
