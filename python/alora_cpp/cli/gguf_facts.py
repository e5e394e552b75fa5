"""The facts of a GGUF file, a model or an adapter, as `alora-cli show` tells them; no weight is read.

The keys are those of `show --json`. They are always there: a fact that the file does not record is null, or an empty
list or mapping.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from math import isfinite, prod
from pathlib import Path
from typing import Any

from gguf import GGMLQuantizationType
from gguf.quants import quant_shape_to_byte_shape

from alora_cpp import _core
from alora_cpp.cli.adapter_facts import invocation_facts, io_facts
from alora_cpp.cli.token_text import token_text
from alora_cpp.convert.gguf_header import GGUFHeader, read_header
from alora_cpp.errors import AloraError

_TOKENS = "tokenizer.ggml.tokens"
_INVOCATION = ("adapter.alora.invocation_tokens", "alora.invocation_pieces")
_CONTROL, _SUBSTITUTE = "graniteswitch.adapters.token_ids_activate", "graniteswitch.adapters.token_ids_substitute"
_LAYER = re.compile(r"blk\.(?P<layer>\d+)\.(?P<target>.+)\.weight\.lora_a")
# Where a file came from, the most telling key first.
SOURCES = ("general.source.repo_url", "general.source.url", "general.repo_url", "general.url")


def gguf_facts(path: Path, *, base: Path | None = None) -> dict[str, Any]:
    """Reads the facts of a GGUF file.

    Args:
        path: A model or an adapter.
        base: The GGUF whose vocabulary spells an adapter's invocation; the adapter's own record of it if not given.

    Raises:
        AloraError: A file is missing, no GGUF, or damaged.
    """
    header = _read(path, (*_INVOCATION, _CONTROL, _SUBSTITUTE))
    kind = header.text("general.type") or "model"
    return {
        "path": str(path),
        "kind": kind,
        "format": "gguf",
        "bytes": path.stat().st_size,
        "name": header.text("general.name"),
        "architecture": header.text("general.architecture"),
        **(_adapter(path, header, base) if kind == "adapter" else _model(path, header)),
        "weights": sum(map(prod, header.shapes.values())),
        "types": _types(path, header),
        "licence": header.text("general.license"),
        "description": header.text("general.description"),
        "source": next((text for text in (header.text(key) for key in SOURCES) if text), None),
    }


def entries_of(path: Path, ids: Sequence[int]) -> list[str]:
    """The entries of some tokens in a model's vocabulary.

    Raises:
        AloraError: The file is missing, no GGUF or damaged, or lacks one of the tokens.
    """
    entries = _strings(_read(path, (_TOKENS,)), _TOKENS)
    if entries is None:
        raise AloraError(f"{path} has no vocabulary ({_TOKENS}); expected the GGUF of a model")
    if beyond := [token for token in ids if not 0 <= token < len(entries)]:
        raise AloraError(f"the vocabulary of {path} ends at token {len(entries) - 1}, so it has no {beyond[0]}")
    return [entries[token] for token in ids]


def _read(path: Path, arrays: tuple[str, ...]) -> GGUFHeader:
    if not path.is_file():
        raise AloraError(f"{path}: no such file; expected a GGUF model or adapter, or a PEFT folder")
    try:
        return read_header(path, arrays=arrays)
    except ValueError as error:
        raise AloraError(f"{path} cannot be read as GGUF ({error}); it is damaged or of another format") from None


def _model(path: Path, header: GGUFHeader) -> dict[str, Any]:
    architecture = header.text("general.architecture")
    return {
        "base": _base(header),
        "layers": header.count(f"{architecture}.block_count"),
        "width": header.count(f"{architecture}.embedding_length"),
        "context_length": header.count(f"{architecture}.context_length"),
        "vocabulary": header.lengths.get(_TOKENS),
        "chat_template": bool(header.text("tokenizer.chat_template")),
        "parts": header.count("split.count") or 1,
        "built_in_adapters": _built_in(path, header) if architecture == "graniteswitch" else None,
        "fingerprints": _fingerprints(path),
    }


def _fingerprints(path: Path) -> dict[str, str | None]:
    found = _core.read_fingerprints(str(path))
    return {"vocabulary": found.vocabulary, "weights": found.weights}


def _built_in(path: Path, header: GGUFHeader) -> dict[str, Any]:
    def tokens(key: str) -> list[dict[str, Any]]:
        ids = _ids(path, header, key)
        return [{"id": id_, "text": token_text([entry])} for id_, entry in zip(ids, entries_of(path, ids), strict=True)]

    return {
        "count": header.count("graniteswitch.adapters.count"),
        "rank": header.count("graniteswitch.adapters.lora_rank"),
        "control_tokens": tokens(_CONTROL),
        "substitute_tokens": tokens(_SUBSTITUTE),
    }


def _adapter(path: Path, header: GGUFHeader, base: Path | None) -> dict[str, Any]:
    alpha = header.values.get("adapter.lora.alpha")
    if not isinstance(alpha, float) or not isfinite(alpha):
        raise AloraError(f"{path} says adapter.lora.alpha = {alpha!r}, expected a finite number; it is damaged")
    ranks, layers, targets = set(), set(), set()
    for name, shape in header.shapes.items():
        if name.endswith(".lora_a"):
            if len(shape) != 2:
                raise AloraError(f"{path} has {name} of shape {list(shape)}, expected a matrix; it is damaged")
            ranks.add(shape[0])
            found = _LAYER.fullmatch(name)
            targets.add(found["target"] if found else name.removesuffix(".weight.lora_a"))
            layers |= {int(found["layer"])} if found else set()
    ids_key, pieces_key = _INVOCATION
    ids = _ids(path, header, ids_key)
    pieces = _strings(header, pieces_key)
    if ids and base is not None:
        pieces = entries_of(base, ids)
    text = header.text("alora.io_yaml")
    return {
        "base": _base(header),
        "rank": sorted(ranks),
        "alpha": alpha,
        # The engines read an alpha of zero as "scale by one".
        "scales": sorted({alpha / rank if alpha else 1.0 for rank in ranks if rank}),
        "targets": sorted(targets),
        "layers": sorted(layers),
        "invocation": invocation_facts(ids, pieces) if ids else None,
        "activation_offset": header.count("alora.activation_offset") or 0,
        "io_yaml": None if text is None else io_facts(text, source=f"{path} (alora.io_yaml)"),
    }


def _base(header: GGUFHeader) -> dict[str, Any] | None:
    found = {
        "name": header.text("general.base_model.0.name"),
        "repo": header.text("general.base_model.0.repo_url"),
        "model_type": header.text("alora.base.model_type"),
        "fingerprints": {
            "vocabulary": header.text("alora.base.vocabulary"),
            "weights": header.text("alora.base.weights"),
        },
    }
    return found if any((found["name"], found["repo"], found["model_type"])) else None


def _types(path: Path, header: GGUFHeader) -> dict[str, int]:
    """Numbers of weights by number type; also sees that the file is all there."""
    size, counts = path.stat().st_size, Counter[str]()
    for name, shape in header.shapes.items():
        try:
            kind = GGMLQuantizationType(header.types[name])
            n_bytes = prod(quant_shape_to_byte_shape(shape, kind))
        except ValueError as error:
            raise AloraError(f"{path} has a tensor {name} that cannot be ({error}); it is damaged") from None
        if header.offsets[name] + n_bytes > size:
            raise AloraError(f"{path} ends at byte {size}, inside the data of {name}; it is truncated: get it again")
        counts[kind.name] += prod(shape)
    return dict(counts.most_common())


def _ids(path: Path, header: GGUFHeader, key: str) -> list[int]:
    found = header.values.get(key, [])
    if not isinstance(found, list) or not all(isinstance(item, int) for item in found):
        raise AloraError(f"{path} says {key} = {found!r:.100}, expected a list of tokens; it is damaged")
    return found


def _strings(header: GGUFHeader, key: str) -> list[str] | None:
    found = header.values.get(key)
    return found if isinstance(found, list) and all(isinstance(item, str) for item in found) else None
