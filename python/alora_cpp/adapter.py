"""An adapter: LoRA weights for one model, with its invocation tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from alora_cpp import _core


class Adapter:
    """LoRA weights for one model. Made by `Model.load_adapter`; immutable, shared by all contexts of the model."""

    def __init__(self, core: _core.Adapter) -> None:
        self._core = core
        self._invocation_tokens: tuple[int, ...] = tuple(core.invocation_tokens)

    @property
    def name(self) -> str:
        """The name in the file (`general.name`), else the file's stem."""
        return self._core.name

    @property
    def path(self) -> Path:
        """The GGUF file."""
        return Path(self._core.path)

    @property
    def metadata(self) -> Mapping[str, str]:
        """The file's scalar keys, as text."""
        return self._core.metadata

    @property
    def invocation_tokens(self) -> tuple[int, ...]:
        """The tokens that call the adapter; empty for an ordinary LoRA."""
        return self._invocation_tokens

    @property
    def activation_offset(self) -> int:
        """Tokens of the invocation before the first adapted one: 0 (PEFT's rule), or 1 for legacy adapters."""
        return self._core.activation_offset

    @property
    def io_yaml(self) -> str | None:
        """How to ask the adapter and how to read its answer, as the text of its `io.yaml`."""
        return self._core.io_yaml

    @property
    def rank(self) -> int:
        """The largest rank of its tensors."""
        return self._core.rank

    @property
    def alpha(self) -> float:
        """LoRA alpha; the scale of a tensor is alpha / rank."""
        return self._core.alpha

    @property
    def targets(self) -> Sequence[str]:
        """The base weights that it adds to, without block numbers, such as `attn_q`."""
        return self._core.targets

    @property
    def size(self) -> int:
        """Bytes of its weights."""
        return self._core.size

    def find_invocation(self, tokens: Sequence[int]) -> int:
        """Where the last occurrence of the invocation begins, PEFT's rule for where an adapter is activated.

        Raises:
            InvocationNotFoundError: The invocation is not among the tokens, or the adapter has none.
        """
        return self._core.find_invocation(list(tokens))

    def __repr__(self) -> str:
        return f"Adapter({self.name!r}, rank={self.rank}, targets={list(self.targets)})"
