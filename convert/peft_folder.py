"""Reads an adapter folder as PEFT's `save_pretrained` writes it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gguf.utility import LocalTensor

from alora_cpp.errors import AdapterError, ConversionError
from alora_cpp.io import parse_io_yaml

from .families import MODULES, Location, locate
from .peft_config import PeftConfig, read_config
from .safetensors_file import open_tensors

WEIGHTS_NAME = "adapter_model.safetensors"

_TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<part>[AB])\.weight")

# What a tensor is that belongs to no module of ours, by a part of its name.
_KINDS: Mapping[str, str] = {
    "lora_magnitude_vector": "belongs to DoRA",
    "lora_embedding_": "is an adapter of an embedding",
    "embed_tokens": "is an embedding",
    "lm_head": "is the output embedding",
    "vision": "belongs to the part that reads images",
    "expert": "belongs to experts",
    "block_sparse_moe": "chooses among experts",
    "conv": "is a convolution",
    "lora_B.bias": "is a bias of B",
    "modules_to_save": "is a fully trained module",
}


@dataclass(frozen=True)
class Pair:
    """The two matrices of one adapted module.

    Attributes:
        location: Where the module is.
        a: A, [rank, in].
        b: B, [out, rank].
    """

    location: Location
    a: LocalTensor
    b: LocalTensor


@dataclass(frozen=True)
class PeftFolder:
    """An adapter as found in a folder.

    Attributes:
        config: Its configuration.
        pairs: Its matrices by module name; modules as the base calls them.
        io_yaml: The text of its io.yaml, or None where it has none.
    """

    config: PeftConfig
    pairs: Mapping[str, Pair]
    io_yaml: str | None


def read_folder(folder: Path) -> PeftFolder:
    """Reads and checks a folder; the matrices' numbers stay on disk.

    Args:
        folder: The folder with adapter_config.json and adapter_model.safetensors.

    Raises:
        ConversionError: Something is missing, damaged or of a kind that cannot be converted.
    """
    if not folder.is_dir():
        raise ConversionError(f"{folder} is no folder; expected one with adapter_config.json and {WEIGHTS_NAME}")
    config = read_config(folder)
    path = folder / WEIGHTS_NAME
    if not path.is_file():
        raise _no_weights(folder)
    return PeftFolder(config=config, pairs=_pairs(path, config), io_yaml=_io_yaml(folder))


def _no_weights(folder: Path) -> ConversionError:
    if (folder / "adapter_model.bin").is_file():
        return ConversionError(
            f"{folder} has its weights in adapter_model.bin, a pickle, which can run code when"
            f" read; expected {WEIGHTS_NAME}: load it with PEFT where you trust it and save it"
            " with save_pretrained, which writes safetensors"
        )
    return ConversionError(f"{folder} has no {WEIGHTS_NAME}; expected a folder as PEFT's save_pretrained writes it")


def _pairs(path: Path, config: PeftConfig) -> dict[str, Pair]:
    parts: dict[Location, dict[str, LocalTensor]] = {}
    for name, tensor in open_tensors(path).items():
        match = _TENSOR.fullmatch(name)
        location = locate(match["module"]) if match is not None else None
        if match is None or location is None:
            raise _unknown_target(path, name)
        found = parts.setdefault(location, {})
        if match["part"] in found:
            raise ConversionError(
                f"{path} has lora_{match['part']} for {location} under two names; expected one:"
                " the file mixes two adapters, save it again"
            )
        found[match["part"]] = tensor
    if not parts:
        raise ConversionError(f"{path} holds no tensors; save the adapter again")
    pairs = {}
    for location, found in parts.items():
        module = str(location)
        for part in "AB":
            if part not in found:
                raise ConversionError(
                    f"{path} has no lora_{part} for {module}; expected lora_A and lora_B for"
                    " each module: the file is incomplete, save the adapter again"
                )
        pairs[module] = Pair(location, found["A"], found["B"])
        _check_rank(path, module, pairs[module], config.rank_of(module))
    return pairs


def _unknown_target(path: Path, name: str) -> ConversionError:
    kind = next((text for part, text in _KINDS.items() if part in name), "is not known")
    return ConversionError(
        f"{path} has {name}, which {kind}; expected lora_A and lora_B of"
        f" model.layers.N.{{{', '.join(MODULES)}}} only:"
        " train the adapter again with these target_modules"
    )


def _check_rank(path: Path, module: str, pair: Pair, rank: int) -> None:
    a, b = pair.a.shape, pair.b.shape
    if len(a) != 2 or len(b) != 2 or a[0] != rank or b[1] != rank:
        raise ConversionError(
            f"{path} has lora_A of shape {list(a)} and lora_B of shape {list(b)} for {module};"
            f" expected [{rank}, in] and [out, {rank}], for adapter_config.json says rank {rank}:"
            " the two files do not belong together"
        )


def _io_yaml(folder: Path) -> str | None:
    path = folder / "io.yaml"
    if not path.exists():
        return None
    try:
        text = path.read_bytes().decode("utf-8")
        parse_io_yaml(text, source=str(path))
    except AdapterError as error:
        raise ConversionError(str(error)) from error
    except OSError as error:
        raise ConversionError(f"cannot read {path} ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConversionError(
            f"{path} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    return text
