"""An intrinsic: an adapter plus how to ask it and how to read its answer."""

from __future__ import annotations

from alora_cpp.adapter import Adapter
from alora_cpp.answer_format import AnswerFormat, parse_answer_format
from alora_cpp.branch import Branch
from alora_cpp.errors import AdapterError
from alora_cpp.scoring import LabelScores
from alora_cpp.verdict import Timings, Verdict


class Intrinsic:
    """An adapter that judges a conversation. Made by `Model.load_intrinsic`."""

    def __init__(self, adapter: Adapter, *, name: str | None = None) -> None:
        """Wraps an adapter.

        Args:
            adapter: The adapter; its `io_yaml` says how to read its answer.
            name: What to call it; the adapter's own name if not given.

        Raises:
            AdapterError: The adapter has no invocation, or its `io.yaml` cannot be understood.
        """
        if not adapter.invocation_tokens:
            raise AdapterError(
                f"adapter '{adapter.name}' has no invocation tokens: it is an ordinary LoRA, which no check can call; "
                "load it with load_adapter and activate it on a branch"
            )
        self.adapter = adapter
        self.name = name or adapter.name
        self.answer: AnswerFormat = parse_answer_format(adapter.io_yaml, adapter.name)

    def invoke(self, trunk: Branch) -> Branch:
        """Forks the trunk at its end and queues the invocation, governed from where the adapter was trained to be."""
        fork = trunk.fork()
        tokens, offset = self.adapter.invocation_tokens, self.adapter.activation_offset
        fork.append(tokens[:offset])
        fork.activate(self.adapter)
        fork.append(tokens[offset:])
        return fork

    def read_labels(self, scores: LabelScores, *, reused: int, evaluated: int, timings: Timings) -> Verdict:
        """The verdict from exact label probabilities."""
        probabilities = {str(label): float(p) for label, p in zip(scores.labels, scores.probabilities, strict=True)}
        label = str(scores.best)
        values = self.answer.values
        value = sum(p * values[key] for key, p in probabilities.items() if key in values) if values else None
        return Verdict(
            intrinsic=self.name,
            label=label,
            probability=probabilities[label],
            probabilities=probabilities,
            value=value,
            text=label,
            off_label=scores.off_label,
            tokens_reused=reused,
            tokens_evaluated=evaluated,
            timings=timings,
        )

    def read_text(self, text: str, *, reused: int, evaluated: int, timings: Timings) -> Verdict:
        """The verdict from a free answer."""
        return Verdict(
            intrinsic=self.name,
            label=None,
            probability=None,
            text=text,
            tokens_reused=reused,
            tokens_evaluated=evaluated,
            timings=timings,
        )

    def __repr__(self) -> str:
        return f"Intrinsic({self.name!r})"
