"""What invokes an intrinsic that is to be trained, and from where on its adapter governs.

PEFT adapts a prompt from the last occurrence of `alora_invocation_tokens` on. Where only the last token of an
invocation is to be governed, that token alone is what PEFT is told. The GGUF has the invocation as it is written, and
says how many of its tokens come first. Nothing at all as an invocation means the last token of what the chat template
writes before a reply: a prompt ends with it, so PEFT and the engine find it there.
"""

from __future__ import annotations

from dataclasses import dataclass

from alora_cpp.chat_template import ChatTemplate
from alora_cpp.chat_template.vocabulary import Vocabulary
from alora_cpp.errors import TrainingError
from alora_cpp.io import IoConfig
from alora_cpp.train.options import TrainingOptions

_REPLIER = "assistant"


@dataclass(frozen=True)
class Question:
    """How an intrinsic is asked, before there is an adapter of it.

    Attributes:
        config: Its `io.yaml`.
        invocation: The tokens that call it, as a prompt has them.
        activation_offset: How many of them come before the first one that the adapter governs.
        is_alora: Whether its adapter governs the prompt from there on only.
        governs_all: Always False: the prompt of an ordinary LoRA, too, ends with the invocation.
    """

    config: IoConfig
    invocation: tuple[int, ...]
    activation_offset: int
    is_alora: bool
    governs_all = False

    @property
    def adapted_invocation(self) -> tuple[int, ...] | None:
        """What PEFT is to look for; None for an ordinary LoRA."""
        return self.invocation[self.activation_offset :] if self.is_alora else None


def choose_invocation(
    options: TrainingOptions, config: IoConfig, vocabulary: Vocabulary, template: ChatTemplate
) -> Question:
    """Settles what invokes an intrinsic.

    Args:
        options: What was asked for.
        config: The intrinsic's `io.yaml`.
        vocabulary: The base's.
        template: The base's chat template.

    Raises:
        TrainingError: The vocabulary lacks a token, the text makes none, or nothing is given and the template has no
            turn that a role of the intrinsic's name could begin.
    """
    offset = 0
    if options.activation == "empty" and options.kind == "lora":
        return Question(config, (), 0, is_alora=False)
    if options.activation == "empty":
        invocation = template.reply_prompt[-1:]
        if not invocation:
            raise TrainingError(
                f"the chat template of {vocabulary.path} writes nothing before a reply, so an intrinsic without an"
                " invocation has no token to govern; give it an invocation"
            )
    elif options.invocation is None:
        invocation = tuple(vocabulary.tokenize(_role_turn(options.name, vocabulary, template), parse_special=True))
    elif isinstance(options.invocation, str):
        invocation = tuple(vocabulary.tokenize(options.invocation, parse_special=True))
    else:
        invocation = tuple(options.invocation)
    if not invocation:
        raise TrainingError("the invocation is empty; for an intrinsic without one, ask for the activation 'empty'")
    if unknown := [token for token in invocation if not 0 <= token < vocabulary.n_vocab]:
        raise TrainingError(f"the invocation has the token {unknown[0]}, expected 0 to {vocabulary.n_vocab - 1}")
    if options.activation == "end":
        offset = len(invocation) - 1
    return Question(config, invocation, offset, options.kind == "alora")


def _role_turn(name: str, vocabulary: Vocabulary, template: ChatTemplate) -> str:
    """What begins a turn of a role of that name, as the template begins one of the assistant."""
    prompt = vocabulary.detokenize(template.reply_prompt, special=True)
    if prompt.count(_REPLIER) != 1:
        raise TrainingError(
            f"the chat template of {vocabulary.path} begins a reply with {prompt!r}, in which no role can be put in the"
            " assistant's place; give an invocation"
        )
    return prompt.replace(_REPLIER, name)


def end_of_reply(vocabulary: Vocabulary, template: ChatTemplate) -> int:
    """The token that ends an answer: what the template writes behind a reply, if it is a control token.

    Raises:
        TrainingError: There is none, and the vocabulary has no token to end a text with.
    """
    prompt = [{"role": "user", "content": "0"}]
    begun = [*template.tokenize(prompt, add_generation_prompt=True), *vocabulary.tokenize("0")]
    whole = template.tokenize([*prompt, {"role": _REPLIER, "content": "0"}])
    if whole[: len(begun)] == begun and whole[len(begun) : len(begun) + 1]:
        token = whole[len(begun)]
        if token in vocabulary.control_tokens.values():
            return token
    if vocabulary.eos is None:
        raise TrainingError(f"the vocabulary of {vocabulary.path} has no token that ends a text; take another base")
    return vocabulary.eos
