"""Where this package keeps what it made or noted on this machine."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import constants


def cache_folder() -> Path:
    """The folder, beside the hub's own cache (`HF_HOME` moves both). It need not exist yet."""
    return Path(constants.HF_HOME) / "alora_cpp"
