"""Tokenizes the invocation of adapters that the old `alora` package made.

They carry it as text, `invocation_string`, and begin to act one token later than PEFT's: after the
first token of the invocation.
"""

from __future__ import annotations

from pathlib import Path

from alora_cpp.errors import ConversionError

from .peft_config import CONFIG_NAME

LEGACY_OFFSET = 1
"""How many tokens after the start of the invocation such an adapter begins to act."""

_TOKENIZER_NAME = "tokenizer.json"


def tokenize_invocation(text: str, folder: Path, base: Path) -> tuple[int, ...]:
    """Tokenizes an invocation as the adapter's training did.

    Args:
        text: The invocation.
        folder: The adapter's folder; its tokenizer.json is preferred.
        base: The base; of a Hugging Face folder, its tokenizer.json serves as well.

    Raises:
        ConversionError: There is no tokenizer at hand, or it is damaged.
    """
    given = f"{folder / CONFIG_NAME} says invocation_string = {text!r}, as adapters of the old `alora` package do"
    advice = f"or write its token ids, without the first, into {CONFIG_NAME} as alora_invocation_tokens"
    path = next((where / _TOKENIZER_NAME for where in (folder, base) if (where / _TOKENIZER_NAME).is_file()), None)
    if path is None:
        raise ConversionError(
            f"{given}, but neither {folder} nor the base is a folder with a {_TOKENIZER_NAME} to tokenize it;"
            f" put the base's there, {advice}"
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
    tokens = tokenizer.encode(text, add_special_tokens=False).ids
    if len(tokens) <= LEGACY_OFFSET:
        raise ConversionError(
            f"{given}, which is {len(tokens)} token(s) to {path}; expected at least {LEGACY_OFFSET + 1},"
            " since the adapter acts from the second on: give the tokenizer that it was trained with"
        )
    return tuple(tokens)
