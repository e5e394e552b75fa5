"""Which modules a PEFT configuration targets, by PEFT's own rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alora_cpp.errors import ConversionError

from .expressions import check_expression, match

_ALL_LINEAR = "all-linear"

# Where no pattern names the blocks, the first number after two names is the block's.
_ANY_LAYER = r".*?\.[^.]*\.(?P<layer>\d+)\."


@dataclass(frozen=True)
class PeftTargets:
    """The choice of modules in a configuration.

    Attributes:
        modules: Ends of module names, or an expression that whole names match, or None where
            nothing is said.
        excluded: The same of modules that are not adapted all the same.
        layers: Numbers of the blocks that are adapted; empty for all.
        layer_patterns: Expressions of what stands before a block's number; empty for anything.
    """

    modules: tuple[str, ...] | str | None
    excluded: tuple[str, ...] | str
    layers: tuple[int, ...]
    layer_patterns: tuple[str, ...]

    def include(self, module: str) -> bool:
        """Says whether a linear layer is targeted.

        Args:
            module: Its full name inside the base. Where the configuration does not say what it
                targets, nothing is.
        """
        if self.modules is None or _matches(self.excluded, module):
            return False
        if isinstance(self.modules, str):
            return self.modules.lower() == _ALL_LINEAR or match(self.modules, module, whole=True) is not None
        if module in self.modules:
            return True
        return _matches(self.modules, module) and (not self.layers or self._layer(module) in self.layers)

    def _layer(self, module: str) -> int | None:
        patterns = [rf"(?:^|.*?\.){pattern}\.(?P<layer>\d+)\." for pattern in self.layer_patterns]
        for pattern in patterns or [_ANY_LAYER]:
            found = match(pattern, module)
            if found is not None:
                return int(found["layer"])
        return None


def _matches(wanted: tuple[str, ...] | str, module: str) -> bool:
    if isinstance(wanted, str):
        return match(wanted, module, whole=True) is not None
    return any(module == end or module.endswith(f".{end}") for end in wanted)


def read_targets(config: Mapping[str, Any], path: Path) -> PeftTargets:
    """Reads the choice of modules.

    Args:
        config: The whole configuration.
        path: Its file, for messages.

    Raises:
        ConversionError: A setting is of the wrong kind or no regular expression.
    """
    modules = _names(config, "target_modules", path)
    excluded = _names(config, "exclude_modules", path)
    patterns = _names(config, "layers_pattern", path)
    patterns = (patterns,) if isinstance(patterns, str) else patterns or ()
    for pattern in patterns:
        check_expression(rf"(?:^|.*?\.){pattern}\.(?P<layer>\d+)\.", "layers_pattern", path)
    return PeftTargets(modules, excluded or (), _layers(config, path), tuple(filter(None, patterns)))


def _names(config: Mapping[str, Any], key: str, path: Path) -> tuple[str, ...] | str | None:
    value = config.get(key)
    if value is None:
        return None
    if isinstance(value, str):
        check_expression(value, key, path)
        return value
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConversionError(f"{path} says {key} = {value!r}; expected a list of names or one regular expression")
    return tuple(value)


def _layers(config: Mapping[str, Any], path: Path) -> tuple[int, ...]:
    value = config.get("layers_to_transform")
    layers = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(layer, int) and not isinstance(layer, bool) for layer in layers):
        raise ConversionError(f"{path} says layers_to_transform = {value!r}; expected layer numbers")
    return tuple(layers)
