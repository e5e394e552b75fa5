"""A repository at one commit: which files it has, as the hub says, or as the cache holds them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, constants

from alora_cpp.errors import HubError

from .client import repo_folder_name
from .failures import UnreachableError, hub_errors

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class RemoteFile:
    """A file as the hub lists it.

    Attributes:
        size: Bytes.
        content_hash: What its bytes must hash to: SHA-256 (64 digits) of a large file, git's SHA-1 (40 digits) of
            another; the name of its blob in the cache. None where only the cache was asked.
    """

    size: int
    content_hash: str | None


@dataclass(frozen=True)
class Repository:
    """A repository at one commit.

    Attributes:
        name: `org/repo`.
        revision: The branch, tag or commit that was asked for.
        commit: The commit's hash.
        files: Its files by path; where the hub could not be asked, those in the cache.
        unreachable: Why the hub could not be asked; None where it was.
    """

    name: str
    revision: str
    commit: str
    files: Mapping[str, RemoteFile]
    unreachable: str | None = None

    @property
    def folder(self) -> Path:
        """Where the hub's cache keeps this repository."""
        return repository_folder(self.name)

    @property
    def snapshot(self) -> Path:
        """The folder in the cache that looks like the repository at this commit."""
        return self.folder / "snapshots" / self.commit

    def what_there_is(self) -> str:
        """Its files for an error message: the likely ones, and how many there are."""
        of_interest = [path for path in self.files if path.endswith((".gguf", ".safetensors", "adapter_config.json"))]
        shown = sorted(of_interest or self.files)[:12]
        more = len(self.files) - len(shown)
        return (", ".join(shown) or "no file") + (f" and {more} more" if more else "")


def repository_folder(name: str) -> Path:
    """Where the hub's cache keeps a repository."""
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")


def open_repository(name: str, revision: str | None = None) -> Repository:
    """Asks the hub what a repository holds; where it cannot be reached, the cache.

    Args:
        name: `org/repo`.
        revision: A branch, tag or commit; the newest of the main branch if not given.

    Raises:
        HubError: There is no such repository or revision, it may not be read, or it is not in the cache.
    """
    revision = revision or constants.DEFAULT_REVISION
    try:
        return _from_hub(name, revision)
    except UnreachableError as error:
        cached = _from_cache(name, revision, str(error))
        if cached is None:
            raise HubError(
                f"{error}, and {name} at revision {revision} is not in the cache {constants.HF_HUB_CACHE}; "
                "pull it once while the hub can be reached"
            ) from error
        return cached


def _from_hub(name: str, revision: str) -> Repository:
    files: dict[str, RemoteFile] = {}
    with hub_errors(name, revision):
        information = HfApi().model_info(
            name, revision=revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
        )
        for sibling in information.siblings or ():
            _check_path(name, sibling.rfilename)
            content_hash = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
            expected = _SHA256 if sibling.lfs else _COMMIT
            if sibling.size is None or expected.fullmatch(content_hash or "") is None:
                raise HubError(
                    f"{constants.ENDPOINT} does not tell size and hash of {sibling.rfilename} in {name}, so it could "
                    "not be verified; check HF_ENDPOINT: a mirror must give them as huggingface.co does"
                )
            files[sibling.rfilename] = RemoteFile(sibling.size, content_hash)
        commit = str(information.sha)
    if _COMMIT.fullmatch(commit) is None:
        raise HubError(f"{constants.ENDPOINT} gives {commit!r} as the commit of {name}; check HF_ENDPOINT")
    return Repository(name, revision, commit, files)


def _check_path(name: str, path: str) -> None:
    """Refuses what would not stay in the cache's folder; on Windows a colon names a drive or a hidden stream."""
    if {"", ".", ".."} & set(path.split("/")) or set(path) & set("\\\0" + (":" if os.name == "nt" else "")):
        raise HubError(
            f"{name} has a file {path!r}, whose name could lead outside the cache; nothing of it is downloaded: "
            "ask the repository's owner to rename it"
        )


def _from_cache(name: str, revision: str, unreachable: str) -> Repository | None:
    folder = repository_folder(name)
    commit = revision
    if _COMMIT.fullmatch(revision) is None:
        reference = folder / "refs" / revision
        if not reference.is_file():
            return None
        commit = reference.read_text(encoding="utf-8").strip()
    snapshot = folder / "snapshots" / commit
    if _COMMIT.fullmatch(commit) is None or not snapshot.is_dir():
        return None
    files = {
        PurePosixPath(path.relative_to(snapshot)).as_posix(): RemoteFile(path.stat().st_size, None)
        for path in snapshot.rglob("*")
        if path.is_file()
    }
    return Repository(name, revision, commit, files, unreachable)
