"""Runs llama.cpp's own converters, from the pinned source."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from oracle.tiny_models import N_VOCAB

_REPOSITORY = Path(__file__).resolve().parents[2]

# Enough different letters and words for the whole of a tiny vocabulary.
_TEXT = "the quick brown fox jumps over the lazy dog and then sleeps for hours; WHY NOT? 0123456789 (so they say)"


def find_script(name: str) -> Path:
    """Finds a converter in the folder that the builder named, or that the build made; skips the test if there is none.

    Args:
        name: Its file name.
    """
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    named = os.environ.get("ALORA_LLAMA_CPP_DIR")
    if named is not None:
        return Path(named) / name
    found = next(_REPOSITORY.glob(f"build/**/{name}"), None)
    if found is None:
        pytest.skip(f"no {name}: set ALORA_LLAMA_CPP_DIR to a folder with llama.cpp's source")
    return found


def convert_lora(folder: Path, base: Path, path: Path, outtype: str) -> Path:
    """Converts an adapter's folder."""
    return _run("convert_lora_to_gguf.py", folder, "--base", base, "--outfile", path, "--outtype", outtype)


def convert_model(folder: Path, path: Path, *options: str) -> Path:
    """Converts a tiny model's folder, which gets a tokenizer that upstream accepts."""
    _write_tokenizer(folder)
    return _run("convert_hf_to_gguf.py", folder, "--outfile", path, "--outtype", "f32", *options)


def _run(name: str, *arguments: Path | str) -> Path:
    finished = subprocess.run([sys.executable, find_script(name), *arguments], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-2000:]
    return Path(arguments[arguments.index("--outfile") + 1])


def _write_tokenizer(folder: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([_TEXT] * 20),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=N_VOCAB,
        model_type="bpe",
        hard_vocab_limit=False,
        minloglevel=2,
    )
