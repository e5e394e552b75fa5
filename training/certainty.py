"""Labels for `certainty`: how often the base model is right when it is as sure of a reply as it is of this one.

1. The base model answers questions: about the closed book, which it read about often, seldom or never; about documents;
   and real exam questions, where it takes one of the replies on offer. Most answers are its likeliest ones, some are
   drawn.
2. Its confidence in a reply is the probability that it gave to the tokens of the value, in that very reply.
3. Confidence is not correctness. Isotonic regression, on questions of the training side, maps the one to the other:
   among all answers of like confidence, what share is right? That share, in tenths, is the label. Each sort of question
   has a curve of its own (in the closed book, by how often the best guess is right). A temperature would be one number
   a sort; but a base model that remembers some facts and guesses at others is about right for both and wrong for what
   lies between, which takes a curve to mend.
"""

from __future__ import annotations

import logging
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from transformers import GraniteForCausalLM, PreTrainedTokenizerFast

from training.calibration import Curve, isotonic
from training.certainty_questions import Question, question_keys, question_of
from training.chat_format import conversation_ids
from training.measured_answers import Measured, fingerprint, save
from training.scoring import Written, log_probabilities, write
from training.splits import Split
from training.tasks.example import Sources
from training.tokenizer import Encoder
from training.told_values import told_value

_log = logging.getLogger(__name__)
_LONGEST_REPLY = 40
_DRAWN_SHARE = 0.2
_SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class _Answer:
    question: Question
    reply: str
    group: str
    right: bool
    confidence: float


class _Examiner:
    """Asks the base model."""

    def __init__(self, model: GraniteForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._encode = Encoder(tokenizer)
        self._seed = seed

    def answers(self, questions: Sequence[Question]) -> list[_Answer]:
        """One answer to every question."""
        free = [question for question in questions if question.claim]
        drawn = round(len(free) * _DRAWN_SHARE)
        # A question's place tells its sort, so those whose answers are drawn are picked at random.
        random.Random(f"drawn {self._seed}").shuffle(free)
        return [
            *self._written(free[:drawn], temperature=1.0),
            *self._written(free[drawn:], temperature=0.0),
            *self._chosen([question for question in questions if question.choice]),
        ]

    def _prompt(self, question: Question) -> list[int]:
        control = self._encode.control
        ids, _ = conversation_ids(question.conversation, self._encode, control)
        return [*ids, control.start_of_role, *self._encode("assistant"), control.end_of_role]

    def _written(self, questions: Sequence[Question], temperature: float) -> list[_Answer]:
        prompts = [self._prompt(question) for question in questions]
        end = self._encode.control.end_of_text
        replies = write(self._model, prompts, end, _LONGEST_REPLY, temperature, self._seed)
        return [self._read(question, reply) for question, reply in zip(questions, replies, strict=True)]

    def _read(self, question: Question, written: Written) -> _Answer:
        """Finds the value in a written reply, and the probability of its tokens."""
        assert question.claim is not None
        pieces = [str(self._tokenizer.decode([token], skip_special_tokens=True)) for token in written.ids]
        reply = "".join(pieces)
        found = told_value(reply, question.claim.attribute)
        if found is None:  # what gives no answer is not right, however likely it was
            return _Answer(question, reply, f"no answer, {question.origin}", False, math.exp(sum(written.scores)))
        score, start = 0.0, 0
        for piece, piece_score in zip(pieces, written.scores, strict=True):
            if start < found.end and start + len(piece) > found.start:
                score += piece_score
            start += len(piece)
        right = found.value.lower() == question.claim.value.lower()
        return _Answer(question, reply, question.group, right, math.exp(score))

    def _chosen(self, questions: Sequence[Question]) -> list[_Answer]:
        """The likeliest of the replies on offer. Only their relation counts: a wordy reply is not an unlikely one."""
        texts, starts = [], []
        for question in questions:
            assert question.choice is not None
            prompt = self._prompt(question)
            for reply in question.choice.replies:
                texts.append([*prompt, *self._encode(reply), self._encode.control.end_of_text])
                starts.append(len(prompt))
        scores = iter(log_probabilities(self._model, texts, starts))
        found = []
        for question in questions:
            assert question.choice is not None
            own = [next(scores) for _ in question.choice.replies]
            best = max(range(len(own)), key=own.__getitem__)
            confidence = 1.0 / sum(math.exp(score - own[best]) for score in own)
            right = best == question.choice.right
            found.append(_Answer(question, str(best), question.group, right, confidence))
        return found


def _curves(answers: Iterable[_Answer]) -> dict[str, Curve]:
    """For every group, its calibration."""
    groups: dict[str, list[_Answer]] = defaultdict(list)
    for answer in answers:
        groups[answer.group].append(answer)
    return {group: isotonic([a.confidence for a in own], [a.right for a in own]) for group, own in groups.items()}


def _label(share: float) -> str:
    return str(min(9, int(share * 10)))


def _measured(answer: _Answer, curves: dict[str, Curve]) -> Measured:
    # A group that the training side lacks is a few odd replies: those without an answer, for the most part.
    share = curves[answer.group].share(answer.confidence) if answer.group in curves else 0.0
    return Measured(
        question=answer.question.key,
        reply=answer.reply,
        right=answer.right,
        label=_label(share),
        confidence=round(answer.confidence, 4),
        fingerprint=fingerprint(answer.question.conversation),
    )


def measure(
    model: GraniteForCausalLM, tokenizer: PreTrainedTokenizerFast, sources: Sources, seed: int, scale: float = 1.0
) -> None:
    """Measures the base model's correctness and writes a file for every split to the folder `sources.measured`.

    Args:
        model: The base model.
        tokenizer: Its tokenizer.
        sources: The folder of real data, if there is one, and the folder to write to.
        seed: Of the drawn answers.
        scale: How much of the usual number of questions to ask.

    Raises:
        ValueError: If `sources` names no folder to write to.
    """
    if sources.measured is None:
        raise ValueError("no folder for measured answers: give Sources(measured=...)")
    examiner = _Examiner(model, tokenizer, seed)
    curves: dict[str, Curve] = {}
    for split in _SPLITS:
        questions = [question_of(key, sources.data) for key in question_keys(split, sources.data, scale)]
        answers = examiner.answers(questions)
        if split == "train":
            curves = _curves(answers)
        rows = [_measured(answer, curves) for answer in answers]
        random.Random(f"order {seed}").shuffle(rows)
        save(rows, sources.measured / f"{split}.jsonl")
        _log.info("certainty, %s: %s", split, _summary(answers, rows))


def _summary(answers: Sequence[_Answer], rows: Sequence[Measured]) -> str:
    """How many answers there are, how many right, and how they are spread over labels."""
    labels = Counter(row.label for row in rows)
    silent = sum(answer.group.startswith("no answer") for answer in answers)
    right = sum(row.right for row in rows) / max(1, len(rows))
    spread = " ".join(f"{label}:{labels[label]}" for label in "0123456789")
    return f"{len(rows)} answers, {right:.3f} right, {silent} gave no value; labels {spread}"
