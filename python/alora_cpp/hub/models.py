"""Chooses and downloads a model's GGUF, all parts of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from alora_cpp.errors import HubError

from .reference import parse_reference
from .repository import Repository, open_repository
from .transfer import Progress, download

# What llama.cpp takes, too, where nobody says which.
_USUAL = "Q4_K_M"
_PART = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
# GGUF files beside a model that are none themselves.
_COMPANION = re.compile(r"mmproj|imatrix", re.IGNORECASE)


@dataclass(frozen=True)
class ModelOffer:
    """A model in a repository, in one number type.

    Attributes:
        name: Its file's path, without the part's number where it is split.
        files: Its parts in order.
        size: Bytes of them all.
        n_parts: How many parts it has when it is complete.
    """

    name: str
    files: tuple[str, ...]
    size: int
    n_parts: int


def download_model(
    reference: str,
    filename: str | None = None,
    *,
    revision: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Downloads a model, unless it is in the cache.

    Args:
        reference: `org/repo`, or `org/repo:QUANTIZATION`.
        filename: A pattern, such as `*Q4_K_M.gguf`, that one of its files matches; if neither this nor the reference
            says which, the only one, else Q4_K_M.
        revision: A branch, tag or commit; the newest of the main branch if not given.
        progress: As for `transfer.download`.

    Returns:
        The GGUF, of a split one the first part; the others lie beside it.

    Raises:
        ArgumentError: The reference is malformed.
        HubError: It cannot be had, or which one is meant is not clear.
        Cancelled: `progress` said so.
    """
    meant = parse_reference(reference)
    repository = open_repository(meant.repo, revision)
    offer = choose_model(repository, model_offers(repository), meant.quantization, filename)
    return download(repository, list(offer.files), progress=progress)[0]


def model_offers(repository: Repository, *, adapters: Collection[str] = ()) -> list[ModelOffer]:
    """All models of a repository, by name.

    Args:
        repository: The repository.
        adapters: Its GGUF files that are adapters.
    """
    groups: dict[str, list[str]] = {}
    n_parts: dict[str, int] = {}
    for path in sorted(repository.files):
        if not path.lower().endswith(".gguf") or path in adapters or _COMPANION.search(path.rpartition("/")[2]):
            continue
        split = _PART.fullmatch(path)
        name = f"{split['stem']}.gguf" if split else path
        groups.setdefault(name, []).append(path)
        n_parts[name] = int(split["count"]) if split else 1
    return [
        ModelOffer(name, tuple(files), sum(repository.files[file].size for file in files), n_parts[name])
        for name, files in groups.items()
    ]


def choose_model(
    repository: Repository, offers: Sequence[ModelOffer], quantization: str | None, pattern: str | None
) -> ModelOffer:
    """Chooses a model as `download_model` says.

    Raises:
        HubError: None is that one, several may be, or parts are missing.
    """
    if not offers:
        advice = f"it has {repository.what_there_is()}"
        if any(path.endswith(".safetensors") for path in repository.files):
            advice += "; look for a repository that has it as GGUF, such as one named ...-GGUF"
        raise HubError(f"{repository.name} holds no model as GGUF; {advice}")
    chosen = list(offers)
    if pattern is not None:
        chosen = [offer for offer in chosen if _matches(offer, pattern)]
    if quantization is not None:
        chosen = [offer for offer in chosen if _is_quantized(offer, quantization)]
    elif pattern is None and len(chosen) > 1:
        chosen = [offer for offer in chosen if _is_quantized(offer, _USUAL)] or chosen
    if len(chosen) != 1:
        wanted = " and ".join(filter(None, [pattern, quantization]))
        found = f"none that is {wanted}" if not chosen else f"{len(chosen)} that may be meant"
        listed = ", ".join(offer.name for offer in chosen or offers)
        raise HubError(
            f"{repository.name} has {found}; it has {listed}; say which, as in {repository.name}:{_USUAL}, or with a "
            "pattern that one of them matches"
        )
    if len(chosen[0].files) != chosen[0].n_parts:
        why = f"in the cache ({repository.unreachable})" if repository.unreachable else "in the repository"
        raise HubError(
            f"{chosen[0].name} of {repository.name} has {chosen[0].n_parts} parts, but only {len(chosen[0].files)} are "
            f"{why}; it cannot be loaded without the others"
        )
    return chosen[0]


def _matches(offer: ModelOffer, pattern: str) -> bool:
    return any(
        fnmatchcase(candidate, pattern)
        for path in (offer.name, *offer.files)
        for candidate in (path, path.rpartition("/")[2])
    )


def _is_quantized(offer: ModelOffer, quantization: str) -> bool:
    """Whether the file's name, or its folder's, ends in this number type."""
    last = rf"(?:^|[-_.]){re.escape(quantization)}$"
    parts = offer.name.removesuffix(".gguf").split("/")
    return any(re.search(last, part, re.IGNORECASE) for part in parts)
