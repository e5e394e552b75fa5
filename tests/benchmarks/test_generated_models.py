"""Generated models load, compute, and have the vocabulary that they were told to have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from alora_cpp import Model
from benchmarks.models import INVOCATION, SHAPES, Shape, adapter_files, model_file

SMALL = Shape("small", layers=2, hidden=64, heads=4, kv_heads=2, feed_forward=96, vocab=400)
TEXT = "<|a|>"


@pytest.mark.parametrize("arch", ["llama", "granite"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_model_computes_and_its_adapters_do_something(tmp_path: Path, arch: str, tied: bool) -> None:
    shape = replace(SMALL, arch=arch, tied=tied)
    with Model(model_file(shape, tmp_path)) as model, model.context(n_ctx=256, n_threads=1) as context:
        outputs = 0 if tied else shape.vocab * shape.hidden
        in_blocks = 2 * (64 * (64 + 32 + 32 + 64) + 3 * 64 * 96 + 2 * 64)
        assert model.n_parameters == shape.vocab * shape.hidden + outputs + in_blocks + 64
        trunk = context.branch()
        trunk.append(range(100, 120))
        context.decode()
        said = []
        for adapter in (None, *adapter_files(shape, tmp_path, 2, rank=4)):
            branch = trunk.fork()
            if adapter:
                branch.activate(model.load_adapter(adapter))
            branch.append(INVOCATION)
            context.decode()
            said.append(branch.logits())
    assert np.isfinite(said).all()
    assert min(np.abs(one - other).max() for one, other in ((said[0], said[1]), (said[1], said[2]))) > 1e-3


def write_vocabulary(path: Path) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([TEXT, *"abcdefgh", "ab", *(f"<unused{number}>" for number in range(390))])
    writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * 399)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def test_a_vocabulary_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALORA_LLAMA_CPP_DIR", raising=False)
    write_vocabulary(tmp_path / "ggml-vocab-mine.gguf")
    with Model(model_file(replace(SMALL, vocabulary="mine"), tmp_path)) as model:
        assert model.tokenize("abc") == [9, 3]


def test_a_vocabulary_comes_from_the_llama_cpp_that_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "llama/models").mkdir(parents=True)
    write_vocabulary(tmp_path / "llama/models/ggml-vocab-mine.gguf")
    monkeypatch.setenv("ALORA_LLAMA_CPP_DIR", str(tmp_path / "llama"))
    with Model(model_file(replace(SMALL, vocabulary="mine"), tmp_path)) as model:
        assert model.tokenize("ab") == [9]


def test_shapes_have_the_parameters_of_the_models_they_are_named_after() -> None:
    """Llama 3.2 1B has 1,235,814,400 of them, the smaller dense Granite 3 about 2.53 billion."""
    norms = {name: (2 * shape.layers + 1) * shape.hidden for name, shape in SHAPES.items()}
    counted = {
        name: norms[name] + sum(outputs * inputs for _, outputs, inputs in SHAPES[name].weights()) for name in SHAPES
    }
    assert counted["1b"] == 1_235_814_400
    assert counted["3b"] == pytest.approx(2.53e9, rel=0.01)
