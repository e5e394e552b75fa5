"""Models: what they say about themselves, tokens and text, loading and closing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alora_cpp import ArgumentError, Cancelled, ClosedError, Model, TokenError
from tiny import N_VOCAB, fresh_logits, make_model, write_gguf

CONTROL = ("<|bos|>", "<|end_of_text|>", "<|pad|>", "<|start_of_role|>", "<|end_of_role|>")


def test_a_model_tells_what_it_is(model: Model, model_path: Path) -> None:
    assert (model.architecture, model.n_vocab, model.n_ctx_train) == ("llama", N_VOCAB, 512)
    assert (model.n_embd, model.n_layer) == (64, 2)
    assert (model.bos, model.eos, model.path) == (0, 1, model_path)
    assert model.metadata["general.name"] == model.name == "tiny-llama"
    assert model.chat_template is None
    assert model.n_parameters * 4 == model.size
    assert "llama" in model.description


@pytest.mark.parametrize("family", ["mistral", "granite", "qwen2", "qwen3"])
def test_other_architectures_load_and_fork(family: str, tmp_path: Path) -> None:
    with Model(write_gguf(make_model(family), tmp_path / "model.gguf")) as model:
        tokens = list(range(10, 40))
        alone = fresh_logits(model, tokens)
        with model.context(n_ctx=256, kv_type="f32", flash_attention=False) as context:
            trunk = context.branch()
            trunk.append(tokens)
            context.decode()
            fork = trunk.fork(at=13)
            fork.append(tokens[13:])
            context.decode()
            assert np.abs(fork.logits() - alone[-1]).max() < 1e-5


@given(st.lists(st.one_of(st.sampled_from(CONTROL), st.text(max_size=8)), max_size=8).map("".join))
def test_no_text_becomes_a_control_token(model: Model, text: str) -> None:
    assert not any(model.is_control(token) for token in model.tokenize(text))


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_text_comes_back_from_its_tokens(model: Model, text: str) -> None:
    assert model.detokenize(model.tokenize(text)) == text


def test_control_tokens_are_made_and_shown_only_when_asked(model: Model) -> None:
    text = "a<|start_of_role|>b<|end_of_text|>"
    tokens = model.tokenize(text, parse_special=True)
    assert [model.is_control(token) for token in tokens] == [False, True, False, True]
    assert model.detokenize(tokens) == "ab"
    assert model.detokenize(tokens, special=True) == text
    assert {model.control_tokens[name] for name in CONTROL} == {0, 1, 2, 3, 4}
    assert model.is_end_of_generation(1)
    assert not model.is_end_of_generation(3)


def test_long_text_is_tokenized_whole(model: Model) -> None:
    text = "the quick brown fox\n" * 5000
    assert model.detokenize(model.tokenize(text)) == text
    assert model.tokenize("") == []
    assert model.detokenize([]) == ""


@pytest.mark.parametrize("token", [-1, N_VOCAB, 2**31 - 1])
def test_tokens_outside_the_vocabulary_are_named(model: Model, token: int) -> None:
    for call in (model.is_control, model.is_end_of_generation, lambda token: model.detokenize([9, token])):
        with pytest.raises(TokenError, match=str(token)):
            call(token)


def test_invalid_unicode_is_told_with_its_place(model: Model) -> None:
    with pytest.raises(ArgumentError, match="character 2"):
        model.tokenize("ab\ud800")


def test_loading_tells_its_progress_and_can_be_cancelled(model_path: Path) -> None:
    told: list[float] = []
    Model(model_path, progress=lambda fraction: told.append(fraction) is None).close()
    assert told == sorted(told)
    assert told[-1] == 1.0
    with pytest.raises(Cancelled, match=r"model\.gguf"):
        Model(model_path, progress=lambda fraction: False)


def test_an_error_in_the_progress_callback_comes_through(model_path: Path) -> None:
    def fail(fraction: float) -> bool:
        raise ZeroDivisionError(fraction)

    with pytest.raises(ZeroDivisionError):
        Model(model_path, progress=fail)


def test_a_closed_model_says_so(model_path: Path, adapter_paths: list[Path]) -> None:
    model = Model(model_path)
    adapter = model.load_adapter(adapter_paths[0])
    model.close()
    model.close()
    for call in (lambda: model.n_vocab, lambda: model.tokenize("a"), lambda: model.context(n_ctx=64)):
        with pytest.raises(ClosedError, match="closed"):
            call()
    with pytest.raises(ClosedError, match="closed"):
        model.load_adapter(adapter_paths[0])
    assert adapter.rank == 4
