"""benchmarks/accuracy/engine.py: on a small random model, PEFT and the engine in float32 say the same."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("peft")
import torch

pytestmark = pytest.mark.oracle

ROLES = {"sentence": 32, "digit": 8, "text": 8}
ANSWERS = {"sentence": ["The request is safe.", "The request is unsafe."], "digit": [str(i) for i in range(10)]}


def io_yaml(name: str) -> dict[str, Any]:
    config: dict[str, Any] = {"model": None, "response_format": None, "transformations": None}
    if name == "text":
        return config | {"parameters": {"max_completion_tokens": 6}}
    values = {answer: position / 10 for position, answer in enumerate(ANSWERS[name])}
    choices = {"extra_body": {"structured_outputs": {"choice": ANSWERS[name]}}}
    likelihood = {"type": "likelihood", "input_path": [], "categories_to_values": values}
    return config | {"parameters": choices, "transformations": [likelihood]}


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the training writes: a random base, random adapters, and small test sets."""
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import GraniteForCausalLM

    from training.base_model import granite_config
    from training.tokenizer import Encoder, train_tokenizer

    build = tmp_path_factory.mktemp("build")
    texts = [*ANSWERS["sentence"], "When did the mill open?", "It opened in 1894.", "user assistant documents", *ROLES]
    tokenizer = train_tokenizer(texts * 3)
    tokenizer.save_pretrained(build / "base")
    torch.manual_seed(5)
    config = granite_config(tokenizer)
    config.num_hidden_layers, config.max_position_embeddings = 2, 512
    GraniteForCausalLM(config).save_pretrained(build / "base")
    encode = Encoder(tokenizer)
    for name, rank in ROLES.items():
        base = GraniteForCausalLM.from_pretrained(build / "base", dtype=torch.float32)
        lora = LoraConfig(
            task_type=TaskType.CAUSAL_LM,
            r=rank,
            lora_alpha=rank,
            target_modules=["q_proj", "k_proj", "v_proj"],
            alora_invocation_tokens=encode.invocation(name),
        )
        adapted = get_peft_model(base, lora)
        for parameter, values in adapted.named_parameters():
            if "lora_B" in parameter:
                torch.nn.init.normal_(values, std=0.1)
        adapted.peft_config["default"].base_model_name_or_path = "tiny"
        adapted.save_pretrained(str(build / name), save_embedding_layers=False)
        (build / name / "io.yaml").write_text(yaml.safe_dump(io_yaml(name)))
    (build / "tests").mkdir()
    for name in ROLES:
        lines = []
        for number in range(12):
            messages = [{"role": "user", "content": "When did the mill open? " * (1 + number % 4)}]
            if number % 2:
                messages.append({"role": "assistant", "content": f"It opened in {1890 + number}."})
            documents = [{"title": "Mill", "text": "It opened."}] if number % 3 == 0 else []
            completion = ANSWERS.get(name, ["The mill"])[number % 2 if name != "text" else 0]
            lines.append(json.dumps({"messages": messages, "documents": documents, "completion": completion}))
        (build / "tests" / f"{name}.jsonl").write_text("\n".join(lines))
    return build


def test_peft_and_the_engine_say_the_same(
    build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from alora_cpp.convert import convert_adapter
    from benchmarks.accuracy import engine, engine_files
    from training.export_gguf import export

    shipped = tmp_path / "tiny.gguf"
    export(build / "base", shipped)
    for name in ROLES:
        convert_adapter(build / name, tmp_path / f"tiny.{name}.gguf", base=shipped, outtype="q8_0", name=name)
    monkeypatch.setattr(engine_files, "BUNDLED", shipped)
    # llama.cpp's quantization comes with a package that only this benchmark needs.
    monkeypatch.setattr(engine_files, "quantize_q4_k_m", shutil.copy)
    out, page = tmp_path / "engine.json", tmp_path / "page.md"
    page.write_text("Before\n<!-- engine -->\nold\n<!-- /engine -->\nAfter\n")
    monkeypatch.setattr(
        sys, "argv", ["engine", "--build", str(build), "--threads", "1", "--out", str(out), "--page", str(page)]
    )
    engine.main()
    compared = json.loads(out.read_text())
    assert set(compared) == set(ROLES)
    for name, one in compared.items():
        exact = one["ways"]["F32"]
        assert one["n"] == 12
        assert exact["same"][0] == 1.0
        assert exact["differing"] == []
        assert exact["figures"].keys() == one["ways"]["PEFT"]["figures"].keys()
        if name != "text":
            assert exact["largest_difference"] < 1e-5
            # Quantized files do round: it was not the same model that was asked twice.
            assert one["ways"]["Q8_0"]["largest_difference"] > exact["largest_difference"]
    assert compared["digit"]["ways"]["F32"]["same_or_next"][0] == 1.0
    table = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in table[2:]] == [f"| {name}" for name in sorted(ROLES)]
    assert len({line.count("|") for line in table}) == 1
    assert page.read_text().splitlines() == ["Before", "<!-- engine -->", *table, "<!-- /engine -->", "After"]
