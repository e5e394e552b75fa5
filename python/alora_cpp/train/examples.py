"""Labelled conversations to tokens, checked one by one before anything is trained.

A prompt is made as a check makes it (`chat.prompt`), so that what is learned from is what will be asked.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

from alora_cpp.chat.conversation import Conversation
from alora_cpp.chat.prompt import write_prompt
from alora_cpp.chat_template import ChatTemplate
from alora_cpp.chat_template.vocabulary import Vocabulary
from alora_cpp.errors import AloraError, TrainingError
from alora_cpp.intrinsic import listed_answers
from alora_cpp.labelled_data import DataError, LabelledExample
from alora_cpp.train.invocation import Question, end_of_reply


@dataclass(frozen=True)
class TokenizedExample:
    """An example as the model reads it.

    Attributes:
        prompt: Tokens up to the answer.
        answer: Tokens of the answer, and the one that ends it.
        activation: Position of the first token that the adapter governs; 0 for an ordinary LoRA.
        weight: How much it counts.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    activation: int
    weight: float

    @property
    def length(self) -> int:
        """Tokens that are read: all but the last one."""
        return len(self.prompt) + len(self.answer) - 1


def tokenize_examples(
    examples: Sequence[LabelledExample],
    question: Question,
    vocabulary: Vocabulary,
    template: ChatTemplate,
    *,
    max_length: int,
) -> list[TokenizedExample]:
    """Tokenizes and checks examples.

    Args:
        examples: The examples.
        question: How the intrinsic is asked.
        vocabulary: The base's.
        template: The base's chat template.
        max_length: Tokens that an example may have.

    Raises:
        DataError: Some cannot be learned from; the message names file, line and reason of each.
    """
    tokenizer = _Tokenizer(question, vocabulary, template, max_length)
    tokenized, problems = [], []
    for example in examples:
        try:
            tokenized.append(tokenizer.tokenize(example))
        except AloraError as error:
            problems.append(f"{example.where}: {error}")
    if problems:
        raise DataError(problems)
    return tokenized


class _Tokenizer:
    def __init__(self, question: Question, vocabulary: Vocabulary, template: ChatTemplate, max_length: int) -> None:
        self._question = question
        self._vocabulary = vocabulary
        self._template = template
        self._max_length = max_length
        self._end = end_of_reply(vocabulary, template)
        self._listed = [answer.text for answer in listed_answers(question.config)]
        self._check_instruction()

    def tokenize(self, example: LabelledExample) -> TokenizedExample:
        """Tokenizes one example.

        Raises:
            AloraError: It cannot be learned from.
        """
        self._check_completion(example.completion)
        conversation = Conversation(self._template, example.messages, example.documents)
        prompt = write_prompt(self._question, conversation, {})
        answer = (*self._vocabulary.tokenize(example.completion), self._end)
        length = len(prompt.tokens) + len(answer)
        if length > self._max_length:
            raise TrainingError(
                f"the example has {length} tokens, of which the answer has {len(answer)}; expected at most"
                f" {self._max_length}: shorten it, leave it out, or raise --max-length if the base can read more"
            )
        adapted = self._question.adapted_invocation
        if adapted is None:
            return TokenizedExample(tuple(prompt.tokens), answer, 0, example.weight)
        self._check_activation(prompt.tokens, adapted, prompt.activation)
        return TokenizedExample(tuple(prompt.tokens), answer, prompt.activation, example.weight)

    def _check_completion(self, completion: str) -> None:
        if self._listed:
            if completion not in self._listed:
                raise TrainingError(
                    f"the completion {completion!r:.80} is none of the answers that the io.yaml allows:"
                    f" {', '.join(map(repr, self._listed[:10]))}; correct it, or the io.yaml"
                )
        elif self._question.config.response_format is not None:
            try:
                json.loads(completion)
            except ValueError as error:
                raise TrainingError(
                    f"the completion {completion!r:.80} is no JSON ({error}), but the io.yaml has a response_format"
                ) from None

    def _check_activation(self, tokens: Sequence[int], adapted: Sequence[int], activation: int) -> None:
        """PEFT looks for the last occurrence in a prompt, whoever wrote it: that must be ours."""
        n = len(adapted)
        places = range(len(tokens) - n, activation - 1, -1)
        found = next(place for place in places if tuple(tokens[place : place + n]) == tuple(adapted))
        if found != activation:
            raise TrainingError(
                f"the invocation's tokens {list(adapted)} are there again at position {found}, behind the invocation"
                f" itself at {activation}: PEFT would take that for it; choose an invocation that no text can contain,"
                " such as one of control tokens"
            )

    def _check_instruction(self) -> None:
        """Text of an instruction that spells the invocation must also give its tokens."""
        instruction = self._question.config.instruction
        text = self._vocabulary.detokenize(self._question.invocation, special=True)
        if instruction is None or not text.strip() or not any(text.strip() in part for part, _ in instruction.parts):
            return
        arguments = {name: "0" for _, name in instruction.parts if name not in (None, "last_message")}
        message = [{"role": "user", "content": "0"}]
        prompt = write_prompt(self._question, Conversation(self._template, message), arguments)
        appended = prompt.activation - self._question.activation_offset + len(self._question.invocation)
        if appended == len(prompt.tokens) and self._template.reply_prompt:
            tokens = list(self._question.invocation)
            raise TrainingError(
                f"the instruction of the io.yaml has the invocation's text {text!r}, but not its tokens {tokens}: there"
                " they merge with their neighbours; take another invocation, or change what stands beside it"
            )


def split_off(
    examples: Sequence[LabelledExample], *, share: float, seed: int
) -> tuple[list[LabelledExample], list[LabelledExample]]:
    """Draws examples to measure on, about as many of every completion that is there more than once.

    Args:
        examples: All of them. Those with the same conversation stay together.
        share: How many to draw.
        seed: Of the draw.

    Returns:
        What is left to train on, and what was drawn, both in the order of the lines.

    Raises:
        TrainingError: There are too few of them.
    """
    together: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        conversation = json.dumps([example.messages, example.documents], sort_keys=True)
        together.setdefault(conversation, []).append(index)
    groups: dict[str, list[list[int]]] = {}
    for indices in together.values():
        groups.setdefault(examples[indices[0]].completion, []).append(indices)
    # Completions that differ everywhere are one group.
    pools = [group for group in groups.values() if len(group) > 1]
    pools.append([group[0] for group in groups.values() if len(group) == 1])
    draw = random.Random(seed)
    drawn: set[int] = set()
    for pool in pools:
        for indices in draw.sample(pool, round(len(pool) * share)):
            drawn.update(indices)
    if not drawn or len(drawn) == len(examples):
        raise TrainingError(
            f"a share of {share:g} of {len(examples)} examples leaves none to {'measure' if not drawn else 'train'} on;"
            " give more examples, another --validation-share, or a --validation file"
        )
    return (
        [example for index, example in enumerate(examples) if index not in drawn],
        [example for index, example in enumerate(examples) if index in drawn],
    )
