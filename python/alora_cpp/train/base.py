"""The base that an adapter is trained over: where it comes from, how it reads text, and its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alora_cpp.bundled_model import BUNDLED
from alora_cpp.chat_template import ChatTemplate
from alora_cpp.chat_template.vocabulary import Vocabulary
from alora_cpp.errors import TrainingError
from alora_cpp.model import Model
from alora_cpp.train.huggingface_vocabulary import HuggingFaceVocabulary

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Base:
    """A base.

    Attributes:
        name: What an adapter's configuration calls it.
        vocabulary: Its own: of the GGUF, where that is what is trained over.
        folder: The Hugging Face folder, where the weights come from there.
        gguf: Its GGUF, where there is one.
        n_ctx_train: Positions that it was trained for; 0 where it does not say.
    """

    name: str
    vocabulary: Vocabulary
    folder: Path | None
    gguf: Path | None
    n_ctx_train: int

    @cached_property
    def template(self) -> ChatTemplate:
        """Its chat template; where it has none, one that fits its control tokens.

        Raises:
            ArgumentError: It is no valid template.
        """
        return ChatTemplate(self.vocabulary)

    @property
    def files(self) -> Path:
        """What tells the converter of its shape: the GGUF, else the folder."""
        files = self.gguf or self.folder
        assert files is not None
        return files

    def load(self, dtype: torch.dtype) -> PreTrainedModel:
        """Loads the weights.

        Raises:
            TrainingError: They cannot be loaded.
        """
        if self.folder is None:
            from alora_cpp.train.gguf_base import load_gguf_base

            return load_gguf_base(self.files, dtype)
        from transformers import AutoModelForCausalLM

        try:
            return AutoModelForCausalLM.from_pretrained(self.folder, dtype=dtype)
        except (OSError, ValueError, RuntimeError) as error:
            raise TrainingError(f"the weights in {self.folder} cannot be loaded: {error}") from error


def open_base(source: str, *, gguf: Path | None = None) -> Base:
    """Opens a base.

    Args:
        source: `bundled`, a GGUF file, a Hugging Face folder, the name of one on the hub, or `REPO:QUANTIZATION` for a
            GGUF there.
        gguf: The GGUF that the adapter will run on, where `source` is a Hugging Face folder or name.

    Raises:
        TrainingError: There is no such base, or it cannot be trained over.
        ModelLoadError: The GGUF cannot be loaded.
        HubError: It cannot be had from the hub.
    """
    path = _gguf_path(source)
    if path is not None:
        if gguf is not None:
            raise TrainingError(f"--gguf names {gguf}, but the base {source} is a GGUF itself; leave it out")
        model = Model(path, vocabulary_only=True)
        # A vocabulary alone knows nothing of positions.
        context_length = model.metadata.get(f"{model.architecture}.context_length", "")
        return Base(model.name, model, None, path, int(context_length) if context_length.isdecimal() else 0)
    from transformers import AutoConfig, AutoTokenizer

    folder = _folder(source)
    try:
        config: Any = AutoConfig.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(f"the base in {folder} cannot be read: {error}") from error
    n_ctx_train = int(getattr(config.get_text_config(), "max_position_embeddings", 0))
    return Base(source, HuggingFaceVocabulary(tokenizer, folder), folder, gguf, n_ctx_train)


def _gguf_path(source: str) -> Path | None:
    if source == "bundled":
        return BUNDLED
    path = Path(source)
    if path.is_file():
        return path
    if path.exists():
        return None
    if source.lower().endswith(".gguf"):
        raise TrainingError(f"the base {source} does not exist; expected a GGUF, a Hugging Face folder, or a hub name")
    from alora_cpp.hub import download_model, is_reference

    return download_model(source) if ":" in source and is_reference(source) else None


def _folder(source: str) -> Path:
    """A folder as it is; of a name on the hub, the folder in its cache, downloaded if need be."""
    path = Path(source)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise TrainingError(f"{source} has no config.json; expected the Hugging Face folder of a base model")
        return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "*.txt"]
    try:
        return Path(snapshot_download(source, allow_patterns=patterns))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise TrainingError(
            f"the base {source} is no folder here and cannot be had from the hub ({reason}); expected 'bundled',"
            " a GGUF, a Hugging Face folder, or a name on the hub"
        ) from error


def expect_same_tokens(base: Base, model: Model, texts: Sequence[tuple[str, Sequence[int], Sequence[int]]]) -> None:
    """Compares how the base and the GGUF that the adapter will run on read the same prompts.

    Args:
        base: The base.
        model: The GGUF.
        texts: What is compared, for messages, and its tokens by either.

    Raises:
        TrainingError: They differ; the message shows the first difference.
    """
    for what, ours, theirs in texts:
        if list(ours) == list(theirs):
            continue
        at = next((i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
        at = min(len(ours), len(theirs)) if at is None else at
        shown = [
            f"{one.detokenize(list(tokens[at : at + 4]), special=True)!r} {list(tokens[at : at + 4])}"
            for one, tokens in ((base.vocabulary, ours), (model, theirs))
        ]
        raise TrainingError(
            f"{base.vocabulary.path} and {model.path} do not tokenize alike: {what}, token {at}: {shown[0]} and"
            f" {shown[1]}; train over the GGUF itself, or name the one that was made from this base"
        )
