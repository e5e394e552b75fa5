"""The regular expressions of an adapter_config.json.

They come from anyone, and Python's own `re` can take longer than anybody waits for one such as `(.*)*x`, with no way to
end it. The `regex` package reads the same expressions, avoids most such detours, and gives up when told to.
"""

from __future__ import annotations

from pathlib import Path

import regex

from alora_cpp.errors import ConversionError

# Of computing, not of waiting. An ordinary expression takes some millionths of it.
_SECONDS = 1.0


def check_expression(pattern: str, key: str, path: Path) -> None:
    """Makes sure that a text is a regular expression.

    Args:
        pattern: The text.
        key: The setting that it comes from, and
        path: its file, for messages.

    Raises:
        ConversionError: It is none.
    """
    try:
        regex.compile(pattern)
    except (regex.error, ValueError, OverflowError, RecursionError) as error:
        raise ConversionError(f"{path} has {pattern!r} in {key}, which is no regular expression ({error})") from error


def match(pattern: str, text: str, *, whole: bool = False) -> regex.Match[str] | None:
    """Matches an expression from the beginning of a module's name, as `re.match` does.

    Args:
        pattern: The expression.
        text: The name.
        whole: Whether it must also end with the name, as for `re.fullmatch`.

    Raises:
        ConversionError: It takes too long.
    """
    try:
        return (regex.fullmatch if whole else regex.match)(pattern, text, timeout=_SECONDS)
    except TimeoutError as error:
        raise ConversionError(
            f"adapter_config.json has the expression {pattern!r}, which takes too long to match with {text};"
            " write it without repeats inside repeats"
        ) from error
