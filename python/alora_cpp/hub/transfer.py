"""Brings files of a repository into the hub's cache: resumed where cut, and verified before they count.

The client's newer versions drop what an interrupted download had, and none compares hashes. So a file's bytes are
collected under the name that older versions use, `blobs/<hash>.incomplete`, and renamed to `blobs/<hash>` when they are
what the hub says. The client then finds them there and makes the entry in its cache.
"""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import constants, hf_hub_download, hf_hub_url

from alora_cpp.errors import Cancelled, HubError
from alora_cpp.whole_file import write_whole

from .client import WeakFileLock, build_hf_headers, http_get
from .failures import NETWORK_FAILURES, UnreachableError, hub_errors
from .repository import RemoteFile, Repository

Progress = Callable[[float], bool]


def download(repository: Repository, paths: list[str], *, progress: Progress | None = None) -> list[Path]:
    """Brings files into the cache, unless they are there.

    Args:
        repository: The repository at the wanted commit.
        paths: Files of it.
        progress: Told the fraction of all bytes now and then; returning False cancels, and what has come so far stays
            for the next time.

    Returns:
        The files, in the cache's folder of this commit.

    Raises:
        HubError: A file cannot be had, is not what the hub says it is, or cannot be stored.
        Cancelled: `progress` said so.
    """
    sizes = [repository.files[path].size for path in paths]
    files = []
    for i, path in enumerate(paths):

        def advanced(size: int, before: int = sum(sizes[:i])) -> None:
            if progress is not None and not progress((before + size) / max(1, sum(sizes))):
                raise Cancelled(f"the download of {repository.name} was cancelled; what came so far is kept")

        files.append(_download_file(repository, path, advanced))
        advanced(sizes[i])
    _remember_revision(repository)
    return files


def _download_file(repository: Repository, path: str, advanced: Callable[[int], None]) -> Path:
    file = repository.files[path]
    place = repository.snapshot.joinpath(*path.split("/"))
    if place.is_file() and place.stat().st_size == file.size:
        return place
    if file.content_hash is None:
        raise HubError(
            f"{repository.unreachable}, and {path} of {repository.name} in the cache is incomplete; "
            "pull it once while the hub can be reached"
        )
    place.unlink(missing_ok=True)
    blob = repository.folder / "blobs" / file.content_hash
    lock = Path(constants.HF_HUB_CACHE) / ".locks" / repository.folder.name / f"{file.content_hash}.lock"
    try:
        with hub_errors(repository.name, repository.commit):
            lock.parent.mkdir(parents=True, exist_ok=True)
            blob.parent.mkdir(parents=True, exist_ok=True)
            with WeakFileLock(lock):
                if not blob.is_file() or blob.stat().st_size != file.size:
                    _fill(repository, path, blob, advanced)
            made = Path(hf_hub_download(repository.name, path, revision=repository.commit))
    except UnreachableError as error:
        raise HubError(
            f"{error}, so {path} of {repository.name} could not be had; check the connection and run the same again: "
            "it goes on where it stopped"
        ) from error
    if not (blob.is_file() and made.samefile(blob)) and _hash(made, file) != file.content_hash:
        # Where links are not possible the cache has a copy; anything else was not what we verified.
        made.unlink()
        raise HubError(f"{path} of {repository.name} changed while it was stored; run the same again")
    return made


def _fill(repository: Repository, path: str, blob: Path, advanced: Callable[[int], None]) -> None:
    """Downloads a blob, from where an earlier try stopped; if that does not give what it should, from the start."""
    file = repository.files[path]
    partial = blob.with_name(f"{blob.name}.incomplete")
    url = hf_hub_url(repository.name, path, revision=repository.commit)
    while True:
        begun = partial.stat().st_size if partial.is_file() else 0
        if begun < file.size or file.size == 0:
            _check_space(blob.parent, file.size - begun)
            _fetch(url, path, partial, begun, advanced)
        size = partial.stat().st_size
        found = _hash(partial, file)
        if size == file.size and found == file.content_hash:
            partial.replace(blob)
            return
        partial.unlink()
        if begun:
            continue
        if size != file.size:
            raise HubError(
                f"{path} of {repository.name} came with {size} bytes, but the hub says it has {file.size}; nothing of "
                "it is kept: run the same again, and if it stays so, tell the repository's owner"
            )
        raise HubError(
            f"{path} of {repository.name} came with the hash {found}, but the hub says {file.content_hash}; nothing of "
            "it is kept: run the same again, and if it stays so, a proxy or the repository is damaged"
        )


def _fetch(url: str, shown: str, partial: Path, begun: int, advanced: Callable[[int], None]) -> None:
    """Adds to a partial file what comes, as often as a cut connection brought at least something."""
    while True:
        try:
            with _Counted(partial, advanced) as file:
                headers = build_hf_headers() | {"Accept-Encoding": "identity"}
                http_get(url, file, resume_size=begun, headers=headers, displayed_filename=shown)
            return
        except NETWORK_FAILURES:
            size = partial.stat().st_size
            if size <= begun:
                raise
            begun = size


class _Counted(io.BufferedWriter):
    """A file that is added to, and tells its size at each write."""

    def __init__(self, path: Path, advanced: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path, "ab"))
        self._advanced = advanced

    def write(self, data: Any) -> int:
        count = super().write(data)
        self._advanced(self.tell())
        return count


def _check_space(folder: Path, missing: int) -> None:
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise HubError(
            f"{missing / 1e9:.2f} GB are to come, but only {free / 1e9:.2f} GB are free where the hub's cache is, "
            f"{constants.HF_HUB_CACHE}; free some, or set HF_HOME to a folder on another disk"
        )


def _hash(path: Path, file: RemoteFile) -> str:
    """SHA-256 of a large file; of others SHA-1 of git's blob, which begins with its size."""
    if len(file.content_hash or "") == 64:
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _remember_revision(repository: Repository) -> None:
    """Notes which commit a branch or tag meant, where the client looks when it is offline."""
    if repository.unreachable is not None or repository.revision == repository.commit:
        return
    folder = (repository.folder / "refs").resolve()
    reference = (folder / PurePosixPath(repository.revision)).resolve()
    if folder not in reference.parents:
        return
    with hub_errors(repository.name):
        write_whole(reference, repository.commit)
