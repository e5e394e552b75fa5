"""A GGUF file in memory: its weights, its vocabulary and what it says about itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal

from alora_cpp import _core
from alora_cpp.errors import ArgumentError, ClosedError
from alora_cpp.isolation import engine_for

Isolation = Literal["none", "process"]

# Enough to tell fine-tunes of one model apart: they differ in every weight.
_N_SAMPLES, _SAMPLE_SIZE = 256, 4096


class LoadedModel:
    """What `Model` knows without computing anything."""

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        n_gpu_layers: int = -1,
        progress: Callable[[float], bool] | None = None,
        vocabulary_only: bool = False,
        isolation: Isolation = "none",
    ) -> None:
        """Loads the file; `Model` says more."""
        # Has the classes of the core, which may compute elsewhere.
        self._engine = engine_for(isolation)
        self._loaded: _core.Model | None = self._engine.Model.load(
            fspath(path), n_gpu_layers=n_gpu_layers, progress=progress, vocabulary_only=vocabulary_only
        )

    @property
    def _core(self) -> _core.Model:
        if self._loaded is None:
            raise ClosedError("the model is closed; load it again")
        return self._loaded

    def _unload(self) -> None:
        """Lets go of the weights; a worker process ends with all that is in it."""
        loaded: Any = self._loaded
        self._loaded = None
        if loaded is not None and self._engine is not _core:
            loaded.close()

    def tokenize(self, text: str, *, parse_special: bool = False, add_special: bool = False) -> list[int]:
        """Text to tokens.

        Args:
            text: Any text.
            parse_special: Whether the text of control tokens becomes those tokens; never for what a user wrote.
            add_special: Whether to add what the model wants at the start and end of a text.

        Raises:
            ArgumentError: The text is no valid Unicode.
        """
        try:
            encoded = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ArgumentError(f"the text is no valid Unicode at character {error.start}: {error.reason}") from None
        return self._core.tokenize(encoded, parse_special=parse_special, add_special=add_special)

    def detokenize(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """Tokens to text; bytes that are no characters become U+FFFD.

        Args:
            tokens: Token ids.
            special: Whether control tokens show as their text.

        Raises:
            TokenError: A token is not in the vocabulary.
        """
        return self._core.detokenize(list(tokens), special=special).decode("utf-8", errors="replace")

    @cached_property
    def control_tokens(self) -> Mapping[str, int]:
        """Control tokens by their text."""
        return self._core.control_tokens

    def is_control(self, token: int) -> bool:
        """Whether a token is a control token."""
        return self._core.is_control(token)

    def is_end_of_generation(self, token: int) -> bool:
        """Whether a token ends a generated text."""
        return self._core.is_end_of_generation(token)

    @property
    def path(self) -> Path:
        """The GGUF file."""
        return Path(self._core.path)

    @property
    def name(self) -> str:
        """The name in the file (`general.name`), else the file's stem."""
        return self.metadata.get("general.name") or self.path.stem

    @property
    def names(self) -> list[str]:
        """What it may be called where it or an adapter for it is published: its name, and its file's."""
        return list(dict.fromkeys([self.name, self.path.name.removesuffix(".gguf")]))

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the file's size and of samples of its content, to tell models apart in a moment."""
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            size = file.seek(0, 2)
            digest.update(str(size).encode())
            for sample in range(_N_SAMPLES + 1):
                file.seek(max(0, size - _SAMPLE_SIZE) * sample // _N_SAMPLES)
                digest.update(file.read(_SAMPLE_SIZE))
        return digest.hexdigest()

    @property
    def architecture(self) -> str:
        """llama.cpp's name for it, such as `granite`."""
        return self._core.architecture

    @property
    def metadata(self) -> Mapping[str, str]:
        """The file's keys, as text."""
        return self._core.metadata

    @property
    def chat_template(self) -> str | None:
        """The jinja text of the chat template."""
        return self._core.chat_template

    @property
    def description(self) -> str:
        """Architecture, size and type, in a few words."""
        return self._core.description

    @property
    def n_parameters(self) -> int:
        """Weights."""
        return self._core.n_parameters

    @property
    def size(self) -> int:
        """Bytes of all weights."""
        return self._core.size

    @property
    def n_ctx_train(self) -> int:
        """Positions that the model was trained for."""
        return self._core.n_ctx_train

    @property
    def n_embd(self) -> int:
        """Width of the hidden state."""
        return self._core.n_embd

    @property
    def n_layer(self) -> int:
        """Blocks."""
        return self._core.n_layer

    @property
    def n_vocab(self) -> int:
        """Tokens in the vocabulary."""
        return self._core.n_vocab

    @property
    def bos(self) -> int | None:
        """The token that begins a text."""
        return self._core.bos

    @property
    def eos(self) -> int | None:
        """The token that ends a text."""
        return self._core.eos
