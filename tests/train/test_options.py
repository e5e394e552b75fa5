"""What is refused before anything is read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alora_cpp import ArgumentError, TrainingError
from alora_cpp.cli.main import main
from alora_cpp.train import TrainingOptions
from alora_cpp.train.checkpoints import UnfinishedTraining
from alora_cpp.train.training import expect_extra


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"name": ""}, "name is ''"),
        ({"name": "a/b"}, "name is 'a/b', expected a file's name"),
        ({"kind": "dora"}, "kind is 'dora'"),
        ({"activation": "middle"}, "activation is 'middle'"),
        ({"kind": "lora", "activation": "end"}, "a LoRA governs the whole prompt"),
        ({"activation": "empty", "invocation": "<x>"}, "an invocation is given"),
        ({"targets": ()}, "targets is"),
        ({"rank": 0}, "rank is 0, expected 1 or more"),
        ({"alpha": 0.0}, "alpha is 0.0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"max_length": 0}, "max_length is 0"),
        ({"validation_share": 0.0}, "validation_share is 0.0"),
        ({"checkpoint_steps": 0}, "checkpoint_steps is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296"),
    ],
)
def test_options(options: dict[str, Any], found: str) -> None:
    with pytest.raises(ArgumentError, match=found):
        TrainingOptions(**{"name": "judge", **options})


def test_alpha() -> None:
    assert TrainingOptions(name="judge", rank=8).scaled_alpha == 16
    assert TrainingOptions(name="judge", rank=8, alpha=4).scaled_alpha == 4


def test_the_command_line_starts_without_torch() -> None:
    code = (
        "import sys; from alora_cpp.cli.main import parser; parser(); import alora_cpp.train;"
        "print([name for name in ('torch', 'transformers', 'peft') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alora_cpp.train.training.find_spec", lambda name: None if name == "peft" else object())
    with pytest.raises(TrainingError, match=r"training needs peft, .* pip install 'alora_cpp\[train\]'"):
        expect_extra()


@pytest.mark.parametrize("given", [["--invocation-tokens", "1,x"], ["--invocation", "a", "--invocation-tokens", "1"]])
def test_usage(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "bundled", "--data", "x", "--name", "n", "--out", "o", *given])
    assert ended.value.code == 2
    assert "--invocation" in capsys.readouterr().err


class TestUnfinished:
    """The folder of an unfinished training."""

    def checkpoint(self, folder: Path, step: int, state: str | None = None) -> Path:
        made = folder / f"checkpoint-{step}"
        made.mkdir(parents=True)
        (made / "trainer_state.json").write_text(state or f'{{"global_step": {step}}}')
        return made

    def test_the_newest_whole_checkpoint(self, tmp_path: Path) -> None:
        out, about = tmp_path / "out", {"settings": {"seed": 1, "targets": ("q", "k")}}
        first = UnfinishedTraining(out, about, resume=False)
        self.checkpoint(first.folder, 9)
        whole = self.checkpoint(first.folder, 12)
        cut = self.checkpoint(first.folder, 15, '{"global_st')
        (first.folder / "checkpoint-18").mkdir()
        again = UnfinishedTraining(out, about, resume=True)
        assert again.checkpoint == whole
        assert not cut.exists()

    def test_one_that_is_not_gone_on_with(self, tmp_path: Path) -> None:
        self.checkpoint(UnfinishedTraining(tmp_path / "out", {}, resume=False).folder, 1)
        with pytest.raises(
            TrainingError, match=r"out\.unfinished is an unfinished training; go on with it \(--resume\)"
        ):
            UnfinishedTraining(tmp_path / "out", {}, resume=False)

    def test_one_of_something_else(self, tmp_path: Path) -> None:
        self.checkpoint(UnfinishedTraining(tmp_path / "out", {"seed": 1}, resume=False).folder, 1)
        with pytest.raises(TrainingError, match="has seed = 1, but now it is 2"):
            UnfinishedTraining(tmp_path / "out", {"seed": 2}, resume=True)

    def test_nothing_is_overwritten(self, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        with pytest.raises(TrainingError, match="out is there already"):
            UnfinishedTraining(tmp_path / "out", {}, resume=True)

    def test_nothing_is_left_of_one_without_checkpoints(self, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt), UnfinishedTraining(tmp_path / "out", {}, resume=False):
            raise KeyboardInterrupt
        assert not list(tmp_path.iterdir())
