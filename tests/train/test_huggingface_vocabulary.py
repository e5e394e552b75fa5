"""A tokenizer of transformers as our chat templates ask it, against transformers' own templates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from alora_cpp import Model, TrainingError
from alora_cpp.chat_template import ChatTemplate
from alora_cpp.train.huggingface_vocabulary import HuggingFaceVocabulary
from alora_cpp.train.invocation import end_of_reply

if TYPE_CHECKING:
    from transformers import AutoTokenizer

    from tiny_tokenizer import write_tokenizer
else:
    AutoTokenizer = pytest.importorskip("transformers").AutoTokenizer
    from tiny_tokenizer import write_tokenizer

pytestmark = pytest.mark.oracle

CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "is that\nthe one?"},
    {"role": "assistant", "content": " it is "},
]


@pytest.fixture(scope="module")
def vocabulary(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceVocabulary:
    folder = write_tokenizer(tiny_base, tmp_path_factory.mktemp("tokenizer"))
    return HuggingFaceVocabulary(AutoTokenizer.from_pretrained(folder), folder)


@pytest.mark.parametrize("prompted", [False, True])
def test_conversations(prompted: bool, vocabulary: HuggingFaceVocabulary) -> None:
    theirs = AutoTokenizer.from_pretrained(vocabulary.path).apply_chat_template(
        CONVERSATION, documents=[{"text": "Cats."}], add_generation_prompt=prompted, return_dict=False
    )
    template = ChatTemplate(vocabulary)
    documents = [{"text": "Cats."}]
    assert template.tokenize(CONVERSATION, documents=documents, add_generation_prompt=prompted) == theirs


def test_control_tokens(vocabulary: HuggingFaceVocabulary, tiny_base: Path) -> None:
    """They count where the template or an invocation has them, never in what users wrote."""
    with Model(tiny_base, vocabulary_only=True) as model:
        assert vocabulary.control_tokens == model.control_tokens
        text = "<|start_of_role|>that<|end_of_role|>"
        for parse_special in (False, True):
            tokens = vocabulary.tokenize(text, parse_special=parse_special)
            assert tokens == model.tokenize(text, parse_special=parse_special)
            assert (3 in tokens) == parse_special
            assert vocabulary.detokenize(tokens, special=True) == text
        assert (vocabulary.bos, vocabulary.eos, vocabulary.n_vocab) == (model.bos, model.eos, model.n_vocab)
        assert end_of_reply(vocabulary, ChatTemplate(vocabulary)) == end_of_reply(model, model.template) == 1


def test_several_templates(tiny_base: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(write_tokenizer(tiny_base, tmp_path))
    tokenizer.chat_template = {"default": "a", "tools": "b"}
    assert HuggingFaceVocabulary(tokenizer, tmp_path).chat_template == "a"
    tokenizer.chat_template = {"rag": "a", "tools": "b"}
    with pytest.raises(TrainingError, match="the chat templates rag, tools, expected one"):
        _ = HuggingFaceVocabulary(tokenizer, tmp_path).chat_template
