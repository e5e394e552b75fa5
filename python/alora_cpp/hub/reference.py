"""References to what is on the hub: `org/repo`, `org/repo:QUANTIZATION`, `org/repo#INTRINSIC`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from alora_cpp.errors import ArgumentError

_WORD = r"[A-Za-z0-9](?:[\w.-]*\w)?"
_REFERENCE = re.compile(
    rf"(?P<repo>{_WORD}/{_WORD})(?::(?P<quantization>[\w.-]+))?(?:#(?P<intrinsic>[\w. -]+))?", re.ASCII
)


@dataclass(frozen=True)
class Reference:
    """What a reference says.

    Attributes:
        repo: Organization and repository, `org/repo`.
        quantization: Which of the repository's models, such as `Q4_K_M`; None where it does not say.
        intrinsic: Which of the repository's adapters; None where it does not say.
    """

    repo: str
    quantization: str | None = None
    intrinsic: str | None = None


def is_reference(text: str) -> bool:
    """Whether a text means something on the hub, rather than a file or folder here."""
    return _REFERENCE.fullmatch(text) is not None and not text.lower().endswith(".gguf") and not Path(text).exists()


def parse_reference(text: str) -> Reference:
    """Reads a reference.

    Raises:
        ArgumentError: It is none.
    """
    match = _REFERENCE.fullmatch(text)
    if match is None or ".." in match["repo"] or "--" in match["repo"]:
        raise ArgumentError(
            f"{text!r} is no repository on the hub; expected org/repo, org/repo:QUANTIZATION (such as :Q4_K_M) "
            "or org/repo#INTRINSIC"
        )
    return Reference(**match.groupdict())
