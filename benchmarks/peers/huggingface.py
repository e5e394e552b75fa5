"""A GGUF model and its adapters as transformers and PEFT load them: the same numbers, by another name."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from alora_cpp.convert import write_peft_folder

BASE = "base"


def huggingface_folder(model: Path, adapters: Sequence[Path], folder: Path, *, dtype: str = "bfloat16") -> Path:
    """A folder with the base and an adapter's folder for each number; written if it is not there.

    Args:
        model: The base, a GGUF of any quantization.
        adapters: Its adapters, GGUFs.
        folder: Where.
        dtype: Numbers of the base, by the name that torch has for them.

    Returns:
        The folder.
    """
    if folder.exists():
        return folder
    import torch

    from alora_cpp.train.gguf_base import load_gguf_base

    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        unfinished = Path(scratch) / folder.name
        load_gguf_base(model, getattr(torch, dtype)).save_pretrained(unfinished / BASE)
        for number, adapter in enumerate(adapters):
            write_peft_folder(adapter, unfinished / str(number), base=model)
        unfinished.rename(folder)
    return folder
