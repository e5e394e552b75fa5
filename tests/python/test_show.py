"""`alora-cli show`: what is told of models and adapters, under which keys, and how broken files are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest

from alora_cpp import Model, _core
from alora_cpp.bundled_model import BUNDLED, bundled_adapters
from alora_cpp.cli.main import main
from alora_cpp.cli.token_text import token_text
from oracle.adapter_files import edit_config
from oracle.tiny_models import INVOCATION, AdapterSpec, write_adapter
from tiny import Key, Kind, adapter_file, rewrite_gguf

if TYPE_CHECKING:
    from oracle.tiny_models import TinyModel

Show = Callable[..., dict[str, Any]]

SHARED = {"path", "kind", "format", "bytes", "name", "architecture", "base", "weights", "types", "licence"} | {
    "description",
    "source",
}
OF_MODELS = {"layers", "width", "context_length", "vocabulary", "chat_template", "parts", "built_in_adapters"} | {
    "fingerprints"
}
OF_ADAPTERS = {"rank", "alpha", "scales", "targets", "layers", "invocation", "activation_offset", "io_yaml"}
OF_BASES = {"name", "repo", "model_type", "fingerprints"}
OF_IO_YAML = {"name", "instruction", "labels", "response_format", "transformations", "parameters"} | {
    "sentence_boundaries",
    "docs_as_message",
    "text",
}

IO_YAML = """\
model: null
response_format: '{"type": "object", "properties": {"safe": {"enum": ["yes", "no"]}}, "required": ["safe"]}'
transformations:
- {type: likelihood, categories_to_values: {"yes": 1.0, "no": 0.0}, input_path: [safe]}
- {type: nest, field_name: score, input_path: []}
instruction: Is {last_message} safe?
sentence_boundaries: {last_message: s}
docs_as_message: json
parameters: {max_completion_tokens: 20}
"""


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Show:
    """The facts as JSON. The `gguf` package's reader takes seconds for a large vocabulary, so it must not be used."""

    def read(*arguments: str | Path) -> dict[str, Any]:
        with monkeypatch.context() as patch:
            patch.setattr(gguf.GGUFReader, "__init__", lambda *_: pytest.fail("the slow reader"))
            code = main(["show", *map(str, arguments), "--json"])
        assert code == 0
        facts: dict[str, Any] = json.loads(capsys.readouterr().out)
        return facts

    return read


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line that says why nothing can be shown."""

    def read(*arguments: str | Path) -> str:
        assert main(["show", *map(str, arguments)]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("alora-cli: error: ")
        assert printed.err.count("\n") == 1
        return printed.err

    return read


def test_the_facts_of_a_model(show: Show, model_path: Path, model: Model) -> None:
    facts = show(model_path)
    assert facts.keys() == SHARED | OF_MODELS
    assert facts["kind"] == "model"
    assert facts["format"] == "gguf"
    assert facts["bytes"] == model_path.stat().st_size
    assert facts["name"] == "tiny-llama"
    assert facts["architecture"] == model.architecture
    assert facts["layers"] == model.n_layer
    assert facts["width"] == model.n_embd
    assert facts["context_length"] == model.n_ctx_train
    assert facts["vocabulary"] == model.n_vocab
    assert facts["weights"] == sum(facts["types"].values()) == model.n_parameters
    assert facts["types"].keys() == {"F32"}
    assert facts["chat_template"] is False
    assert facts["parts"] == 1
    assert facts["built_in_adapters"] is None
    prints = _core.read_fingerprints(str(model_path))
    assert facts["fingerprints"] == {"vocabulary": prints.vocabulary, "weights": prints.weights}


def test_the_bundled_model(show: Show) -> None:
    facts = show("bundled")
    assert facts["chat_template"] is True
    assert facts["types"].keys() == {"F32", "Q8_0"}
    assert facts["licence"] == "apache-2.0"
    assert facts["description"]


def test_the_facts_of_an_adapter(show: Show, tiny_model: TinyModel, tmp_path: Path) -> None:
    file = adapter_file(tiny_model, rank=8, targets=("self_attn.q_proj", "mlp.down_proj"), name="safety")
    strings = {
        "general.base_model.0.name": "tiny-llama",
        "general.base_model.0.repo_url": "https://huggingface.co/org/tiny-llama",
        "general.license": "mit",
        "general.description": "Says what is safe.",
        "general.source.repo_url": "https://huggingface.co/org/adapters",
        "alora.base.model_type": "llama",
        "alora.base.vocabulary": "v1",
        "alora.base.weights": "w1",
        "alora.io_yaml": IO_YAML,
    }
    file.keys |= {key: Key(text, Kind.STRING) for key, text in strings.items()}
    file.keys["alora.activation_offset"] = Key(1, Kind.UINT32)
    file.keys["alora.invocation_pieces"] = Key(["\u0120I", "s", "<|x|>"], Kind.ARRAY, Kind.STRING)
    path = file.write(tmp_path / "adapter.gguf")
    facts = show(path)
    assert facts.keys() == SHARED | OF_ADAPTERS
    io_yaml = facts.pop("io_yaml")
    assert facts == {
        "path": str(path),
        "kind": "adapter",
        "format": "gguf",
        "bytes": path.stat().st_size,
        "name": "safety",
        "architecture": "llama",
        "base": {
            "name": "tiny-llama",
            "repo": "https://huggingface.co/org/tiny-llama",
            "model_type": "llama",
            "fingerprints": {"vocabulary": "v1", "weights": "w1"},
        },
        "rank": [8],
        "alpha": 16.0,
        "scales": [2.0],
        "targets": ["attn_q", "ffn_down"],
        "layers": [0, 1],
        "invocation": {"ids": list(INVOCATION), "text": " Is<|x|>"},
        "activation_offset": 1,
        "weights": 2 * 8 * ((64 + 64) + (96 + 64)),
        "types": {"F32": 2 * 8 * ((64 + 64) + (96 + 64))},
        "licence": "mit",
        "description": "Says what is safe.",
        "source": "https://huggingface.co/org/adapters",
    }
    assert io_yaml.keys() == OF_IO_YAML
    assert io_yaml["instruction"] == "Is {last_message} safe?"
    assert io_yaml["labels"] == ["yes", "no"]
    assert io_yaml["response_format"]["properties"] == {"safe": {"enum": ["yes", "no"]}}
    assert io_yaml["transformations"] == ["likelihood", "nest"]
    assert io_yaml["parameters"] == {"max_tokens": 20}
    assert io_yaml["sentence_boundaries"] == {"last_message": "s"}
    assert io_yaml["docs_as_message"] == "json"
    assert io_yaml["text"] == IO_YAML


def test_what_an_adapter_does_not_record_is_null(show: Show, tiny_model: TinyModel, tmp_path: Path) -> None:
    facts = show(adapter_file(tiny_model, invocation=None).write(tmp_path / "lora.gguf"))
    assert facts.keys() == SHARED | OF_ADAPTERS
    absent = ("base", "invocation", "io_yaml", "licence", "description", "source")
    assert [facts[key] for key in absent] == [None] * len(absent)
    assert facts["activation_offset"] == 0


def test_a_base_spells_the_invocation(show: Show, adapter_paths: list[Path], model_path: Path) -> None:
    assert show(adapter_paths[0])["invocation"] == {"ids": list(INVOCATION), "text": None}
    assert show(adapter_paths[0], "--base", model_path)["invocation"]["text"] == " \n!"


def test_a_base_without_the_invocation_is_refused(
    refusal: Callable[..., str], tiny_model: TinyModel, model_path: Path, tmp_path: Path
) -> None:
    path = adapter_file(tiny_model, invocation=(5, 104)).write(tmp_path / "adapter.gguf")
    assert "ends at token 103, so it has no 104" in refusal(path, "--base", model_path)
    assert "no vocabulary" in refusal(path, "--base", path)


@pytest.mark.parametrize("text", ["plain", "caf\u00e9 \u2014 \U0001f600", "  two\n\tlines", "\u2581 and <0x41>"])
def test_byte_level_entries_read_as_llama_cpp_writes_them(bundled: Model, text: str) -> None:
    """Characters may be cut between tokens."""
    entries = gguf.GGUFReader(BUNDLED).fields["tokenizer.ggml.tokens"].contents()
    assert token_text([entries[token] for token in bundled.tokenize(text)]) == text
    for token in bundled.control_tokens.values():
        assert token_text([entries[token]]) == bundled.detokenize([token], special=True)


def test_other_entries_read_as_they_are_meant() -> None:
    assert token_text(["\u2581Hello", "\u2581w", "<0xC3>", "<0xA9>", "\u00e9"]) == " Hello w\u00e9\u00e9"
    # A control token of a byte-level vocabulary, with SentencePiece's space in its name.
    assert token_text(["<\uff5cbegin\u2581of\uff5c>", "\u0120a"]) == "<\uff5cbegin\u2581of\uff5c> a"
    assert token_text(["\u00c3"]) == "\N{REPLACEMENT CHARACTER}"


def test_adapters_that_a_model_has_built_in(show: Show, tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "switch.gguf", "graniteswitch")
    writer.add_token_list(["a", "b", "<|safe|>", "<|sure|>", "\u0120x"])
    writer.add_token_types([gguf.TokenType.NORMAL] * 5)
    writer.add_uint32("graniteswitch.adapters.count", 2)
    writer.add_uint32("graniteswitch.adapters.lora_rank", 32)
    writer.add_array("graniteswitch.adapters.token_ids_activate", [2, 3])
    writer.add_array("graniteswitch.adapters.token_ids_substitute", [4, 4])
    writer.add_tensor("token_embd.weight", np.zeros((5, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert show(tmp_path / "switch.gguf")["built_in_adapters"] == {
        "count": 2,
        "rank": 32,
        "control_tokens": [{"id": 2, "text": "<|safe|>"}, {"id": 3, "text": "<|sure|>"}],
        "substitute_tokens": [{"id": 4, "text": " x"}, {"id": 4, "text": " x"}],
    }


def test_a_peft_folder_has_the_facts_of_its_gguf(
    show: Show, tiny_model: TinyModel, model_path: Path, tmp_path: Path
) -> None:
    from alora_cpp.convert import convert_adapter

    spec = AdapterSpec(rank=8, alpha=12, use_rslora=True, rank_pattern={"k_proj": 4})
    folder = write_adapter(tiny_model, spec, tmp_path / "certainty", base="org/tiny-llama")
    (folder / "io.yaml").write_text(IO_YAML)
    there = show(folder, "--base", model_path)
    here = show(convert_adapter(folder, tmp_path / "out.gguf", base=model_path, outtype="f32"), "--base", model_path)
    assert there.keys() == here.keys() == SHARED | OF_ADAPTERS
    assert there["base"].keys() == here["base"].keys() == OF_BASES
    assert there["base"]["name"] == here["base"]["name"] == "tiny-llama"
    for key in ("kind", "name", "rank", "layers", "invocation", "activation_offset", "weights", "types", "io_yaml"):
        assert there[key] == here[key], key
    assert there["scales"] == pytest.approx([12 / 8**0.5, 12 / 4**0.5])
    assert there["alpha"] == 12
    assert there["format"] == "peft"
    assert there["targets"] == ["self_attn.k_proj", "self_attn.q_proj", "self_attn.v_proj"]
    assert there["bytes"] == (folder / "adapter_model.safetensors").stat().st_size


def test_an_adapter_of_the_old_package_says_its_invocation_as_text(
    show: Show, tiny_model: TinyModel, tmp_path: Path
) -> None:
    folder = write_adapter(tiny_model, AdapterSpec(invocation=None), tmp_path / "old")
    edit_config(folder, invocation_string="<certainty>")
    facts = show(folder)
    assert facts["invocation"] == {"ids": [], "text": "<certainty>"}
    assert facts["activation_offset"] == 1


def test_a_model_card_says_more(show: Show, tiny_model: TinyModel, tmp_path: Path) -> None:
    folder = write_adapter(tiny_model, AdapterSpec(), tmp_path / "card")
    (folder / "README.md").write_text("---\nlicense: mit\nrepo_url: https://example.org/card\n---\n# Text\n")
    facts = show(folder)
    assert (facts["licence"], facts["source"]) == ("mit", "https://example.org/card")


def test_where_an_adapter_was_pulled_from(
    show: Show, adapter_paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alora_cpp.hub import DownloadedAdapter, remember

    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path))
    link = tmp_path / "link.gguf"
    link.symlink_to(adapter_paths[0])
    assert show(link)["source"] is None
    remember(DownloadedAdapter("safety", "alora", None, link, "org/adapters", "a1b2"))
    assert show(link)["source"] == show(adapter_paths[0])["source"] == "org/adapters@a1b2"
    assert show(adapter_paths[1])["source"] is None


def test_text_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """Held against what gguf's own reader finds in the file."""
    path = bundled_adapters()["certainty"]
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    places = [name.split(".")[1:3] for name in tensors]
    (kind,) = {tensor.tensor_type.name for tensor in tensors.values()}
    assert main(["show", str(path), "--base", str(BUNDLED)]) == 0
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines() if not line.startswith(" "))
    shown = {label.rstrip(): value.strip() for label, value in lines.items()}
    assert shown["rank"] == str(tensors["blk.0.attn_q.weight.lora_a"].shape[1])
    assert shown["targets"] == ", ".join(sorted({target for _, target in places}))
    assert shown["layers"] == f"0-{max(int(layer) for layer, _ in places)}"
    assert shown["types"] == f"{kind} 100%"
    assert shown["invocation"].endswith("'<|start_of_role|>certainty<|end_of_role|>'")
    assert shown["answers"] == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert shown["then"] == "likelihood"
    assert "io.yaml" not in shown


def test_the_io_yaml_alone(
    capsys: pytest.CaptureFixture[str], refusal: Callable[..., str], tiny_model: TinyModel, tmp_path: Path
) -> None:
    file = adapter_file(tiny_model)
    assert "no io.yaml" in refusal(file.write(tmp_path / "without.gguf"), "--io-yaml")
    assert "no io.yaml" in refusal("bundled", "--io-yaml")
    path = file.write(tmp_path / "with.gguf", alora__io_yaml=Key(IO_YAML, Kind.STRING))
    assert main(["show", str(path), "--io-yaml"]) == 0
    assert capsys.readouterr().out == IO_YAML


@pytest.mark.parametrize("keep", [0, 3, 20, 100, 0.3, 0.9, -1])
@pytest.mark.parametrize("which", ["model", "adapter"])
def test_a_file_that_is_cut_is_refused(
    refusal: Callable[..., str], model_path: Path, adapter_paths: list[Path], tmp_path: Path, which: str, keep: float
) -> None:
    """Also where the header is whole and only weights are missing."""
    content = (model_path if which == "model" else adapter_paths[0]).read_bytes()
    short = tmp_path / "short.gguf"
    short.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    assert "short.gguf" in refusal(short)


def test_damaged_files_are_refused(
    refusal: Callable[..., str], adapter_paths: list[Path], tiny_model: TinyModel, tmp_path: Path
) -> None:
    file = adapter_file(tiny_model)

    def bent(**changed: Key) -> str:
        return refusal(file.write(tmp_path / "bent.gguf", **changed))

    assert "adapter.lora.alpha" in bent(adapter__lora__alpha=Key(float("nan"), Kind.FLOAT32))
    assert "adapter.lora.alpha" in bent(adapter__lora__alpha=Key("8", Kind.STRING))
    assert "invocation_tokens" in bent(adapter__alora__invocation_tokens=Key(["5"], Kind.ARRAY, Kind.STRING))
    assert "alora.io_yaml" in bent(alora__io_yaml=Key("instruction: [", Kind.STRING))
    assert "general.alignment" in bent(general__alignment=Key("wide", Kind.STRING))
    content = adapter_paths[0].read_bytes()
    name = b"blk.0.attn_q.weight.lora_a"
    kind = content.index(name) + len(name) + 4 + 2 * 8
    for number, found in ((255, "255"), (int(gguf.GGMLQuantizationType.Q4_K), "block")):
        (tmp_path / "bent.gguf").write_bytes(content[:kind] + number.to_bytes(4, "little") + content[kind + 4 :])
        assert found in refusal(tmp_path / "bent.gguf")


def test_other_things_are_refused(refusal: Callable[..., str], model_path: Path, tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.gguf")
    assert "adapter_config.json" in refusal(tmp_path)
    (tmp_path / "text.gguf").write_text("not a model at all")
    assert "GGUF" in refusal(tmp_path / "text.gguf")


def test_a_chat_template_and_parts_of_a_model(show: Show, model_path: Path, tmp_path: Path) -> None:
    changed = {"tokenizer__chat_template": Key("{{ messages }}", Kind.STRING), "split__count": Key(3, Kind.UINT16)}
    facts = show(rewrite_gguf(model_path, tmp_path / "part.gguf", **changed))
    assert facts["chat_template"] is True
    assert facts["parts"] == 3
