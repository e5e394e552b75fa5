"""What an adapter's configuration calls its base: a repository of the hub, or the folder of whoever trained it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from alora_cpp import _core
from alora_cpp.errors import AdapterMismatchError

_PATTERN = re.compile(r"(?P<organization>\w[\w.-]*)/(?P<name>\w[\w.-]*)")


class HubName(NamedTuple):
    """A repository of the Hugging Face hub."""

    organization: str
    name: str

    @property
    def url(self) -> str:
        """Where it is."""
        return f"https://huggingface.co/{self.organization}/{self.name}"


def hub_name(text: str | None) -> HubName | None:
    """Reads a repository's name; None for what is no such name, or a folder here."""
    match = _PATTERN.fullmatch(text or "")
    return None if match is None or Path(match[0]).exists() else HubName(match["organization"], match["name"])


def check_base_name(folder: Path, wanted: str | None, base: Path, name: str | None) -> None:
    """Compares what an adapter calls its base with what the base calls itself.

    The file that is converted will say that it was made for this base, so this is where another one is noticed.

    Args:
        folder: The adapter's folder.
        wanted: What its configuration calls the base.
        base: The base.
        name: The name in the base's file, or None.

    Raises:
        AdapterMismatchError: They cannot be the same; a folder's or a file's own name says nothing.
    """
    if hub_name(wanted) is None or wanted is None or name is None or _core.names_match(wanted, [name]):
        return
    raise AdapterMismatchError(
        f"{folder} was made for {wanted}, but the model {base} is called {name}; use an adapter for this model, or"
        " --force (force=True) if it is the same under another name"
    )
