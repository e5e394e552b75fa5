"""Chooses and downloads an adapter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alora_cpp import _core
from alora_cpp.errors import HubError
from alora_cpp.io import canonical_name

from .offers import Kind, Offer, adapter_offers, all_files
from .reference import parse_reference
from .repository import Repository, open_repository
from .transfer import Progress, download


@dataclass(frozen=True)
class DownloadedAdapter:
    """An adapter in the hub's cache.

    Attributes:
        name: Its intrinsic's name.
        kind: An activated LoRA, or one that governs the whole prompt.
        base: The base model's name as its publisher writes it; None where nothing says it.
        path: The GGUF file or PEFT folder.
        repo: Where it comes from, `org/repo`.
        revision: The commit's hash.
    """

    name: str
    kind: Kind
    base: str | None
    path: Path
    repo: str
    revision: str


def download_adapter(
    reference: str,
    name: str | None = None,
    *,
    base_names: Sequence[str] = (),
    kind: Kind | None = None,
    revision: str | None = None,
    progress: Progress | None = None,
) -> DownloadedAdapter:
    """Downloads an adapter, unless it is in the cache.

    Args:
        reference: `org/repo`, or `org/repo#INTRINSIC`.
        name: The intrinsic; if neither this nor the reference says it, the only one that there is.
        base_names: Names of the model that it is for; empty if any will do.
        kind: Which kind; if not given, an activated LoRA where there is one.
        revision: A branch, tag or commit; the newest of the main branch if not given.
        progress: As for `transfer.download`.

    Raises:
        ArgumentError: The reference is malformed.
        HubError: It cannot be had, or which one is meant is not clear.
        Cancelled: `progress` said so.
    """
    meant = parse_reference(reference)
    repository = open_repository(meant.repo, revision)
    name = name or meant.intrinsic
    offer = choose_offer(repository, adapter_offers(repository), name, base_names=base_names, kind=kind)
    return download_offer(repository, offer, name=name, progress=progress)


def download_offer(
    repository: Repository, offer: Offer, *, name: str | None = None, progress: Progress | None = None
) -> DownloadedAdapter:
    """Downloads what was chosen.

    Args:
        repository: Where it was offered.
        offer: It.
        name: What the user calls it.
        progress: As for `transfer.download`.

    Raises:
        HubError: It cannot be had, or has no weights that can be used.
        Cancelled: `progress` said so.
    """
    if not offer.is_gguf and not any(file.endswith(".safetensors") for file in offer.files):
        folder = f"the folder {offer.path}" if offer.path else "the top folder"
        why = f"{repository.unreachable}, and {folder} is not whole in the cache; pull it while the hub can be reached"
        if repository.unreachable is None:
            why = (
                f"{folder} has no adapter_model.safetensors (a .bin is a pickle, which can run code when read); ask its"
                " owner to save it with PEFT's save_pretrained, which writes safetensors"
            )
        raise HubError(f"{offer.name} of {repository.name} cannot be used: {why}")
    files = download(repository, all_files(repository, offer), progress=progress)
    return DownloadedAdapter(
        # In a library the folder's name is the intrinsic's; elsewhere the user knows better what it is.
        name=offer.name if offer.in_library or not name else name,
        kind=offer.kind,
        base=offer.base,
        path=files[0] if offer.is_gguf else files[0].parent,
        repo=repository.name,
        revision=repository.commit,
    )


def choose_offer(
    repository: Repository,
    offers: Sequence[Offer],
    name: str | None,
    *,
    base_names: Sequence[str] = (),
    kind: Kind | None = None,
) -> Offer:
    """Chooses an adapter as `download_adapter` says.

    Raises:
        HubError: None is that one, or several may be.
    """
    if not offers:
        raise HubError(f"{repository.name} holds no adapter; it has {repository.what_there_is()}{_offline(repository)}")
    chosen = list(offers) if name is None else [offer for offer in offers if is_called(offer, name)]
    if not chosen:
        raise HubError(f"{repository.name} has no intrinsic {name!r}; it has {_names(offers)}{_offline(repository)}")
    if name is None and len({canonical_name(offer.name) for offer in chosen}) > 1:
        # Beside a finished adapter, training leaves its checkpoints in sub-folders.
        chosen = [offer for offer in chosen if not offer.path] or chosen
        if len(chosen) > 1:
            raise HubError(
                f"{repository.name} has several intrinsics: {_names(chosen)}; say which, as in "
                f"{repository.name}#{chosen[0].name}"
            )
    fitting = [offer for offer in chosen if fits(offer, base_names)]
    if not fitting:
        raise HubError(
            f"{chosen[0].name} of {repository.name} is for {_bases(chosen)}, not for {' or '.join(base_names)}; "
            f"use one of these bases, or another revision or repository{_offline(repository)}"
        )
    of_kind = [offer for offer in fitting if kind in (None, offer.kind)]
    if not of_kind:
        raise HubError(f"{chosen[0].name} of {repository.name} is there as {fitting[0].kind} only, not as {kind}")
    if len({offer.base for offer in of_kind}) > 1:
        raise HubError(
            f"{chosen[0].name} of {repository.name} is there for several bases: {_bases(of_kind)}; say for which model,"
            " on the command line with --base MODEL"
        )
    preferred = [offer for offer in of_kind if offer.kind == "alora"] or of_kind
    peft = [offer for offer in preferred if not offer.is_gguf] or preferred
    if len(peft) > 1:
        paths = ", ".join(offer.path for offer in peft)
        raise HubError(f"{chosen[0].name} of {repository.name} is there several times: {paths}; download one by hand")
    return peft[0]


def fits(offer: Offer, base_names: Sequence[str]) -> bool:
    """Whether an adapter may be for a model of these names: its own base's name says so, or is not known."""
    return offer.base is None or not base_names or _core.names_match(offer.base, list(base_names))


def is_called(offer: Offer, name: str) -> bool:
    """Whether a name means this adapter: the library's name or an alias; elsewhere, the words of a longer name."""
    if canonical_name(offer.name) == canonical_name(name):
        return True
    words = _words(offer.name)
    return not offer.in_library and any(_words(one) <= words for one in (name, canonical_name(name)))


def _words(name: str) -> set[str]:
    return {word for word in re.split(r"[\W_]+", name.casefold()) if word}


def _names(offers: Sequence[Offer]) -> str:
    return ", ".join(dict.fromkeys(offer.name for offer in offers))


def _bases(offers: Sequence[Offer]) -> str:
    return ", ".join(dict.fromkeys(offer.base or "an unnamed base" for offer in offers))


def _offline(repository: Repository) -> str:
    return f" in the cache ({repository.unreachable})" if repository.unreachable else ""
