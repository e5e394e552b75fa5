"""Where an adapter is, and how it gets from there into a model."""

from __future__ import annotations

import re
import weakref
from contextlib import AbstractContextManager
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from alora_cpp.adapter import Adapter
from alora_cpp.conversion_cache import held_gguf
from alora_cpp.conversion_entries import hold

if TYPE_CHECKING:
    from alora_cpp.built_in import BuiltInIntrinsic
    from alora_cpp.model import Model

Origin = Literal["given", "built in", "beside the model", "pulled", "bundled"]


@dataclass(frozen=True)
class Place:
    """Where an adapter is.

    Attributes:
        name: What it is called there; None where its file says so.
        origin: How it came to be looked at.
        path: Its GGUF file or PEFT folder; the model's own file, if it is built in.
        force: Whether to load all that can be computed, made for this base or not.
        built_in: What is known of it, if it is built in.
    """

    name: str | None
    origin: Origin
    path: Path
    force: bool = False
    built_in: BuiltInIntrinsic | None = None

    def check(self, model: Model) -> None:
        """Checks that it fits, without reading its numbers; a PEFT folder is converted for that.

        Raises:
            AdapterError: It is missing, broken or of a kind that cannot be run, or made for another base.
            ConversionError: It is a PEFT folder that cannot be converted.
        """
        if self.built_in is not None:
            self.built_in.load(model)
            return
        with self._gguf(model) as gguf:
            model._engine.Adapter.check(model._core, fspath(gguf), force=self.force)

    def load(self, model: Model) -> Adapter:
        """Loads it.

        Raises:
            AdapterError: As for `check`.
            ConversionError: As for `check`.
        """
        if self.built_in is not None:
            return self.built_in.load(model)
        with self._gguf(model) as gguf:
            adapter = Adapter(model._engine.Adapter.load(model._core, fspath(gguf), force=self.force))
            if self.path.is_dir():
                # Its path stays what it is; and an isolated engine reads it again after a crash.
                weakref.finalize(adapter, hold(gguf).close)
        return adapter

    def invocation_tokens(self, model: Model) -> list[int]:
        """The tokens that call it; empty for an ordinary LoRA. For places that were checked."""
        if self.built_in is not None:
            return list(self.built_in.load(model).invocation_tokens)
        from alora_cpp.convert.gguf_header import read_header

        key = "adapter.alora.invocation_tokens"
        with self._gguf(model) as gguf:
            return list(read_header(gguf, arrays=[key]).values.get(key, []))

    def _gguf(self, model: Model) -> AbstractContextManager[Path]:
        return held_gguf(self.path, model, name=self.name, force=self.force)


def is_name(source: str | PathLike[str]) -> bool:
    """Whether this is a name to search for: text that is no file, no PEFT folder and nothing that could be a path."""
    if not isinstance(source, str) or not source or source.endswith(".gguf") or re.search(r"[/\\#]", source):
        return False
    return not Path(source).is_file() and not (Path(source) / "adapter_config.json").exists()


def given(model: Model, source: str | PathLike[str], *, force: bool = False) -> Place:
    """The adapter that a user pointed at: a GGUF file, a PEFT folder, or `repo#name` on the hub, downloaded if need be.

    Raises:
        HubError: The repository cannot be had, or has no such adapter for this model.
    """
    if isinstance(source, str) and "#" in source and not Path(source).exists():
        from alora_cpp.hub import download_adapter

        downloaded = download_adapter(source, base_names=model.names)
        return Place(downloaded.name, "given", downloaded.path, force)
    return Place(None, "given", Path(source), force)
