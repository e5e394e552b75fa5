"""What a converted adapter says about itself and about its base."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest

from alora_cpp import Model, _core
from alora_cpp.convert import convert_adapter
from alora_cpp.errors import AdapterMismatchError, ConversionError
from oracle.adapter_files import AdapterFile, edit_config, edit_weights
from oracle.tiny_models import ALL_LINEAR, AdapterSpec, TinyModel, make_model, write_adapter, write_gguf, write_hf

CARD = """\
---
license: apache-2.0
license_link: https://www.apache.org/licenses/LICENSE-2.0
language: [en, de]
tags:
  - alora
  - 2026
description: >
  Says how sure
  the answer is.
author: A. Nonymous
version: 1.5
---
# Certainty
"""


class Case:
    """An adapter of a tiny llama, and what goes with it."""

    def __init__(self, folder: Path) -> None:
        """Writes it."""
        self.tiny: TinyModel = make_model("llama")
        self.folder = write_adapter(self.tiny, AdapterSpec(targets=ALL_LINEAR), folder / "certainty")
        self.base = write_gguf(self.tiny, folder / "base.gguf")
        self.hf_folder = write_hf(self.tiny, folder / "tiny-llama")
        self.out = folder / "out.gguf"

    def convert(self, *, base: Path | None = None, force: bool = False) -> AdapterFile:
        """Converts it."""
        return AdapterFile(convert_adapter(self.folder, self.out, base=base or self.base, force=force))


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """A new one for each test, to be changed."""
    return Case(tmp_path)


def test_model_card(case: Case) -> None:
    """Licence and the rest of the YAML, in GGUF's keys."""
    (case.folder / "README.md").write_text(CARD)
    fields = case.convert().fields
    assert {key: fields[key] for key in fields if key.startswith("general.") and "base_model" not in key} == {
        "general.architecture": "llama",
        "general.type": "adapter",
        "general.name": "certainty",
        "general.license": "apache-2.0",
        "general.license.link": "https://www.apache.org/licenses/LICENSE-2.0",
        "general.languages": ["en", "de"],
        "general.tags": ["alora", "2026"],
        "general.description": "Says how sure the answer is.",
        "general.author": "A. Nonymous",
        "general.version": "1.5",
        "general.file_type": 1,
        "general.quantization_version": 2,
    }


@pytest.mark.parametrize(
    "text", ["", "# Title\n", "---\n", "--- a\n---\n", "---\n- list\n---\n", "---\n---\n", "\n" + CARD]
)
def test_card_that_says_nothing(text: str, case: Case) -> None:
    """It need not."""
    (case.folder / "README.md").write_text(text)
    assert "general.license" not in case.convert().fields


@pytest.mark.parametrize("yaml", ["a: [", "a: !!python/object:os.system x", "&a [*a, {", "[" * 3000])
def test_broken_card(yaml: str, case: Case) -> None:
    """A licence is not lost in silence."""
    (case.folder / "README.md").write_text(f"---\nlicense: mit\n{yaml}\n---\n")
    with pytest.raises(ConversionError, match=r"YAML at the top of .*README.md, which states the licence, is broken"):
        case.convert()
    assert not case.out.exists()


def test_identity_of_the_base(case: Case) -> None:
    """The fingerprints are those that loading compares, and the pieces those of the base's vocabulary."""
    file = case.convert()
    fingerprints = _core.read_fingerprints(str(case.base))
    assert file.fields["alora.base.vocabulary"] == fingerprints.vocabulary
    assert file.fields["alora.base.weights"] == fingerprints.weights
    assert file.fields["alora.base.head_count"] == 4
    assert file.fields["alora.base.head_count_kv"] == 2
    tokens = gguf.GGUFReader(case.base).fields["tokenizer.ggml.tokens"].contents()
    assert file.fields["alora.invocation_pieces"] == [tokens[5], tokens[6], tokens[7]] == ["\u0120", "\u010a", "!"]
    with Model(case.base) as model:
        model.load_adapter(case.out)


def test_another_vocabulary_is_noticed(case: Case, tmp_path: Path) -> None:
    """By the converter's pieces, in the engine's check."""
    case.convert()
    # The invocation's last token and its neighbour, with the length of the second between them.
    neighbours = b'!\1\0\0\0\0\0\0\0"'
    data = case.base.read_bytes()
    assert data.count(neighbours) == 1
    changed = tmp_path / "changed.gguf"
    changed.write_bytes(data.replace(neighbours, neighbours[-1:] + neighbours[1:-1] + neighbours[:1]))
    with Model(changed) as model, pytest.raises(AdapterMismatchError, match="invocation"):
        model.load_adapter(case.out)


def test_chat_template(case: Case) -> None:
    """One that came with the adapter is recorded, unless it is the base's own."""
    assert "tokenizer.chat_template" not in case.convert().fields
    config = {"chat_template": [{"name": "tools", "template": "T"}, {"name": "default", "template": "D"}]}
    (case.folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert case.convert().fields["tokenizer.chat_template"] == "D"
    (case.folder / "chat_template.jinja").write_text("{{ messages }}\u20ac")
    assert case.convert().fields["tokenizer.chat_template"] == "{{ messages }}\u20ac"
    (case.hf_folder / "chat_template.jinja").write_text("{{ messages }}\u20ac")
    assert "tokenizer.chat_template" not in case.convert(base=case.hf_folder).fields


@pytest.mark.parametrize(
    ("name", "content"),
    [("tokenizer_config.json", b"{"), ("chat_template.jinja", b"\xff"), ("tokenizer_config.json", b"[" * 100_000)],
)
def test_broken_chat_template(name: str, content: bytes, case: Case) -> None:
    """Named, and nothing is written."""
    (case.folder / name).write_bytes(content)
    with pytest.raises(ConversionError, match=f"{name} is damaged"):
        case.convert()
    assert not case.out.exists()


def write_tokenizer(path: Path) -> None:
    """Writes a tokenizer of whole words."""
    tokenizers = pytest.importorskip("tokenizers")
    words = {"<start>": 11, "sure": 12, "<end>": 13, "?": 14}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="?"))
    tokenizer.add_special_tokens(["<start>", "<end>"])
    tokenizer.save(str(path))


@pytest.mark.parametrize("beside", ["adapter", "base"])
def test_legacy_invocation(beside: str, case: Case) -> None:
    """Tokenized whole, and the adapter acts from the second token on."""
    edit_config(case.folder, alora_invocation_tokens=None, invocation_string="<start>sure<end>")
    write_tokenizer((case.folder if beside == "adapter" else case.hf_folder) / "tokenizer.json")
    file = case.convert(base=case.hf_folder)
    assert file.fields["adapter.alora.invocation_tokens"] == [11, 12, 13]
    assert file.fields["alora.activation_offset"] == 1
    with Model(case.base) as model:
        adapter = model.load_adapter(case.out)
        assert (adapter.activation_offset, adapter.invocation_tokens) == (1, (11, 12, 13))


def test_legacy_invocation_by_the_bases_own_vocabulary(case: Case) -> None:
    """A GGUF base needs no tokenizer beside it; control tokens count as such."""
    edit_config(case.folder, alora_invocation_tokens=None, invocation_string="<|start_of_role|>!th<|end_of_role|>")
    file = case.convert()
    texts = [*(chr(code) for code in range(33, 127)), "th"]
    assert file.fields["adapter.alora.invocation_tokens"] == [3, 7 + texts.index("!"), 7 + texts.index("th"), 4]
    assert file.fields["alora.activation_offset"] == 1


def test_legacy_invocation_without_a_tokenizer(case: Case) -> None:
    """What to do is said."""
    edit_config(case.folder, alora_invocation_tokens=None, invocation_string="<certainty>")
    with pytest.raises(ConversionError, match=r"but neither .* has a tokenizer.json.*name the base's GGUF"):
        case.convert(base=case.hf_folder)


@pytest.mark.parametrize(("text", "message"), [("<start>", "which is 1 token"), ("", "")])
def test_legacy_invocation_that_is_too_short(text: str, message: str, case: Case) -> None:
    """One token leaves none to act on; an empty text is an ordinary LoRA."""
    edit_config(case.folder, alora_invocation_tokens=None, invocation_string=text)
    write_tokenizer(case.folder / "tokenizer.json")
    if not message:
        assert "adapter.alora.invocation_tokens" not in case.convert().fields
        return
    with pytest.raises(ConversionError, match=message):
        case.convert(base=case.hf_folder)


def test_damaged_tokenizer(case: Case) -> None:
    """Its own message is passed on."""
    pytest.importorskip("tokenizers")
    edit_config(case.folder, alora_invocation_tokens=None, invocation_string="<start>")
    (case.folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ConversionError, match=r"tokenizer\.json cannot be read"):
        case.convert(base=case.hf_folder)


def test_names_without_mlp(case: Case) -> None:
    """Some published adapters leave it out; they mean the same modules."""
    with_mlp = case.convert()

    def change(tensors: dict[str, object]) -> None:
        for name in [name for name in tensors if ".mlp." in name]:
            tensors[name.replace(".mlp.", ".")] = tensors.pop(name)

    edit_weights(case.folder, change)
    without = case.convert()
    assert without.types == with_mlp.types
    assert {name: values.tolist() for name, values in without.tensors.items()} == {
        name: values.tolist() for name, values in with_mlp.tensors.items()
    }


@pytest.mark.parametrize("prefix", ["model.language_model.layers.", "language_model.model.layers.", "layers."])
def test_other_prefixes(prefix: str, case: Case) -> None:
    """Models with more than text, and those without a head, keep their blocks elsewhere."""
    plain = case.convert()

    def change(tensors: dict[str, object]) -> None:
        for name in list(tensors):
            tensors[name.replace("model.layers.", prefix)] = tensors.pop(name)

    edit_weights(case.folder, change)
    assert case.convert().types == plain.types


def test_text_of_a_model_that_sees(tmp_path: Path) -> None:
    """Its configuration keeps the text's sizes apart, and leaves out the usual ones."""
    tiny = make_model("gemma3", changes={"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256})
    folder = write_adapter(tiny, AdapterSpec(), tmp_path / "adapter")
    usual = ("num_attention_heads", "num_key_value_heads", "head_dim")
    text = {key: value for key, value in tiny.config.items() if key not in usual}
    base = tmp_path / "hf"
    base.mkdir()
    (base / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": text}))
    file = AdapterFile(convert_adapter(folder, tmp_path / "out.gguf", base=base))
    assert file.fields["general.architecture"] == "gemma3"
    assert file.fields["alora.base.model_type"] == "gemma3"
    assert file.tensors["blk.0.attn_q.weight.lora_b"].shape == (2048, 4)


def test_name_of_a_base_in_the_hubs_cache(case: Case, tmp_path: Path) -> None:
    """Its folder there is called after a commit."""
    snapshot = tmp_path / "models--org--tiny-llama" / "snapshots" / "0123abc"
    write_hf(case.tiny, snapshot)
    assert case.convert(base=snapshot).fields["general.base_model.0.name"] == "tiny-llama"


def test_a_base_of_another_name(case: Case) -> None:
    """The file would say that it was made for this base. Tried with: no check at all."""
    edit_config(case.folder, base_model_name_or_path="ibm-granite/granite-3.3-8b-instruct")
    with pytest.raises(AdapterMismatchError, match=r"made for ibm-granite/granite-3\.3-8b-instruct, .* --force"):
        case.convert()
    assert not case.out.exists()
    assert case.convert(force=True).fields["general.base_model.0.organization"] == "ibm-granite"
    # Its own name, a part of it, and a folder of whoever trained it.
    for name in ("org/tiny-llama", "org/tiny", "checkpoints/../of/mine"):
        edit_config(case.folder, base_model_name_or_path=name)
        case.convert()
