"""A byte-level BPE tokenizer of about 4,000 tokens, trained on the model's own reading.

Digits are single tokens, so that numbers are read digit by digit. The splitting rules are those that
llama.cpp calls `refact` (Granite's own): digits first, then GPT-2's expression.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from training.chat_format import CHAT_TEMPLATE, CONTROL_TOKENS, END_OF_TEXT, ControlIds

VOCABULARY_SIZE = 4096
CONTEXT_LENGTH = 2048
GGUF_PRE_TOKENIZER = "refact"


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Trains the tokenizer. The control tokens get the first ids; no beginning-of-text token is ever added."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    wrapped = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        additional_special_tokens=list(CONTROL_TOKENS[1:]),
        model_max_length=CONTEXT_LENGTH,
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a model folder."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    return tokenizer


class Encoder:
    """Text to ids, remembering what it has seen: sentences recur in a small world."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._backend = tokenizer.backend_tokenizer
        ids = tokenizer.backend_tokenizer.get_vocab()
        self.control = ControlIds(
            start_of_role=ids[CONTROL_TOKENS[1]],
            end_of_role=ids[CONTROL_TOKENS[2]],
            end_of_text=ids[CONTROL_TOKENS[0]],
            newline=self._backend.encode("\n", add_special_tokens=False).ids[0],
        )
        self._known: dict[str, list[int]] = {}

    def __call__(self, text: str) -> list[int]:
        """The ids of plain text."""
        known = self._known.get(text)
        if known is None:
            known = self._backend.encode(text, add_special_tokens=False).ids
            if len(self._known) < 200_000 and len(text) < 200:
                self._known[text] = known
        return known

    def invocation(self, name: str) -> list[int]:
        """The ids that call an intrinsic: a turn's head with the intrinsic's name as the role."""
        return [self.control.start_of_role, *self(name), self.control.end_of_role]
