"""Remembers which adapters were pulled, so that a model finds them by name."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from alora_cpp.errors import HubError
from alora_cpp.io import canonical_name
from alora_cpp.whole_file import write_whole

from .adapters import DownloadedAdapter
from .cache_folder import cache_folder


@dataclass(frozen=True)
class Pulled(DownloadedAdapter):
    """A pulled adapter.

    Attributes:
        when: The time, in ISO 8601 and UTC.
    """

    when: str


def remember(adapter: DownloadedAdapter) -> Pulled:
    """Notes an adapter; one of the same name, kind and base from the same repository is replaced.

    Raises:
        HubError: The note cannot be written.
    """
    when = datetime.now(timezone.utc).isoformat(timespec="seconds")
    one = Pulled(**asdict(adapter), when=when)
    identity = json.dumps([one.repo, canonical_name(one.name), one.kind, one.base])
    file = cache_folder() / "pulled" / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"
    try:
        write_whole(file, json.dumps(asdict(one), default=str, indent=2))
    except OSError as error:
        raise HubError(f"{file} cannot be written ({error.strerror}); set HF_HOME to a folder of your own") from error
    return one


def pulled() -> list[Pulled]:
    """The adapters that were pulled and are still there, the newest first."""
    notes = [_read(file) for file in (cache_folder() / "pulled").glob("*.json")]
    return sorted((one for one in notes if one and one.path.exists()), key=lambda one: one.when, reverse=True)


def _read(file: Path) -> Pulled | None:
    try:
        note = json.loads(file.read_text(encoding="utf-8"))
        return Pulled(**{**note, "path": Path(note["path"])})
    except (OSError, ValueError, KeyError, TypeError):
        # Someone else's file, or one of another version: a new pull writes it again.
        return None
