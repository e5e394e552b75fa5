"""`alora-cli convert` by what its input is."""

from __future__ import annotations

from pathlib import Path

import pytest

from alora_cpp.cli.main import main
from oracle.adapter_files import AdapterFile
from oracle.tiny_models import AdapterSpec, make_model, write_adapter, write_gguf


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama base."""
    return write_gguf(make_model("llama"), tmp_path_factory.mktemp("base") / "base.gguf")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An adapter's folder."""
    return write_adapter(make_model("llama"), AdapterSpec(), tmp_path / "certainty")


def test_there_and_back(folder: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder becomes a file, and a file a folder; what was written is printed."""
    there, back = tmp_path / "there.gguf", tmp_path / "back"
    options = ["--base", str(base), "--outtype", "f32", "--name", "sure"]
    assert main(["convert", str(folder), "--outfile", str(there), *options]) == 0
    assert main(["convert", str(there), "--outfile", str(back), "--base", str(base)]) == 0
    assert capsys.readouterr().out.split() == [str(there), str(back)]
    assert AdapterFile(there).fields["general.name"] == "sure"
    assert (back / "adapter_model.safetensors").is_file()


def test_default_is_f16(folder: Path, base: Path, tmp_path: Path) -> None:
    """As documented."""
    out = tmp_path / "out.gguf"
    assert main(["convert", str(folder), "--outfile", str(out), "--base", str(base)]) == 0
    assert AdapterFile(out).fields["general.file_type"] == 1


def test_other_inputs(folder: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An ordinary model, a file of another kind, and nothing at all."""
    out = tmp_path / "out"
    for source, message in (
        (base, "is a model of architecture 'llama'; expected a PEFT folder, a GGUF adapter or a Granite Switch model"),
        (folder / "adapter_config.json", "cannot be read as GGUF"),
        (tmp_path / "nowhere", "nowhere does not exist"),
    ):
        assert main(["convert", str(source), "--outfile", str(out)]) == 1
        assert message in capsys.readouterr().err
        assert not out.exists()


def test_options_of_another_input(folder: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are refused, not passed over."""
    out = tmp_path / "out.gguf"
    assert main(["convert", str(folder), "--outfile", str(out), "--base", str(base)]) == 0
    back = ["--outfile", str(tmp_path / "back")]
    for arguments, message in (
        ([str(out), *back, "--outtype", "f32"], "--outtype means nothing where INPUT is a GGUF adapter"),
        ([str(out), *back, "--name", "x"], "--name means nothing where INPUT is a GGUF adapter"),
        ([str(folder), *back, "--base", str(base), "--name", "x", "--name", "y"], "an adapter has one --name"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["convert", *arguments])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "back").exists()
