"""The places where a model's adapters are looked for."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from alora_cpp.bundled_model import bundled_adapters
from alora_cpp.errors import ArgumentError
from alora_cpp.finding.place import Place

if TYPE_CHECKING:
    from alora_cpp.model import Model

_PART = re.compile(r"-\d{5}-of-\d{5}\Z")
# A type of numbers, as publishers of GGUF files write it behind a model's name.
_NUMBERS = r"(?:UD[-_])?(?:I?Q\d(?:_[0-9A-Z]+)*|TQ\d_\d|MXFP4(?:_MOE)?|NVFP4|F16|F32|BF16|FP16|FP32)"
_QUANTIZATION = re.compile(rf"[-._]{_NUMBERS}\Z", re.IGNORECASE)
_NAME_OF_NUMBERS = re.compile(_NUMBERS, re.IGNORECASE)


def stems(model: Path) -> list[str]:
    """The names that a model's adapters may begin with: its file's own, and the same without its quantization.

    One adapter serves every quantization of a model, so `m.safety.gguf` belongs to `m-Q4_K_M.gguf` too; the numbers of
    a split file (`m-Q4_K_M-00001-of-00003.gguf`) say nothing either.
    """
    own = model.name.removesuffix(".gguf")
    whole = _PART.sub("", own)
    return list(dict.fromkeys(stem for stem in (own, whole, _QUANTIZATION.sub("", whole)) if stem))


def rungs(model: Model, switch_folder: Path | None = None) -> Iterator[list[Place]]:
    """The adapters around a model, a list for each kind of place, in the order in which they are preferred.

    Args:
        model: The model.
        switch_folder: Where a Granite Switch model's adapters are described; beside the model, if not given.

    Raises:
        AdapterError: What describes the model's built-in adapters is damaged.
        ArgumentError: `switch_folder` is given, and the model has none.
    """
    # What lies beside the bundled model, or beside a model on the hub, is met again further down.
    built_in = _built_in(model, switch_folder)
    yield built_in
    seen: set[Path] = set()
    for look in (_beside, _pulled, _bundled):
        places = [place for place in look(model) if place.path.absolute() not in seen]
        seen.update(place.path.absolute() for place in places)
        yield [place for place in places if not _describes(place, built_in)]


def _built_in(model: Model, switch_folder: Path | None) -> list[Place]:
    if not model._core.built_in_adapters:
        if switch_folder is not None:
            raise ArgumentError(
                f"{switch_folder} is to describe the adapters within {model.path}, which has none; expected a Granite"
                f" Switch model, found {model.architecture}; leave the folder out"
            )
        return []
    from alora_cpp.built_in import built_in_intrinsics

    return [Place(one.name, "built in", model.path, built_in=one) for one in built_in_intrinsics(model, switch_folder)]


def _describes(place: Place, built_in: list[Place]) -> bool:
    """Whether a folder is there to say how to ask a built-in adapter: it is that adapter as it was published."""
    return place.path.is_dir() and place.name in [one.name for one in built_in]


def _beside(model: Model) -> Iterator[Place]:
    around = model.path.parent
    for stem in stems(model.path):
        for file in sorted(around.glob(f"{glob.escape(stem)}.*.gguf")):
            name = file.name[len(stem) + 1 : -len(".gguf")]
            # With a dot or a type of numbers in it, it is another model's name, or another model's adapter.
            if name and "." not in name and not _NAME_OF_NUMBERS.fullmatch(name):
                yield Place(name, "beside the model", file)
        folder = around / f"{stem}.intrinsics"
        for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
            if entry.suffix == ".gguf" and entry.is_file():
                yield Place(entry.stem, "beside the model", entry)
            elif (entry / "adapter_config.json").is_file():
                yield Place(entry.name, "beside the model", entry)


def _pulled(_model: Model) -> Iterator[Place]:
    # Takes a quarter of a second to import, so it comes after what is beside the model.
    from alora_cpp.hub import pulled

    # The newest first, but an ordinary LoRA only where there is nothing that can be called.
    for one in sorted(pulled(), key=lambda one: one.kind != "alora"):
        yield Place(one.name, "pulled", one.path)


def _bundled(_model: Model) -> Iterator[Place]:
    return (Place(name, "bundled", file) for name, file in bundled_adapters().items())
