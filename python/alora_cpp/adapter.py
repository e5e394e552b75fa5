"""An adapter: LoRA weights for one model, with its invocation tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from alora_cpp import _core
from alora_cpp.errors import AdapterError


class Adapter:
    """LoRA weights for one model. Made by `Model.load_adapter`; immutable, shared by all contexts of the model.

    Attributes:
        governs_all: Whether it governs a prompt from its first token on, conversation and all.
        has_own_file: Whether the file it is in holds nothing else.
    """

    governs_all = False
    has_own_file = True

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
    def written_invocation(self) -> tuple[int, ...]:
        """The invocation as a prompt spells it: the same tokens, but for built-in adapters."""
        return self._invocation_tokens

    def governed_rows(self, tokens: Sequence[int]) -> list[int]:
        """The rows for a prompt's tokens, from the first governed one on: the same, but for built-in adapters."""
        return list(tokens)

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


class BuiltInAdapter(Adapter):
    """An adapter within its model's file (Granite Switch), whose invocation begins with a control token of its own.

    The control token stands where another token would: the model embeds that one, the substitute, instead.
    """

    has_own_file = False

    def __init__(
        self, core: _core.Adapter, *, substitute_token: int, governs_all: bool, is_invocation_known: bool
    ) -> None:
        super().__init__(core)
        self._substitute_token = substitute_token
        self.governs_all = governs_all
        self._is_invocation_known = is_invocation_known

    @property
    def written_invocation(self) -> tuple[int, ...]:
        """The invocation as a prompt spells it, with the substitute.

        Raises:
            AdapterError: Nothing says more of it than that.
        """
        if not self._is_invocation_known:
            raise AdapterError(
                f"nothing says what invokes the built-in adapter '{self.name}' of {self.path}, only that its first "
                f"token is {self._substitute_token}; give its invocation (load_intrinsic(..., invocation=TEXT)), or "
                f"put its adapter_config.json into {self.path.with_suffix('.intrinsics') / self.name}"
            )
        return (self._substitute_token, *self.invocation_tokens[1:])

    def governed_rows(self, tokens: Sequence[int]) -> list[int]:
        """The rows for a prompt's tokens, from the first governed one on: the control token in that one's place.

        Raises:
            AdapterError: The first one is not what the control token stands for.
        """
        if list(tokens[:1]) != [self._substitute_token]:
            raise AdapterError(
                f"the built-in adapter '{self.name}' was to govern from {list(tokens[:1])} on, but its control token "
                f"stands for the token {self._substitute_token}: its invocation has to begin with that one"
            )
        return [self.invocation_tokens[0], *tokens[1:]]
