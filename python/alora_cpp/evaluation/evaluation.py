"""Figures of intrinsics on labelled conversations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from alora_cpp.evaluation.answered import Answered, answered
from alora_cpp.evaluation.asking import Judged, ask
from alora_cpp.evaluation.figures import GroupFigures, group_figures
from alora_cpp.evaluation.scale import Scale, expected_label, scale_of
from alora_cpp.intrinsic import Intrinsic
from alora_cpp.labelled_data import DataError, LabelledExample
from alora_cpp.model import Model


@dataclass(frozen=True)
class Evaluation:
    """How an intrinsic did.

    Attributes:
        intrinsic: Its name.
        scale: Its labels; none where it answers with text of its own.
        judged: Every example with its verdict, in the order given.
        overall: The figures of all that were answered; None where none was.
        by_origin: The figures of each origin.
    """

    intrinsic: str
    scale: Scale
    judged: Sequence[Judged]
    overall: GroupFigures | None
    by_origin: Mapping[str, GroupFigures]

    @property
    def failed(self) -> list[Judged]:
        """The examples without a verdict; no figure counts them."""
        return [one for one in self.judged if one.verdict is None]

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        return {
            "intrinsic": self.intrinsic,
            "labels": list(self.scale.labels),
            "examples": len(self.judged),
            "failed": [{"where": one.example.where, "error": one.error} for one in self.failed],
            "truncated": sum(one.verdict is not None and one.verdict.truncated for one in self.judged),
            "overall": None if self.overall is None else asdict(self.overall),
            "by_origin": {origin: asdict(figures) for origin, figures in self.by_origin.items()},
        }


def evaluate(
    model: Model,
    examples: Mapping[str, Sequence[LabelledExample]],
    *,
    arguments: Mapping[str, Any] | None = None,
    n_ctx: int | None = None,
    n_threads: int = 0,
    progress: Callable[[float], object] | None = None,
) -> dict[str, Evaluation]:
    """Asks intrinsics about labelled conversations and says how right they were.

    Conversations that are asked about more than once are read once. An example that cannot be answered, because it is
    too long for the context for one, is among `Evaluation.failed`, and the others go on.

    Args:
        model: The model, with the intrinsics loaded.
        examples: For each intrinsic, its labelled conversations.
        arguments: What the intrinsics' instructions insert, by name.
        n_ctx: As for `Model.context`.
        n_threads: As there.
        progress: Called with the share that is done, after each conversation.

    Returns:
        An evaluation for each intrinsic.

    Raises:
        AdapterNotFoundError: One of the intrinsics is not loaded.
        DataError: A completion is none of the answers that its intrinsic can give. Nothing was asked then.
        Cancelled, BackendError: As for `Chat.check`.
    """
    intrinsics = {name: model.intrinsic(name) for name in examples}
    _check_completions(intrinsics, examples)
    with model.chat(n_ctx=n_ctx, n_threads=n_threads) as chat:
        judged = ask(chat, examples, arguments=arguments, progress=progress)
    return {name: evaluation_of(intrinsics[name], found) for name, found in judged.items()}


def evaluation_of(intrinsic: Intrinsic, judged: Sequence[Judged]) -> Evaluation:
    """The figures of examples that were asked about; their completions must be answers of the intrinsic."""
    scale = scale_of(intrinsic)
    found = answered(intrinsic, scale, judged)
    groups: dict[str, list[Answered]] = {}
    for one in sorted(found, key=lambda one: one.origin or ""):
        if one.origin is not None:
            groups.setdefault(one.origin, []).append(one)
    return Evaluation(
        intrinsic.name,
        scale,
        judged,
        group_figures(scale, found) if found else None,
        {origin: group_figures(scale, group) for origin, group in groups.items()},
    )


def _check_completions(intrinsics: Mapping[str, Intrinsic], examples: Mapping[str, Sequence[LabelledExample]]) -> None:
    problems = [
        f"{example.where}: the completion {example.completion!r:.100} is no answer of '{name}'; "
        f"expected {', '.join(map(repr, intrinsic.labels))}"[:500]
        for name, intrinsic in intrinsics.items()
        if intrinsic.labels
        for example in examples[name]
        if expected_label(intrinsic, example.completion) is None
    ]
    if problems:
        raise DataError(problems)
