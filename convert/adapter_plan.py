"""Works out which tensors an adapter's GGUF has, before any number is read."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
from gguf.utility import LocalTensor

from alora_cpp.errors import ConversionError

from .base import Base
from .families import KEY, MODULES, QUERY, Location, Part, block_modules, block_prefix
from .peft_folder import WEIGHTS_NAME, PeftFolder
from .regroup import Share, join_a, join_b, regroup
from .safetensors_file import load

Type = gguf.GGMLQuantizationType
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Matrix:
    """One tensor of the output, before its numbers are read.

    Attributes:
        name: Its name in the file.
        shape: [rank, in] for an A, [out, rank] for a B.
        type: The type its numbers are stored as.
        read: Reads and computes its numbers.
    """

    name: str
    shape: tuple[int, ...]
    type: Type
    read: Callable[[], Array]

    @property
    def byte_shape(self) -> tuple[int, ...]:
        """Its shape, the rows counted in bytes."""
        return gguf.quant_shape_to_byte_shape(self.shape, self.type)


@dataclass(frozen=True)
class AdapterPlan:
    """What an adapter's GGUF holds.

    Attributes:
        alpha: Its one alpha.
        matrices: Its tensors.
        model_type: Which of the base's possible Hugging Face kinds the adapter's modules fit.
    """

    alpha: np.float32
    matrices: list[Matrix]
    model_type: str


@dataclass(frozen=True)
class _Weight:
    """An adapted weight of the base."""

    layer: int
    name: str
    parts: tuple[Part, ...]
    shares: tuple[Share, ...]
    rank: int


def plan_adapter(folder: Path, adapter: PeftFolder, base: Base, wanted: Type) -> AdapterPlan:
    """Plans an adapter's GGUF.

    Args:
        folder: Where the adapter was read from, for messages.
        adapter: The adapter.
        base: The base it belongs to.
        wanted: The type to store numbers as, wherever rows are long enough for it.

    Raises:
        ConversionError: The adapter does not fit the base, or is incomplete.
    """
    path = folder / WEIGHTS_NAME
    weights = _weights(path, adapter, base)
    alpha = _file_alpha([scale for weight in weights for scale in _scaled_alphas(adapter, weight)])
    matrices = [matrix for weight in weights for matrix in _matrices(adapter, base, weight, wanted, alpha)]
    return AdapterPlan(alpha, matrices, _model_type(path, adapter, base))


def _weights(path: Path, adapter: PeftFolder, base: Base) -> list[_Weight]:
    blocks: defaultdict[int, dict[str, Location]] = defaultdict(dict)
    for module, pair in adapter.pairs.items():
        blocks[pair.location.layer][module] = pair.location
    weights = []
    for layer, modules in blocks.items():
        if layer >= len(base.blocks):
            raise ConversionError(
                f"the adapter has layer {layer} ({next(iter(modules))}), but {base.source} has only"
                f" {len(base.blocks)} layers; give the base that the adapter was trained on"
            )
        sources = {module: MODULES[location.module] for module, location in modules.items()}
        for module, parts in sources.items():
            _check_parts(path, base, layer, module, sources)
            _check_shape(adapter, base, layer, module, parts)
        for name, shares in regroup(sources, base.blocks[layer], base.height).items():
            rank = sum(adapter.config.rank_of(share.source) for share in shares)
            weights.append(_Weight(layer, name, base.blocks[layer][name], shares, rank))
    return weights


def _check_parts(path: Path, base: Base, layer: int, module: str, sources: Mapping[str, tuple[Part, ...]]) -> None:
    for other, parts in sources.items():
        if other != module and set(parts) & set(sources[module]):
            raise ConversionError(
                f"{path} has both {module} and {other}, which are rows of one weight; expected one of them:"
                " the file mixes two adapters, save it again"
            )
    missing = [part.name for part in sources[module] if part not in base.parts(layer)]
    if missing:
        raise ConversionError(
            f"the base {base.source} has no weight in block {layer} that holds {', '.join(missing)}, which the"
            f" adapter's {module} targets; convert against the base that the adapter was trained on"
        )


def _check_shape(adapter: PeftFolder, base: Base, layer: int, module: str, parts: tuple[Part, ...]) -> None:
    pair = adapter.pairs[module]
    shape = (pair.b.shape[0], pair.a.shape[1])
    for weight, held in base.blocks[layer].items():
        if not set(held) & set(parts):
            continue
        recorded = base.shape(held) if base.shapes is None else base.shapes[weight]
        expected = base.shape(held)
        if recorded != expected or any(base.height(p) % (2 * n) for p, n in _rotated(base, held)):
            raise ConversionError(
                f"{base.source} says {base.n_head} heads, {base.n_head_kv} key and value heads and thus"
                f" {list(expected)} values for {weight}, which has {list(recorded)}; the base is damaged,"
                " download it again"
            )
        if shape != base.shape(parts):
            raise ConversionError(
                f"the adapter's {module} fits a weight of shape {list(shape)}, but {weight} of"
                f" {base.source} is {list(recorded)}; give the base that the adapter was trained on"
            )


def _rotated(base: Base, parts: tuple[Part, ...]) -> list[tuple[Part, int]]:
    """Lists the parts whose rows are reordered, and how many heads they have."""
    heads = {QUERY: base.n_head, KEY: base.n_head_kv} if base.family.interleaved_rotary else {}
    return [(part, heads[part]) for part in parts if part in heads]


def _scaled_alphas(adapter: PeftFolder, weight: _Weight) -> list[float]:
    # The engines divide by the rank that they see, which is that of all shares together.
    return [adapter.config.scaling_of(share.source) * weight.rank for share in weight.shares]


def _file_alpha(alphas: list[float]) -> np.float32:
    """Chooses the one alpha of the file.

    The engines scale each pair by this alpha over the pair's own rank. So the choice that serves
    most shares as they are is their scale times their rank: alpha itself for an ordinary LoRA,
    whatever the rank pattern, and alpha times the root of the rank for rsLoRA. Only shares that
    differ from it (an alpha pattern, rsLoRA with a rank pattern, some projections fused and others
    not) have the rest multiplied into their B, in float32 and before rounding to the output type.
    """
    for alpha, _ in Counter(alphas).most_common():
        # The engines read zero as "no alpha, scale by one"; such modules get a B of zeros.
        if np.float32(alpha) != 0:
            return np.float32(alpha)
    return np.float32(1)


def _matrices(adapter: PeftFolder, base: Base, weight: _Weight, wanted: Type, alpha: np.float32) -> list[Matrix]:
    pairs = [adapter.pairs[share.source] for share in weight.shares]
    factors = [np.float32(scaled) / alpha for scaled in _scaled_alphas(adapter, weight)]
    n_rows, n_columns = base.shape(weight.parts)
    heads = dict(_rotated(base, weight.parts))

    def reorder(part: Part, rows: Array) -> Array:
        return _interleave(rows, heads[part]) if part in heads else rows

    name_a, name_b = f"{weight.name}.lora_a", f"{weight.name}.lora_b"

    def read_a() -> Array:
        return join_a([_numbers(pair.a, name_a) for pair in pairs])

    def read_b() -> Array:
        scaled = [_numbers(pair.b, name_b) * factor for pair, factor in zip(pairs, factors, strict=True)]
        return join_b(weight.shares, scaled, n_rows, reorder)

    return [
        Matrix(name_a, (weight.rank, n_columns), _storage(n_columns, wanted), read_a),
        Matrix(name_b, (n_rows, weight.rank), _storage(weight.rank, wanted), read_b),
    ]


def _numbers(tensor: LocalTensor, name: str) -> Array:
    values = load(tensor)
    if not np.isfinite(values).all():
        raise ConversionError(
            f"the numbers for {name} contain NaN or infinity; the adapter is damaged or its"
            " training diverged: take another checkpoint"
        )
    return values


def _storage(row_length: int, wanted: Type) -> Type:
    block, _ = gguf.GGML_QUANT_SIZES[wanted]
    return wanted if row_length % block == 0 else Type.F16


def _interleave(rows: Array, heads: int) -> Array:
    """Reorders each head's rows 0, 1, 2, ... to 0, h, 1, h+1, ..., h being half of the head."""
    half = len(rows) // heads // 2
    order = np.arange(len(rows)).reshape(heads, 2, half).transpose(0, 2, 1).ravel()
    return rows[order]


def _model_type(path: Path, adapter: PeftFolder, base: Base) -> str:
    """Finds the kind of model that the adapter's modules belong to, and checks that none is missing.

    PEFT would start a module whose matrices are missing from zero, and only warn.
    """
    kinds = base.family.model_types
    prefix = next(iter(adapter.pairs.values())).location.prefix
    # A GGUF does not say whether it is the text's part of a model that sees; the modules' names do.
    by_names = sorted(kinds, key=lambda kind: ("language_model" in block_prefix(kind)) != ("language_model" in prefix))
    candidates = [base.model_type] if base.model_type is not None else by_names
    used = {pair.location.module for pair in adapter.pairs.values()}
    fitting = [kind for kind in candidates if used <= set(kinds[kind])]
    if not fitting:
        raise ConversionError(
            f"{path} has {', '.join(sorted(used))}; expected modules of a"
            f" {' or '.join(candidates)} model: give the base that the adapter was trained on"
        )
    missing = {kind: _missing(adapter, base, kinds[kind]) for kind in fitting}
    for kind, module in missing.items():
        if module is None:
            return kind
    raise ConversionError(
        f"{path} has no lora_A and lora_B for {missing[fitting[0]]}, which"
        " target_modules names; the file is incomplete, or the base is not the one"
        " that the adapter was trained on"
    )


def _missing(adapter: PeftFolder, base: Base, modules: tuple[str, ...]) -> str | None:
    prefix = next(iter(adapter.pairs.values())).location.prefix
    for layer in range(len(base.blocks)):
        for module in block_modules(modules, base.parts(layer)):
            name = str(Location(prefix, layer, module))
            if name not in adapter.pairs and adapter.config.targets.include(name):
                return name
    return None
