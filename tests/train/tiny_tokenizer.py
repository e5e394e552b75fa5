"""The tiny models' vocabulary as a tokenizer of transformers."""

from __future__ import annotations

from pathlib import Path

import gguf
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


def write_tokenizer(model: Path, folder: Path, **changed: str) -> Path:
    """Writes the vocabulary and the chat template of a tiny GGUF into a Hugging Face folder.

    Args:
        model: The GGUF.
        folder: The folder.
        changed: Other texts for some tokens, by the token's number behind a `t`.
    """
    fields = gguf.GGUFReader(model).fields
    texts = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    for number, text in changed.items():
        texts[int(number[1:])] = text
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE(vocab={text: i for i, text in enumerate(texts)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    control = [text for text, kind in zip(texts, types, strict=True) if kind == gguf.TokenType.CONTROL]
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in control])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=control[0], eos_token=control[1], pad_token=control[2]
    )
    wrapped.chat_template = fields["tokenizer.chat_template"].contents()
    wrapped.save_pretrained(folder)
    return folder
