"""Reads the chat template that Hugging Face's libraries save beside a model or an adapter."""

from __future__ import annotations

import json
from pathlib import Path

from alora_cpp.errors import ConversionError

_TEMPLATE_NAME = "chat_template.jinja"
_CONFIG_NAME = "tokenizer_config.json"


def read_chat_template(folder: Path) -> str | None:
    """Reads a folder's chat template: chat_template.jinja, or before that, in tokenizer_config.json.

    Returns:
        Its text; of several, the one called default. None where there is none.

    Raises:
        ConversionError: The file cannot be read or is damaged.
    """
    path = folder / _TEMPLATE_NAME
    try:
        if path.is_file():
            return path.read_bytes().decode("utf-8")
        path = folder / _CONFIG_NAME
        if not path.is_file():
            return None
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise ConversionError(f"cannot read {path} ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ConversionError(f"{path} is damaged ({error}); download it again") from error
    template = config.get("chat_template") if isinstance(config, dict) else None
    if isinstance(template, list):
        named = {item.get("name"): item.get("template") for item in template if isinstance(item, dict)}
        template = named.get("default")
    if not isinstance(template, str):
        return None
    # JSON can spell halves of characters, which no file can.
    return template.encode(errors="replace").decode()
