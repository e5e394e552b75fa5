"""Labels for `certainty`: how often the base model is right when it is as sure of a reply as it is of this one.

1. The base model answers questions: about the closed book, which it read about often, rarely or never; about
   documents; and real exam questions. Its answer is sampled from its own distribution.
2. Its confidence in an answer is the probability that it gives to just this value, averaged over several
   wordings of the question and of the answer, so that it is the fact that is measured and not the phrase.
3. Confidence is not correctness. Isotonic regression, on questions whose answers are known, maps the one to the
   other: among all answers of like confidence, what share is right? That share, in tenths, is the label.
"""

from __future__ import annotations

import bisect
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from transformers import GraniteForCausalLM, PreTrainedTokenizerFast

from training.certainty_questions import Question, all_questions, example_of, question_of
from training.chat_format import Conversation, conversation_ids
from training.scoring import log_probabilities, sample
from training.tasks import Example
from training.tokenizer import Encoder

_LONGEST_VALUE = 16


@dataclass(frozen=True)
class Measured:
    """A reply and what was measured of it; small enough to be kept, so that evaluation needs no measuring.

    Attributes:
        question: The key from which the whole question is made again.
        value: What the reply says.
        right: Whether that is so.
        label: The share of right answers at this confidence, in tenths.
        drawn: Whether the base model drew this answer itself, as opposed to one that was put before it.
        weight: How many measured answers of its sort and label it stands for.
    """

    question: str
    value: str
    right: bool
    label: str
    drawn: bool
    weight: float = 1.0

    def example(self, data: Path | None) -> Example:
        """The conversation with its label."""
        example = example_of(question_of(self.question, data), self.value, self.label, self.right)
        return replace(example, weight=self.weight)


class _Scorer:
    """Asks the base model."""

    def __init__(self, model: GraniteForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._encode = Encoder(tokenizer)
        self._seed = seed

    def _prompt(self, question: Question, wording: str) -> list[int]:
        conversation = Conversation(list(question.before.messages), list(question.before.documents))
        ids, _ = conversation_ids(conversation.add("user", wording), self._encode, self._encode.control)
        control = self._encode.control
        return [*ids, control.start_of_role, *self._encode("assistant"), control.end_of_role]

    def draw(self, questions: Sequence[Question]) -> list[str | None]:
        """One answer per question, as the model happens to give it; None where it is no value at all."""
        generator = random.Random(f"draw {self._seed}")
        chosen = [(generator.choice(q.wordings), generator.choice(q.stems)) for q in questions]
        prompts = [
            [*self._prompt(question, wording), *self._encode(before)]
            for question, (wording, (before, _)) in zip(questions, chosen, strict=True)
        ]
        control = self._encode.control
        tails = sample(self._model, prompts, control.end_of_text, _LONGEST_VALUE, seed=self._seed)
        values: list[str | None] = []
        for tail, (_, (_, after)) in zip(tails, chosen, strict=True):
            text = str(self._tokenizer.decode(tail))
            value = text.removesuffix(after).strip()
            values.append(value if value and text.endswith(after) and "." not in value else None)
        return values

    def confidence(self, questions: Sequence[Question], values: Sequence[str]) -> list[float]:
        """The mean probability of each value over all wordings and stems of its question."""
        texts, starts, owners = [], [], []
        for owner, (question, value) in enumerate(zip(questions, values, strict=True)):
            for wording in question.wordings:
                prompt = self._prompt(question, wording)
                for before, after in question.stems:
                    stem = self._encode(before)
                    texts.append([*prompt, *self._encode(f"{before} {value}{after}" if before else f"{value}{after}")])
                    starts.append(len(prompt) + len(stem))
                    owners.append(owner)
        scores = np.exp(log_probabilities(self._model, texts, starts))
        return [float(m) for m in np.bincount(owners, scores) / np.bincount(owners)]


def isotonic(confidences: Sequence[float], right: Sequence[bool]) -> tuple[list[float], list[float]]:
    """Pool-adjacent-violators: the rising step function from confidence to share of right answers that fits best.

    Returns:
        The lower edges of the steps, and their heights.
    """
    order = np.argsort(confidences, kind="stable")
    steps: list[list[float]] = []  # sum of right answers, count, lowest confidence
    for position in order:
        steps.append([float(right[position]), 1.0, float(confidences[position])])
        while len(steps) > 1 and steps[-2][0] / steps[-2][1] >= steps[-1][0] / steps[-1][1]:
            total, count, _ = steps.pop()
            steps[-1][0] += total
            steps[-1][1] += count
    return [s[2] for s in steps], [s[0] / s[1] for s in steps]


def calibrated(curve: tuple[list[float], list[float]], confidence: float) -> float:
    """The share of right answers at a confidence."""
    edges, heights = curve
    if not edges:  # a model so raw that it gave no answer at all
        return 0.0
    return heights[max(0, bisect.bisect_right(edges, confidence) - 1)]


def _label(share: float) -> str:
    return str(min(9, int(share * 10)))


@dataclass(frozen=True)
class _Answer:
    question: Question
    value: str
    drawn: bool
    confidence: float

    @property
    def right(self) -> bool:
        return self.value == self.question.truth


def _open_answers(scorer: _Scorer, questions: Sequence[Question], seed: int) -> list[_Answer]:
    """Drawn answers, and for some questions another one: the truth, or a value that fits only in kind."""
    generator = random.Random(f"answers {seed}")
    found: list[tuple[Question, str, bool]] = []
    open_questions = [question for question in questions if not question.choices]
    for question, value in zip(open_questions, scorer.draw(open_questions), strict=True):
        if value is not None:
            found.append((question, value, True))
        roll = generator.random()
        if roll < 0.2:
            found.append((question, generator.choice(question.others), False))
        elif roll < 0.3:
            found.append((question, question.truth, False))
    confidences = scorer.confidence([question for question, _, _ in found], [value for _, value, _ in found])
    return [_Answer(*answer, confidence) for answer, confidence in zip(found, confidences, strict=True)]


def _chosen_answers(scorer: _Scorer, questions: Sequence[Question], seed: int) -> list[_Answer]:
    """Answers drawn from the given choices. Only their relation counts: a wordy reply is not an unlikely one."""
    generator = random.Random(f"choices {seed}")
    pairs = [(question, value) for question in questions for value in question.choices]
    scores = iter(scorer.confidence([question for question, _ in pairs], [value for _, value in pairs]))
    found = []
    for question in questions:
        if question.choices:
            shares = np.array([next(scores) for _ in question.choices]) + 1e-30
            shares /= shares.sum()
            (chosen,) = generator.choices(range(len(shares)), shares.tolist())
            found.append(_Answer(question, question.choices[chosen], True, float(shares[chosen])))
    return found


def measure(
    model: GraniteForCausalLM, tokenizer: PreTrainedTokenizerFast, data: Path | None, seed: int, scale: float = 1.0
) -> tuple[list[Measured], list[Measured]]:
    """Measures the base model's correctness.

    Args:
        model: The base model.
        tokenizer: Its tokenizer.
        data: The folder of real data, if there is one.
        seed: Of the drawn answers.
        scale: How much of the usual number of questions to ask.

    Returns:
        Answers to train on, and held-out ones.
    """
    scorer = _Scorer(model, tokenizer, seed)
    questions = all_questions(data, scale)
    answers = _open_answers(scorer, questions, seed) + _chosen_answers(scorer, questions, seed)
    curves = {}
    for group in {answer.question.group for answer in answers}:
        # Planted answers count as well: the model draws hardly any of its least likely answers itself, and without
        # these the curve would not reach down to where a reply is plainly wrong.
        known = [a for a in answers if a.question.group == group and not a.question.held_out]
        curves[group] = isotonic([a.confidence for a in known], [a.right for a in known])
    measured: dict[bool, list[Measured]] = {False: [], True: []}
    for answer in answers:
        label = _label(calibrated(curves[answer.question.group], answer.confidence))
        row = Measured(answer.question.key, answer.value, answer.right, label, answer.drawn)
        measured[answer.question.held_out].append(row)
    return measured[False], measured[True]


def balanced(rows: Iterable[Measured], per_label: int, seed: int) -> list[Measured]:
    """At most `per_label` rows of every label and sort of question, in random order, weighing what they stand for."""
    generator = random.Random(f"balance {seed}")
    heaps: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    for row in rows:
        heaps[row.question.split(":")[0], row.label].append(row)
    chosen = []
    for heap in heaps.values():
        taken = generator.sample(heap, min(per_label, len(heap)))
        chosen += [replace(row, weight=round(len(heap) / len(taken), 3)) for row in taken]
    generator.shuffle(chosen)
    return chosen


def save(rows: Iterable[Measured], path: Path) -> None:
    """Writes measured answers, one JSON object a line."""
    path.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")


def load(path: Path) -> list[Measured]:
    """Reads measured answers."""
    return [Measured(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
