"""Writes what an adapter's GGUF says about the adapter.

Besides llama.cpp's keys there are ours. How an aLoRA is asked:

- `alora.io_yaml`: the text of its io.yaml.
- `alora.activation_offset`: how many tokens after the start of the invocation it begins to act.
- `alora.invocation_pieces`: the invocation's tokens as the base's vocabulary spells them, so that a
  base to which the same ids mean other texts is noticed.
- `tokenizer.chat_template`: its chat template, where one came with it and is not the base's.

What tells its base from others: `alora.base.vocabulary` and `alora.base.weights`, fingerprints of
the base's GGUF. What the way back to PEFT needs: `alora.base.model_type`, `alora.base.head_count`
and `alora.base.head_count_kv`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf

from alora_cpp import _core
from alora_cpp.errors import ConversionError, ModelLoadError

from .adapter_plan import AdapterPlan
from .base import Base
from .base_name import hub_name
from .chat_template_file import read_chat_template
from .gguf_header import read_header
from .model_card import ModelCard, read_card
from .peft_folder import PeftFolder

_TOKENS_KEY = "tokenizer.ggml.tokens"
_TEMPLATE_KEY = gguf.Keys.Tokenizer.CHAT_TEMPLATE


@dataclass(frozen=True)
class BaseIdentity:
    """What tells a base from others, as far as its files say it.

    Attributes:
        vocabulary: The fingerprint of its vocabulary, or None.
        weights: The fingerprint of its weights, or None.
        invocation_pieces: The invocation's tokens as its vocabulary spells them, or None.
        chat_template: Its chat template, or None.
        name: The name in its GGUF, or None.
    """

    vocabulary: str | None = None
    weights: str | None = None
    invocation_pieces: Sequence[str] | None = None
    chat_template: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class AdapterFacts:
    """What is known about an adapter besides its numbers.

    Attributes:
        name: Its name, in Unicode.
        base_name: What its configuration calls its base, or None.
        io_yaml: The text of its io.yaml, or None.
        invocation_tokens: What activates an aLoRA; None for an ordinary LoRA.
        activation_offset: How many tokens after the start of the invocation it begins to act.
        chat_template: Its chat template, or None.
        card: What its model card says.
    """

    name: str
    base_name: str | None
    io_yaml: str | None
    invocation_tokens: Sequence[int] | None
    activation_offset: int
    chat_template: str | None
    card: ModelCard


def gather_facts(
    folder: Path, adapter: PeftFolder, name: str, invocation: Sequence[int] | None, activation_offset: int
) -> AdapterFacts:
    """Reads what lies beside an adapter's weights.

    Raises:
        ConversionError: A file is damaged.
    """
    return AdapterFacts(
        # A folder's name may be no text to its system.
        name=name.encode(errors="replace").decode(),
        base_name=adapter.config.base,
        io_yaml=adapter.io_yaml,
        invocation_tokens=invocation,
        activation_offset=activation_offset,
        chat_template=read_chat_template(folder),
        card=read_card(folder),
    )


def identify_base(base: Path, invocation: Sequence[int] | None) -> BaseIdentity:
    """Reads what tells a base from others.

    Args:
        base: A GGUF or a Hugging Face folder, which `read_base` could read.
        invocation: The adapter's invocation tokens, all of them in the base's vocabulary.

    Raises:
        ConversionError: Its vocabulary is damaged.
    """
    if base.is_dir():
        return BaseIdentity(chat_template=read_chat_template(base))
    header = read_header(base, arrays=(_TOKENS_KEY,))
    tokens = header.values.get(_TOKENS_KEY)
    template = header.values.get(_TEMPLATE_KEY)
    name = header.values.get("general.name")
    if tokens is None:
        return BaseIdentity(chat_template=template, name=name)
    try:
        fingerprints = _core.read_fingerprints(str(base))
        pieces = None if invocation is None else [tokens[token] for token in invocation]
    except (ModelLoadError, IndexError) as error:
        raise ConversionError(
            f"the vocabulary of the base {base} is damaged ({error}); download the base again"
        ) from error
    return BaseIdentity(fingerprints.vocabulary, fingerprints.weights, pieces, template, name)


def add_metadata(
    writer: gguf.GGUFWriter, facts: AdapterFacts, base: Base, identity: BaseIdentity, plan: AdapterPlan
) -> None:
    """Adds all keys but those about numbers' types.

    Args:
        writer: The file.
        facts: About the adapter.
        base: About its base.
        identity: What tells its base from others.
        plan: What the file holds.
    """
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_name(facts.name)
    for key, text in facts.card.texts.items():
        writer.add_string(key, text)
    for key, items in facts.card.lists.items():
        writer.add_array(key, items)
    _add_base_model(writer, facts.base_name, base)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(plan.alpha))
    if facts.invocation_tokens is not None:
        # llama.cpp refuses the array where its type is int32, which the writer would infer.
        writer.add_key_value(
            gguf.Keys.Adapter.ALORA_INVOCATION_TOKENS,
            list(facts.invocation_tokens),
            gguf.GGUFValueType.ARRAY,
            gguf.GGUFValueType.UINT32,
        )
    writer.add_uint32("alora.activation_offset", facts.activation_offset)
    if identity.invocation_pieces is not None:
        writer.add_array("alora.invocation_pieces", identity.invocation_pieces)
    if facts.io_yaml is not None:
        writer.add_string("alora.io_yaml", facts.io_yaml)
    if facts.chat_template is not None and facts.chat_template != identity.chat_template:
        writer.add_chat_template(facts.chat_template)
    writer.add_string("alora.base.model_type", plan.model_type)
    writer.add_uint32("alora.base.head_count", base.n_head)
    writer.add_uint32("alora.base.head_count_kv", base.n_head_kv)
    if identity.vocabulary is not None:
        writer.add_string("alora.base.vocabulary", identity.vocabulary)
    if identity.weights is not None:
        writer.add_string("alora.base.weights", identity.weights)


def _add_base_model(writer: gguf.GGUFWriter, name: str | None, base: Base) -> None:
    writer.add_base_model_count(1)
    hub = hub_name(name)
    if hub is not None:
        writer.add_base_model_name(0, hub.name)
        writer.add_base_model_organization(0, hub.organization)
        writer.add_base_model_repo_url(0, hub.url)
    else:
        writer.add_base_model_name(0, base.name)
