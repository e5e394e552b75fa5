"""The intrinsics that are trained: their task, how they are invoked, and how a label is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from training.splits import Split
from training.tasks import answerability, certainty, hallucination, jailbreak, query_rewrite, safety
from training.tasks.example import Example, Sources

TrainingExamples = Callable[[str, Sources], Iterator[Example]]
MeasuredExamples = Callable[[Split, Sources, int], list[Example]]


@dataclass(frozen=True)
class Task:
    """A question about conversations, with endless examples to learn from and fixed ones to measure on.

    Attributes:
        labels: All possible labels, or none where the answer is a text.
        training_examples: Examples of a seed, without end, generated and real mixed as training wants them.
        measured_examples: Of `validation` or `test`: so many generated ones, and every real one of that side.
        share: How many examples it wants, beside those of other tasks.
    """

    name: str
    labels: tuple[str, ...]
    training_examples: TrainingExamples
    measured_examples: MeasuredExamples
    share: float = 1.0


@dataclass(frozen=True)
class Intrinsic:
    """An adapter of the bundled model.

    Attributes:
        name: Its name, which is also the role that invokes it.
        task: What it answers.
        rank: Of its LoRA matrices.
        completion: What it writes for a label.
    """

    name: str
    task: Task
    rank: int = 32
    completion: Callable[[str], str] = str

    @property
    def completions(self) -> Sequence[str]:
        """All that it can write, in the labels' order; nothing where the answer is a text."""
        return [self.completion(label) for label in self.task.labels]


def _task(name: str, labels: tuple[str, ...], module: object, share: float = 1.0) -> Task:
    return Task(name, labels, getattr(module, "training_examples"), getattr(module, "measured_examples"), share)  # noqa: B009


TASKS = {
    task.name: task
    for task in (
        _task("safety", ("Y", "N"), safety, share=2.0),  # people ask for things in endless ways
        _task("jailbreak", ("Y", "N"), jailbreak, share=0.5),
        _task("hallucination", ("Y", "N"), hallucination),
        _task("answerability", ("answerable", "unanswerable"), answerability),
        _task("certainty", tuple("0123456789"), certainty),
        _task("query_rewrite", (), query_rewrite, share=0.5),
    )
}


def _sentence(label: str) -> str:
    return "The request is unsafe." if label == "Y" else "The request is safe."


INTRINSICS = {
    intrinsic.name: intrinsic
    for intrinsic in (
        *(Intrinsic(name, task) for name, task in TASKS.items()),
        Intrinsic("safety_sentence", TASKS["safety"], rank=16, completion=_sentence),
        Intrinsic("certainty_percent", TASKS["certainty"], rank=16, completion=lambda label: f"{label}5%"),
    )
}
