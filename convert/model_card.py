"""Reads what an adapter's README.md says about it in the YAML between its first two lines of dashes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from alora_cpp.errors import ConversionError

CARD_NAME = "README.md"

_FRONT_MATTER = re.compile(r"\ufeff?---[ \t]*\r?\n(?P<yaml>.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)

# Far beyond any real card; it bounds the time that a hostile one can take.
_MAX_CHARACTERS = 1 << 20

# GGUF's key, and what cards call it, the usual name first.
_TEXTS: Mapping[str, tuple[str, ...]] = {
    "general.license": ("license",),
    "general.license.name": ("license_name",),
    "general.license.link": ("license_link",),
    "general.description": ("description", "model_description"),
    "general.author": ("author", "model_author", "model_creator"),
    "general.organization": ("organization", "model_organization"),
    "general.version": ("version",),
    "general.url": ("url",),
    "general.repo_url": ("repo_url", "repo"),
}
_LISTS: Mapping[str, tuple[str, ...]] = {"general.tags": ("tags",), "general.languages": ("language", "languages")}


@dataclass(frozen=True)
class ModelCard:
    """What a card says.

    Attributes:
        texts: Its statements by GGUF's keys for them.
        lists: The same of those that are lists.
    """

    texts: Mapping[str, str]
    lists: Mapping[str, list[str]]


def read_card(folder: Path) -> ModelCard:
    """Reads a folder's README.md; where it has none, or one without YAML, the card says nothing.

    Raises:
        ConversionError: The file cannot be read, or its YAML is broken.
    """
    path = folder / CARD_NAME
    if not path.is_file():
        return ModelCard({}, {})
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            match = _FRONT_MATTER.match(file.read(_MAX_CHARACTERS))
        stated = yaml.safe_load(match["yaml"]) if match is not None else None
    except OSError as error:
        raise ConversionError(f"cannot read {path} ({error.strerror})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = " ".join(str(error).split())
        raise ConversionError(
            f"the YAML at the top of {path}, which states the licence, is broken ({problem}); correct it"
        ) from error
    if not isinstance(stated, dict):
        return ModelCard({}, {})
    texts = {key: text for key, names in _TEXTS.items() if (text := _text(_first(stated, names)))}
    lists = {key: items for key, names in _LISTS.items() if (items := _list(_first(stated, names)))}
    return ModelCard(texts, lists)


def _first(stated: Mapping[Any, Any], names: tuple[str, ...]) -> object:
    return next((stated[name] for name in names if stated.get(name)), None)


def _text(value: object) -> str:
    # A version may look like a number, and several licences stand in a list.
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return str(value).strip() if isinstance(value, (str, int, float)) else ""


def _list(value: object) -> list[str]:
    items = value if isinstance(value, list) else [value]
    return [text for item in items if (text := _text(item))]
