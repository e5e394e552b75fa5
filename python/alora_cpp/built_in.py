"""The adapters within a Granite Switch model (llama.cpp's architecture `graniteswitch`), as intrinsics.

Each is called by a control token of its own, which stands where the first token of its invocation would: the model
reads the control token to choose the adapter, and embeds that first token, its substitute, instead. So a prompt is
written as for the same adapter loaded from a file, and only then the first governed token becomes the control token.

The file says which tokens these are. The rest is found, in this order, in

- `<stem>.intrinsics/<name>/` beside the model, an adapter's folder as it was published: `io.yaml`, and
  `adapter_config.json` for the invocation;
- `adapter_index.json` beside the model, which the composer writes: names, and where each `io.yaml` is, else in
  `io_configs/<name>/`;
- the model's chat template, in which the composer leaves a table `adapter_map` of names and invocations;
- the model itself: the control token's text is the name, such as `<|certainty|>`, and where the substitute begins the
  prompt of a reply, this prompt is the invocation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2.nodes

from alora_cpp import _core
from alora_cpp.adapter import BuiltInAdapter
from alora_cpp.chat_template.sandbox import TemplateSandbox
from alora_cpp.errors import AdapterError
from alora_cpp.finding.surroundings import stems

if TYPE_CHECKING:
    from alora_cpp.model import Model


_INDEX = "adapter_index.json"

# Names become parts of file names, and are listed with commas between them.
_NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class BuiltInIntrinsic:
    """What is known of a built-in adapter.

    Attributes:
        name: What it is called.
        index: Its place in the model's file, from 0.
        control_token: The token that calls it.
        substitute_token: The token that is embedded instead.
        governs_all: Whether it was trained as an ordinary LoRA, to govern a prompt from its first token on.
        invocation: Its invocation as a prompt spells it, beginning with the substitute; None where nothing says it.
        io_yaml: The file that says how to ask it, if there is one.
    """

    name: str
    index: int
    control_token: int
    substitute_token: int
    governs_all: bool
    invocation: tuple[int, ...] | None
    io_yaml: Path | None

    def load(self, model: Model) -> BuiltInAdapter:
        """Makes an adapter of it.

        Raises:
            AdapterError: Its `io.yaml` cannot be read.
        """
        tokens = [self.control_token, *(self.invocation or ())[1:]]
        core = model._engine.Adapter.built_in(model._core, self.index, self.name, self.io_text(), tokens)
        return BuiltInAdapter(
            core,
            substitute_token=self.substitute_token,
            governs_all=self.governs_all,
            is_invocation_known=self.invocation is not None,
        )

    def io_text(self) -> str | None:
        """The text of its `io.yaml`, if there is one.

        Raises:
            AdapterError: It cannot be read.
        """
        if self.io_yaml is None:
            return None
        try:
            return self.io_yaml.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise AdapterError(f"{self.io_yaml} cannot be read ({error}); expected an adapter's io.yaml") from None


def built_in_intrinsics(model: Model, folder: str | PathLike[str] | None = None) -> list[BuiltInIntrinsic]:
    """The adapters within a model, in its file's order; none but in a Granite Switch model.

    Args:
        model: The model.
        folder: Where the composer's `adapter_index.json` and `io_configs/` are; beside the model, if not given.

    Raises:
        AdapterError: A file that describes them is damaged, or says what the model contradicts; or the folder given
            describes no adapters of this model.
    """
    built_in = model._core.built_in_adapters
    if not built_in:
        return []
    texts = {one.control_token: model.detokenize([one.control_token], special=True) for one in built_in}
    described = model.path.parent if folder is None else Path(folder)
    listed = _read_index(described / _INDEX, texts)
    if folder is not None and not listed and ((described / _INDEX).exists() or not (described / "io_configs").is_dir()):
        raise AdapterError(
            f"{folder} describes no adapters of {model.path}; expected an {_INDEX} with the control tokens "
            f"{', '.join(texts.values())}, or io_configs/NAME/io.yaml"
        )
    mapped = _read_template(model.chat_template or "")
    found = []
    for index, one in enumerate(built_in):
        text = texts[one.control_token]
        entry, drawn = listed.get(one.control_token, {}), mapped.get(text, {})
        name = str(entry.get("adapter_name") or drawn.get("name") or text.removeprefix("<|").removesuffix("|>"))
        own = _own_folder(model.path, name)
        governs_all = (drawn.get("type") or entry.get("technology")) == "lora"
        found.append(
            BuiltInIntrinsic(
                name=name,
                index=index,
                control_token=one.control_token,
                substitute_token=one.substitute_token,
                governs_all=governs_all,
                invocation=(one.substitute_token,) if governs_all else _invocation(model, one, own, drawn, name),
                io_yaml=_io_yaml(described, own, name, entry),
            )
        )
    _check_names(model.path, [one.name for one in found])
    return found


def _check_names(path: Path, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1 or not _NAME.fullmatch(name):
            raise AdapterError(
                f"{path} has a built-in adapter named {name!r}; expected names that differ, of letters, digits, "
                "'_', '-' and '.': name them in an adapter_index.json beside it"
            )


def _own_folder(model: Path, name: str) -> Path:
    """An adapter's folder beside the model, whether it exists or not."""
    folders = [model.parent / f"{stem}.intrinsics" / name for stem in stems(model)]
    return next((one for one in folders if one.is_dir()), folders[0])


def _invocation(
    model: Model, one: _core.BuiltInAdapter, own: Path, drawn: Mapping[str, Any], name: str
) -> tuple[int, ...] | None:
    """What calls an adapter as a prompt spells it, as far as anything says."""
    config = own / "adapter_config.json"
    text = drawn.get("invocation_text")
    if config.is_file():
        tokens, source = _config_tokens(config), str(config)
    elif isinstance(text, str) and text:
        tokens, source = tuple(model.tokenize(text, parse_special=True)), "the chat template"
    else:
        prompt = model.template.reply_prompt
        return prompt if prompt[:1] == (one.substitute_token,) else None
    if tokens[:1] != (one.substitute_token,):
        raise AdapterError(
            f"{source} says that {list(tokens)} invokes the built-in adapter '{name}' of {model.path}, but its control "
            f"token stands for the token {one.substitute_token}; the model was composed of another adapter"
        )
    return tokens


def _config_tokens(path: Path) -> tuple[int, ...]:
    tokens = _read_json(path).get("alora_invocation_tokens")
    if not isinstance(tokens, list) or not tokens or not all(type(one) is int for one in tokens):
        raise AdapterError(f"{path} has alora_invocation_tokens {tokens!r}, expected a list of tokens")
    return tuple(tokens)


def _io_yaml(folder: Path, own: Path, name: str, entry: Mapping[str, Any]) -> Path | None:
    candidates = [own / "io.yaml"]
    if isinstance(relative := entry.get("io_config"), str):
        # An index from elsewhere says nothing about files outside of its folder.
        inside = (folder / relative).resolve()
        candidates += [inside] if inside.is_relative_to(folder.resolve()) else []
    candidates.append(folder / "io_configs" / name / "io.yaml")
    return next((one for one in candidates if one.is_file()), None)


def _read_index(path: Path, texts: Mapping[int, str]) -> dict[int, Mapping[str, Any]]:
    """The composer's index by control token; empty where it is another model's."""
    if not path.is_file():
        return {}
    entries = _read_json(path).get("adapters")
    try:
        found = {one["control_token"]["id"]: one for one in entries or ()}
        spelled = {token: one["control_token"]["token"] for token, one in found.items()}
        named = all(isinstance(one["adapter_name"], str) for one in found.values())
    except (KeyError, TypeError):
        named = False
    if not named:
        raise AdapterError(f"{path} is not what the composer writes: expected adapters with a name and a control token")
    return found if spelled == dict(texts) else {}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterError(f"{path} cannot be read as JSON ({error}); download it again") from None
    if not isinstance(value, dict):
        raise AdapterError(f"{path} holds no JSON object; download it again")
    return value


def _read_template(source: str) -> dict[str, Mapping[str, Any]]:
    """The template's table `adapter_map` by the control tokens' texts, each entry with its name."""
    try:
        assignments = TemplateSandbox().parse(source).find_all(jinja2.nodes.Assign)
        tables = [
            one.node.as_const()
            for one in assignments
            if isinstance(one.target, jinja2.nodes.Name)
            and one.target.name == "adapter_map"
            and isinstance(one.node, jinja2.nodes.Expr)
        ]
    except (jinja2.TemplateSyntaxError, jinja2.nodes.Impossible, RecursionError):
        return {}
    return {
        str(entry["token"]): {**entry, "name": name}
        for table in tables
        if isinstance(table, dict)
        for name, entry in table.items()
        if isinstance(entry, dict) and "token" in entry
    }
