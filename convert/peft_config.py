"""Reads adapter_config.json as PEFT writes it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from alora_cpp.errors import ConversionError

from .expressions import check_expression, match
from .peft_targets import PeftTargets, read_targets

CONFIG_NAME = "adapter_config.json"

_V = TypeVar("_V")

# Settings under which the saved pair of matrices is not the whole adapter, and what to do then.
_REFUSED: Mapping[str, str] = {
    "use_dora": "DoRA also rescales the base's weights: train again with use_dora=False",
    "use_qalora": "QALoRA pools its inputs: train again with use_qalora=False",
    "use_bdlora": "block-diagonal LoRA is not supported: train again with use_bdlora=None",
    "kasa_config": "KaSA changes the base's weights: train again without kasa_config",
    "monteclora_config": "MonteCLoRA is not supported: train again without monteclora_config",
    "arrow_config": "Arrow routes between adapters: convert its adapters one by one",
    "lora_bias": "biases of B are not supported: train again with lora_bias=False",
    "fan_in_fan_out": "transposed (Conv1D) layers are not supported",
    "modules_to_save": "fully trained modules are not supported: train again without them",
    "trainable_token_indices": "new embeddings are not supported: train again without them",
    "target_parameters": "parameters such as experts are not supported: target linear layers only",
    "layer_replication": "replicated layers are not supported: the base has none in GGUF",
}

# These start by moving a part of the base's weights into the adapter.
_BASE_CHANGING_STARTS = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True)
class PeftConfig:
    """The part of a PEFT LoRA configuration that decides what an adapter computes.

    Attributes:
        rank: The rank where no pattern says otherwise.
        alpha: The alpha where no pattern says otherwise.
        use_rslora: Whether the scale is alpha over the square root of the rank.
        rank_pattern: Ranks by regular expression of a module name's end.
        alpha_pattern: Alphas by regular expression of a module name's end.
        targets: Which modules it adapts.
        invocation_tokens: What activates an aLoRA; None for an ordinary LoRA.
        invocation_string: The same as text, in adapters of the old `alora` package; else None.
        base: What the configuration calls its base, or None.
    """

    rank: int
    alpha: float
    use_rslora: bool
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    targets: PeftTargets
    invocation_tokens: tuple[int, ...] | None
    invocation_string: str | None
    base: str | None

    def rank_of(self, module: str) -> int:
        """Gives the rank of a module's pair."""
        return _lookup(self.rank_pattern, module, self.rank)

    def scaling_of(self, module: str) -> float:
        """Gives the factor of a module's B·A, PEFT's `scaling`."""
        alpha, rank = _lookup(self.alpha_pattern, module, self.alpha), self.rank_of(module)
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank


def _lookup(patterns: Mapping[str, _V], module: str, default: _V) -> _V:
    # PEFT takes the first key, in the file's order, that matches the name's last components.
    for pattern, value in patterns.items():
        if match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def read_config(folder: Path) -> PeftConfig:
    """Reads and checks a folder's adapter_config.json.

    Args:
        folder: The folder that `save_pretrained` wrote.

    Raises:
        ConversionError: It is missing or damaged, or describes an adapter we cannot represent.
    """
    path = folder / CONFIG_NAME
    try:
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise ConversionError(
            f"cannot read {path} ({error.strerror}); expected a folder as PEFT's save_pretrained writes it"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConversionError(f"{path} is not valid JSON ({error}); download it again") from error
    if not isinstance(config, dict):
        raise ConversionError(f"{path} holds no JSON object; download it again")
    _refuse(config, path)
    return PeftConfig(
        rank=_rank(config.get("r"), "r", path),
        alpha=_alpha(config.get("lora_alpha"), "lora_alpha", path),
        use_rslora=bool(config.get("use_rslora")),
        rank_pattern={k: _rank(v, f"rank of {k}", path) for k, v in _pattern(config, "rank", path)},
        alpha_pattern={k: _alpha(v, f"alpha of {k}", path) for k, v in _pattern(config, "alpha", path)},
        targets=read_targets(config, path),
        invocation_tokens=_invocation_tokens(config, path),
        invocation_string=_invocation_string(config, path),
        base=str(config["base_model_name_or_path"]) if config.get("base_model_name_or_path") else None,
    )


def _refuse(config: Mapping[str, Any], path: Path) -> None:
    if config.get("peft_type") != "LORA":
        raise ConversionError(
            f"{path} says peft_type {config.get('peft_type')!r}; expected 'LORA':"
            " other kinds of adapters cannot be converted"
        )
    for key, reason in _REFUSED.items():
        if config.get(key):
            raise ConversionError(f"{path} says {key} = {config[key]!r}; {reason}")
    if config.get("bias", "none") not in (None, "none"):
        raise ConversionError(
            f"{path} says bias = {config['bias']!r}; expected 'none': trained biases are not"
            " supported, train again with bias='none'"
        )
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(_BASE_CHANGING_STARTS):
        raise ConversionError(
            f"{path} says init_lora_weights = {start!r}, so the adapter fits a changed base, not"
            " the original one; save it with path_initial_model_for_weight_conversion, which"
            " turns it into an ordinary LoRA"
        )


def _rank(value: object, what: str, path: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise ConversionError(f"{path} says {what} = {value!r}; expected a positive integer")
    return value


def _alpha(value: object, what: str, path: Path) -> float:
    # The bound keeps every product with a rank inside float32; NaN fails the comparison.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e24:
        raise ConversionError(f"{path} says {what} = {value!r}; expected a finite number")
    return float(value)


def _pattern(config: Mapping[str, Any], kind: str, path: Path) -> list[tuple[str, Any]]:
    pattern = config.get(f"{kind}_pattern") or {}
    if not isinstance(pattern, dict):
        raise ConversionError(f"{path} says {kind}_pattern = {pattern!r}; expected an object")
    for key in pattern:
        check_expression(key, f"{kind}_pattern", path)
    return list(pattern.items())


def _invocation_tokens(config: Mapping[str, Any], path: Path) -> tuple[int, ...] | None:
    tokens = config.get("alora_invocation_tokens")
    if tokens is None:
        return None
    if not isinstance(tokens, list) or not tokens:
        raise ConversionError(
            f"{path} says alora_invocation_tokens = {tokens!r}; expected a list of at least one"
            " token id for an aLoRA, or null for an ordinary LoRA"
        )
    for token in tokens:
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < 2**31:
            raise ConversionError(f"{path} has {token!r} in alora_invocation_tokens; expected token ids, from 0 on")
    return tuple(tokens)


def _invocation_string(config: Mapping[str, Any], path: Path) -> str | None:
    text = config.get("invocation_string")
    if not text or config.get("alora_invocation_tokens") is not None:
        return None
    if not isinstance(text, str):
        raise ConversionError(f"{path} says invocation_string = {text!r}; expected a text")
    # JSON can spell halves of characters, which no tokenizer knows.
    if text != text.encode(errors="replace").decode():
        raise ConversionError(f"{path} says invocation_string = {text!r}, half of a character; download it again")
    return text
