"""The bundled intrinsics' training, from generated examples to folders that PEFT reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("peft")
from peft import PeftModel
from transformers import GraniteForCausalLM

from training.fleet import intrinsics
from training.tasks.example import Sources
from training.tasks.intrinsics import INTRINSICS
from training.tokenizer import Encoder, load_tokenizer, train_tokenizer
from training_models import save_tiny_granite

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

NAMES = ("safety", "safety_sentence")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Granite of random weights, with a tokenizer made from a few requests."""
    folder = tmp_path_factory.mktemp("base")
    examples = INTRINSICS["safety"].task.measured_examples("validation", Sources(), 200)
    tokenizer = train_tokenizer(message.text for example in examples for message in example.conversation.messages)
    tokenizer.save_pretrained(folder)
    save_tiny_granite(folder, vocabulary=len(tokenizer))
    return folder


def test_every_intrinsic_gets_its_folder(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intrinsics, "_VALIDATED", 30)
    chosen = [INTRINSICS[name] for name in NAMES]
    losses = intrinsics.train_intrinsics(base, chosen, Sources(), tmp_path, examples=256, processes=1)
    assert set(losses) == set(NAMES)
    encode = Encoder(load_tokenizer(base))
    for intrinsic in chosen:
        folder = tmp_path / intrinsic.name
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        assert config["alora_invocation_tokens"] == encode.invocation(intrinsic.name)
        assert config["r"] == config["lora_alpha"] == intrinsic.rank
        model = PeftModel.from_pretrained(GraniteForCausalLM.from_pretrained(base), folder)
        assert any(parameter.any() for name, parameter in model.named_parameters() if "lora_B" in name)
