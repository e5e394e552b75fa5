"""Trainings from end to end, over tiny bases: the same bytes whatever happens, and the same answers everywhere."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from alora_cpp import Cancelled, Model, TrainingError
from alora_cpp.labelled_data import DataError
from alora_cpp.train import TrainingOptions, TrainingReport, train_adapter
from oracle.tiny_models import make_model, write_hf

if TYPE_CHECKING:
    import peft
    import torch

    from alora_cpp.train.gguf_base import load_gguf_base
    from tiny_tokenizer import write_tokenizer
else:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    peft = pytest.importorskip("peft")
    pytest.importorskip("accelerate")
    from alora_cpp.train.gguf_base import load_gguf_base
    from tiny_tokenizer import write_tokenizer

pytestmark = pytest.mark.oracle

SETTINGS = ["--rank", "4", "--epochs", "6", "--batch-size", "4", "--checkpoint-steps", "3", "--learning-rate", "0.01"]
OPTIONS = TrainingOptions(name="judge", rank=4, epochs=1, batch_size=8, learning_rate=0.01)
FILES = ["README.md", "adapter_config.json", "adapter_model.safetensors", "io.yaml", "judge.gguf"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Is there a question mark? Lengths differ."""
    path = tmp_path_factory.mktemp("data") / "data.jsonl"
    lines = []
    for i in range(60):
        text = "is it so" * (1 + i % 5) + str(i) + "?!"[i % 2]
        lines.append({"messages": [{"role": "user", "content": text}], "completion": "YN"[i % 2]})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def command(base: Path, data: Path, out: Path, *more: str) -> list[str]:
    given = ["train", str(base), "--data", str(data), "--name", "judge", "--out", str(out)]
    return [sys.executable, "-m", "alora_cpp.cli.main", *given, *SETTINGS, *more]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def undisturbed(tiny_base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training gives that nothing happened to."""
    out = tmp_path_factory.mktemp("undisturbed") / "judge"
    done = subprocess.run(command(tiny_base, data, out), env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == str(out / "judge.gguf")
    assert "step 3 of 84, loss " in done.stderr
    assert "\r" not in done.stderr
    assert [path.name for path in out.parent.iterdir()] == ["judge"]
    return out


def end_with(number: signal.Signals, after: int, base: Path, data: Path, out: Path, *more: str) -> tuple[int, str]:
    """Runs a training and sends it a signal after some measurements.

    Returns:
        Its exit code, and the rest of what it said.
    """
    running = subprocess.Popen(
        command(base, data, out, *more), env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert running.stderr is not None
    for _ in range(after):
        line = running.stderr.readline()
        assert line.startswith("step "), line + running.stderr.read()
    running.send_signal(number)
    rest = running.stderr.read()
    return running.wait(), rest


@pytest.mark.slow
def test_the_same_bytes_after_an_interrupt_and_a_kill(
    undisturbed: Path, tiny_base: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "judge"
    code, said = end_with(signal.SIGINT, 2, tiny_base, data, out)
    assert code == 130
    assert "go on with the same command and --resume" in said
    assert not out.exists()
    code, _ = end_with(signal.SIGKILL, 3, tiny_base, data, out, "--resume")
    assert code == -signal.SIGKILL
    assert not out.exists()
    refused = subprocess.run(command(tiny_base, data, out), env=environment(), capture_output=True, text=True)
    assert refused.returncode == 1
    assert "--resume" in refused.stderr
    resumed = command(tiny_base, data, out, "--resume")
    done = subprocess.run(resumed, env=environment(), capture_output=True, text=True, check=True)
    assert int(done.stderr.split()[1]) > 9, "it began again from the start"
    assert content(out) == content(undisturbed)
    assert [path.name for path in tmp_path.iterdir()] == ["judge"]


def test_what_is_written(undisturbed: Path, tiny_base: Path, data: Path) -> None:
    assert sorted(content(undisturbed)) == FILES
    config = json.loads((undisturbed / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (4, 8, 0.05)
    assert config["target_modules"] == ["k_proj", "q_proj", "v_proj"]
    card = (undisturbed / "README.md").read_text()
    assert hashlib.sha256(data.read_bytes()).hexdigest() in card
    assert "54 examples were trained on, 6 measured on" in card
    assert "with the engine" in card
    assert "| error |" in card
    with Model(tiny_base) as model:
        intrinsic = model.load_intrinsic(undisturbed / "judge.gguf")
        assert (intrinsic.name, intrinsic.labels) == ("judge", ("N", "Y"))
        assert config["alora_invocation_tokens"] == list(intrinsic.invocation)
        assert "alora.base.weights" in intrinsic.adapter.metadata


def peft_probabilities(base: Path, folder: Path, prompts: Sequence[list[int]], labels: list[int]) -> np.ndarray:
    """The second label's, by PEFT, which finds the invocation itself."""
    model = peft.PeftModel.from_pretrained(load_gguf_base(base, torch.float32), folder).eval()
    with torch.no_grad():
        rows = [model(input_ids=torch.tensor([prompt])).logits[0, -1, labels] for prompt in prompts]
    return torch.softmax(torch.stack(rows), -1)[:, 1].numpy()


@pytest.mark.parametrize("activation", ["start", "end", "empty"])
def test_the_engine_answers_as_peft(activation: str, tiny_base: Path, data: Path, tmp_path: Path) -> None:
    from tiny_chats import ASSISTANT, template_tokens, turns

    options = replace(OPTIONS, activation=activation, epochs=3)
    report = train_adapter(str(tiny_base), [str(data)], tmp_path / "judge", options)
    assert report.over_cache
    conversations = [[{"role": "user", "content": text}] for text in ("is it?", "it is!", "so so?", "is it so 7!")]
    called = ASSISTANT if activation == "empty" else "<|start_of_role|>judge<|end_of_role|>"
    prompts = [[*turns(messages), *template_tokens(called)] for messages in conversations]
    theirs = peft_probabilities(tiny_base, report.folder, prompts, [ord("N") - 26, ord("Y") - 26])
    ours = []
    with Model(tiny_base) as model:
        model.load_intrinsic(report.gguf)
        for messages in conversations:
            with model.chat(messages, n_threads=1) as chat:
                ours.append(chat.check("judge").probabilities["Y"])
    np.testing.assert_allclose(ours, theirs, atol=5e-3)
    assert np.ptp(theirs) > 0.1


@pytest.fixture(scope="module")
def hf_base(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same base as a Hugging Face folder."""
    folder = write_hf(make_model("granite"), tmp_path_factory.mktemp("hf") / "base")
    return write_tokenizer(tiny_base, folder)


def weights(report: TrainingReport) -> bytes:
    return (report.folder / "adapter_model.safetensors").read_bytes()


def test_a_folder_and_its_gguf_give_the_same(tiny_base: Path, hf_base: Path, data: Path, tmp_path: Path) -> None:
    """Weights, tokens and template by either way; only what is measured with differs."""
    by_gguf = train_adapter(str(tiny_base), [str(data)], tmp_path / "by_gguf", OPTIONS)
    by_both = train_adapter(str(hf_base), [str(data)], tmp_path / "by_both", OPTIONS, gguf=tiny_base)
    alone = train_adapter(str(hf_base), [str(data)], tmp_path / "alone", OPTIONS)
    other = train_adapter(str(tiny_base), [str(data)], tmp_path / "other", replace(OPTIONS, seed=1))
    assert weights(other) != weights(by_gguf)
    assert weights(by_gguf) == weights(by_both) == weights(alone)
    assert [one.measured_with for one in (by_gguf, by_both, alone)] == ["the engine", "the engine", "PEFT"]
    assert by_gguf.figures == by_both.figures
    assert alone.figures["exact"] == pytest.approx(1 - by_gguf.figures["error"])


def test_a_gguf_with_other_tokens(tiny_base: Path, data: Path, tmp_path: Path) -> None:
    """An `s` and a `t` that changed places."""
    other = write_hf(make_model("granite"), tmp_path / "other")
    write_tokenizer(tiny_base, other, t89="t", t90="s")
    with pytest.raises(TrainingError, match=r"do not tokenize alike: .*data\.jsonl, line \d+, token \d+: 's"):
        train_adapter(str(other), [str(data)], tmp_path / "out", OPTIONS, gguf=tiny_base)
    assert not list(tmp_path.glob("out*"))


def test_an_ordinary_lora(tiny_base: Path, data: Path, tmp_path: Path) -> None:
    options = replace(OPTIONS, kind="lora", targets=("all-linear",))
    report = train_adapter(str(tiny_base), [str(data)], tmp_path / "judge", options)
    assert (report.over_cache, report.measured_with) == (False, "PEFT")
    config = json.loads((report.folder / "adapter_config.json").read_text())
    assert config["alora_invocation_tokens"] is None
    adapted = {name.rpartition(".")[2] for name in config["target_modules"]}
    assert adapted == {f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")}
    with Model(tiny_base) as model:
        assert model.load_adapter(report.gguf).invocation_tokens == ()


def test_a_base_without_a_plain_cache(tiny_base: Path, data: Path, tmp_path: Path) -> None:
    hybrid = write_tokenizer(tiny_base, write_hf(make_model("granitemoehybrid"), tmp_path / "hybrid"))
    report = train_adapter(str(hybrid), [str(data)], tmp_path / "judge", OPTIONS)
    assert not report.over_cache


def test_texts_are_learned(tiny_base: Path, tmp_path: Path) -> None:
    data = tmp_path / "texts.jsonl"
    lines = [
        {"messages": [{"role": "user", "content": f"say {i}"}], "completion": f"{i} is said", "weight": 1 + i % 3}
        for i in range(20)
    ]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = train_adapter(str(tiny_base), [str(data)], tmp_path / "judge", OPTIONS)
    assert "exact_match" in report.figures
    with Model(tiny_base) as model:
        assert model.load_intrinsic(report.gguf).closed == ()


def test_stopping(tiny_base: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(Cancelled, match="stopped after step 1 of 7"):
        train_adapter(str(tiny_base), [str(data)], tmp_path / "judge", OPTIONS, should_stop=lambda: True)
    assert (tmp_path / "judge.unfinished" / "checkpoint-1").is_dir()


def test_a_separate_validation_file(tiny_base: Path, data: Path, tmp_path: Path) -> None:
    measured = tmp_path / "measured.jsonl"
    measured.write_text("".join(data.read_text().splitlines(keepends=True)[:8]))
    report = train_adapter(str(tiny_base), [str(data)], tmp_path / "judge", OPTIONS, validation=[str(measured)])
    assert (report.n_examples, report.n_validation) == (60, 8)


@pytest.mark.parametrize(
    ("changes", "lines", "found"),
    [
        ({"targets": ("q_proj", "w_proj")}, None, "no linear module 'w_proj'; expected some of down_proj"),
        ({"max_length": 1024}, None, "trained for 512 positions"),
        ({"max_length": 20}, None, r"data\.jsonl, line 1: the example has \d+ tokens"),
        ({}, ['{"messages": [{"role": "user", "content": "a"}], "completion": "Y"}'] * 9, "all 9 examples have"),
        ({}, ['{"messages": [], "completion": "Y"}'], r"bad\.jsonl, line 1"),
    ],
)
def test_refused_before_training(
    changes: dict[str, object], lines: list[str] | None, found: str, tiny_base: Path, data: Path, tmp_path: Path
) -> None:
    source = data
    if lines is not None:
        source = tmp_path / "bad.jsonl"
        source.write_text("\n".join(lines))
    options = replace(OPTIONS, **changes)
    with pytest.raises((TrainingError, DataError), match=found):
        train_adapter(str(tiny_base), [str(source)], tmp_path / "judge", options)
    assert not list(tmp_path.glob("judge*"))


@pytest.mark.parametrize(
    ("base", "found"),
    [
        ("nowhere.gguf", r"nowhere\.gguf does not exist"),
        ("empty", "has no config.json"),
        ("no such/na me", "is no folder here and cannot be had from the hub"),
    ],
)
def test_bases_that_are_none(
    base: str, found: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match=found):
        train_adapter(base, [str(data)], tmp_path / "judge", OPTIONS)


def test_a_gguf_beside_a_gguf(tiny_base: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="is a GGUF itself"):
        train_adapter(str(tiny_base), [str(data)], tmp_path / "judge", OPTIONS, gguf=tiny_base)
