"""Tokenizes the invocation of adapters that the old `alora` package made.

They carry it as text, `invocation_string`, and begin to act one token later than PEFT's: after the
first token of the invocation.
"""

from __future__ import annotations

from pathlib import Path

from alora_cpp.errors import ConversionError, ModelLoadError

from .peft_config import CONFIG_NAME

LEGACY_OFFSET = 1
"""How many tokens after the start of the invocation such an adapter begins to act."""

_TOKENIZER_NAME = "tokenizer.json"


def tokenize_invocation(text: str, folder: Path, base: Path) -> tuple[int, ...]:
    """Tokenizes an invocation as the adapter's training did.

    Args:
        text: The invocation.
        folder: The adapter's folder.
        base: The base. A GGUF's own vocabulary is taken; of a Hugging Face folder, the tokenizer.json, unless the
            adapter's folder has one.

    Raises:
        ConversionError: There is no tokenizer at hand, or it is damaged.
    """
    given = f"{folder / CONFIG_NAME} says invocation_string = {text!r}, as adapters of the old `alora` package do"
    if base.is_file():
        tokens, source = _by_gguf(text, base), base
    else:
        tokens, source = _by_tokenizer(text, folder, base, given)
    if len(tokens) <= LEGACY_OFFSET:
        raise ConversionError(
            f"{given}, which is {len(tokens)} token(s) to {source}; expected at least {LEGACY_OFFSET + 1},"
            " since the adapter acts from the second on: give the base that it was trained on"
        )
    return tuple(tokens)


def _by_gguf(text: str, base: Path) -> list[int]:
    from alora_cpp.model import Model

    try:
        with Model(base, vocabulary_only=True) as vocabulary:
            return vocabulary.tokenize(text, parse_special=True)
    except ModelLoadError as error:
        raise ConversionError(f"the vocabulary of the base cannot be read: {error}") from error


def _by_tokenizer(text: str, folder: Path, base: Path, given: str) -> tuple[list[int], Path]:
    advice = f"or write its token ids, without the first, into {CONFIG_NAME} as alora_invocation_tokens"
    path = next((where / _TOKENIZER_NAME for where in (folder, base) if (where / _TOKENIZER_NAME).is_file()), None)
    if path is None:
        raise ConversionError(
            f"{given}, but neither {folder} nor {base} has a {_TOKENIZER_NAME} to tokenize it;"
            f" name the base's GGUF (--base), {advice}"
        )
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ConversionError(
            f"{given}, and {path} can be read only with the package tokenizers; install it (pip install tokenizers),"
            f" {advice}"
        ) from error
    try:
        tokenizer = Tokenizer.from_file(str(path))
    # The package raises plain Exceptions.
    except Exception as error:
        raise ConversionError(f"{path} cannot be read ({error}); download it again") from error
    return tokenizer.encode(text, add_special_tokens=False).ids, path
