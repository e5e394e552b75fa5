"""Which adapters a repository offers, in any of the layouts that publishers use.

`<task>/<lora|alora>/<base>/` and `<task>/<base>/<lora|alora>/` are the layouts of intrinsics libraries: there the
folders say it all. Anywhere else, the adapter's own file says what it is and for which base.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from huggingface_hub import hf_hub_url

from alora_cpp.errors import HubError

from .client import build_hf_headers, get_session, hf_raise_for_status
from .failures import hub_errors
from .repository import Repository
from .transfer import download

Kind = Literal["alora", "lora"]

_KINDS: dict[str, Kind] = {"alora": "alora", "lora": "lora"}
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# With an adapter of the old `alora` package, what tokenizes its invocation.
_TOKENIZER = "tokenizer.json"
# What belongs to an adapter beside its weights: how to ask it, its chat template, its licence.
_COMPANIONS = ("io.yaml", "README.md", "chat_template.jinja", "tokenizer_config.json")
# The keys that tell an adapter from a model lie within this many bytes of a GGUF.
_HEAD = 1 << 16
# Where a folder has one adapter in several number types, the first of these that is there.
_TYPES = ("bf16", "f16", "f32", "q8_0")


@dataclass(frozen=True)
class Offer:
    """An adapter in a repository.

    Attributes:
        name: Its intrinsic's name: the task's folder, else what its folder, file or repository is called.
        kind: An activated LoRA, or one that governs the whole prompt.
        base: The base model's name; None where nothing says it.
        path: Its folder in the repository (empty: the top), or its GGUF file.
        files: Its files, the configuration or the GGUF first.
        size: Bytes of them all.
        in_library: Whether the folders of a library say so; then the name is exact.
    """

    name: str
    kind: Kind
    base: str | None
    path: str
    files: tuple[str, ...]
    size: int
    in_library: bool

    @property
    def is_gguf(self) -> bool:
        """Whether it is a GGUF file; else a PEFT folder."""
        return self.path.endswith(".gguf")


def adapter_offers(repository: Repository) -> list[Offer]:
    """All adapters of a repository, by name.

    Raises:
        HubError: What says so cannot be read.
    """
    offers = [*_peft_offers(repository), *_gguf_offers(repository)]
    return sorted(offers, key=lambda offer: (offer.name, offer.base or "", offer.kind, offer.path))


def _peft_offers(repository: Repository) -> Iterator[Offer]:
    for path in repository.files:
        folder, _, name = path.rpartition("/")
        if name != _CONFIG:
            continue
        files = _present(repository, folder, (_CONFIG, _WEIGHTS, *_COMPANIONS))
        if layout := _library_layout(folder):
            yield _offer(repository, *layout, folder, files, in_library=True)
            continue
        config = _read_config(repository, path)
        activated = config.get("alora_invocation_tokens") or config.get("invocation_string")
        yield _offer(
            repository,
            PurePosixPath(folder or repository.name).name,
            "alora" if activated else "lora",
            str(config.get("base_model_name_or_path") or "") or None,
            folder,
            files,
            in_library=False,
        )


def _gguf_offers(repository: Repository) -> Iterator[Offer]:
    paths = [path for path in repository.files if path.lower().endswith(".gguf")]
    in_library = {path: layout for path in paths if (layout := _library_layout(path.rpartition("/")[0]))}
    folders: dict[str, list[str]] = {}
    for path in in_library:
        folders.setdefault(path.rpartition("/")[0], []).append(path)
    for folder, group in folders.items():
        best = min(group, key=_rank_of_type)
        files = (best, *_present(repository, folder, _COMPANIONS))
        yield _offer(repository, *in_library[best], best, files, in_library=True)
    others = [path for path in paths if path not in in_library]
    with ThreadPoolExecutor(max_workers=8) as pool:
        for path, keys in zip(others, pool.map(lambda path: _read_head(repository, path), others), strict=True):
            if keys.get("general.type") != "adapter":
                continue
            stem = path.removesuffix(".gguf")
            folder = path.rpartition("/")[0]
            beside = f"{stem}.io.yaml"
            files = (path, *((beside,) if beside in repository.files else _present(repository, folder, ("io.yaml",))))
            yield _offer(
                repository,
                keys.get("general.name") or PurePosixPath(stem).name,
                "alora" if "adapter.alora.invocation_tokens" in keys else "lora",
                keys.get("general.base_model.0.name"),
                path,
                files,
                in_library=False,
            )


def _offer(
    repository: Repository,
    name: str,
    kind: Kind,
    base: str | None,
    path: str,
    files: tuple[str, ...],
    *,
    in_library: bool,
) -> Offer:
    return Offer(name, kind, base, path, files, sum(repository.files[file].size for file in files), in_library)


def _library_layout(folder: str) -> tuple[str, Kind, str] | None:
    """Task, kind and base that the folders of a library say."""
    parts = folder.split("/")[-3:]
    if len(parts) < 3:
        return None
    for kind_at, base_at in ((1, 2), (2, 1)):
        kind = _KINDS.get(parts[kind_at].lower())
        if kind is not None:
            return parts[0], kind, parts[base_at]
    return None


def _present(repository: Repository, folder: str, names: tuple[str, ...]) -> tuple[str, ...]:
    paths = [f"{folder}/{name}" if folder else name for name in names]
    return tuple(path for path in paths if path in repository.files)


def _rank_of_type(path: str) -> tuple[int, str]:
    name = path.rpartition("/")[2].lower()
    return next((i for i, kind in enumerate(_TYPES) if kind in name), len(_TYPES)), path


def all_files(repository: Repository, offer: Offer) -> list[str]:
    """All files to download for an adapter; reads its configuration to know them.

    Raises:
        HubError: The configuration cannot be had or read.
    """
    if offer.is_gguf:
        return list(offer.files)
    config = _read_config(repository, offer.files[0])
    is_old = config.get("invocation_string") and not config.get("alora_invocation_tokens")
    return [*offer.files, *(_present(repository, offer.path, (_TOKENIZER,)) if is_old else ())]


def _read_config(repository: Repository, path: str) -> dict[str, Any]:
    (file,) = download(repository, [path])
    try:
        config = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise HubError(f"{path} of {repository.name} is no valid JSON ({error}); tell the repository's owner") from None
    if not isinstance(config, dict):
        raise HubError(f"{path} of {repository.name} holds no JSON object; tell the repository's owner")
    return config


def _read_head(repository: Repository, path: str) -> dict[str, Any]:
    """The first keys of a GGUF, from the cache or by asking for its first bytes only."""
    from alora_cpp.convert.gguf_header import read_first_keys

    place = repository.snapshot.joinpath(*path.split("/"))
    if place.is_file():
        with place.open("rb") as file:
            data = file.read(_HEAD)
    else:
        with hub_errors(repository.name, repository.commit):
            headers = build_hf_headers() | {"Range": f"bytes=0-{_HEAD - 1}"}
            url = hf_hub_url(repository.name, path, revision=repository.commit)
            response = get_session().get(url, headers=headers, timeout=60)
            hf_raise_for_status(response)
            data = response.content
    try:
        keys: dict[str, Any] = read_first_keys(data)
    except ValueError:
        # No adapter, then; if it is asked for as a model, loading it says what it is.
        return {}
    return keys
