"""One intrinsic's question in flight.

A call forks a branch, queues the intrinsic's prompt, and then takes a step after each decode, whoever asked for that
decode: so the rows of several calls, and of a reply that is being written, go through the model together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alora_cpp.branch import Branch
from alora_cpp.chat.callees import Callees
from alora_cpp.chat.conversation import common_prefix
from alora_cpp.chat.forking import fork_at
from alora_cpp.chat.prompt import Prompt
from alora_cpp.chat.weighing import Likelihood, Weighing, by_alternatives, closed_alternatives
from alora_cpp.chat.writing import Writing
from alora_cpp.context import Context
from alora_cpp.intrinsic import Intrinsic, short_name
from alora_cpp.io import Literal, Scalar, approximate_likelihood, likelihood_literals, process_answer
from alora_cpp.scoring import LabelScores, Scoring
from alora_cpp.verdict import Timings, Verdict


@dataclass(frozen=True)
class _Outcome:
    """What an answer comes to: the fields of a verdict, but for its costs."""

    text: str
    tokens: list[int]
    result: Any
    label: str | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    value: float | None = None
    off_label: float | None = None
    truncated: bool = False


class Call:
    """An intrinsic that was asked and has not answered yet, or has.

    Attributes:
        intrinsic: Who was asked.
        base: The branch it forked from, at the position from which its adapter governs.
        tokens_reused: Rows of its prompt that were computed before.
    """

    def __init__(
        self,
        intrinsic: Intrinsic,
        context: Context,
        prompt: Prompt,
        origins: Sequence[Branch],
        callees: Callees,
    ) -> None:
        """Forks the branch that shares most of the prompt, and queues the rest.

        Args:
            intrinsic: Whom to ask.
            context: Where.
            prompt: What.
            origins: Branches of the base model alone: the one to ask about, then those of calls asked with this one.
            callees: Whom it may call in turn.

        Raises:
            ContextFullError: The prompt does not fit.
        """
        self.intrinsic = intrinsic
        self._context = context
        self._prompt = prompt
        self._request = prompt.request
        self._callees = callees
        self._scoring: Scoring | None = None
        self._writing: Writing | None = None
        self._weighing: Weighing | None = None
        self._child: Call | None = None
        # Invocations count from here on: what is written without a break.
        self._unbroken_from = 0
        self._outcome: _Outcome | None = None
        self._owned: list[Branch] = []
        try:
            self.base, self.tokens_reused = self._fork_base(prompt, origins)
            self._branch = self._own(fork_at(context, self.base, prompt.activation))
            self._branch.activate(intrinsic.adapter)
            self._branch.append(intrinsic.adapter.governed_rows(prompt.tokens[prompt.activation :]))
            self._begin = self._branch.length
            if intrinsic.is_scored:
                texts = tuple(one.text for one in intrinsic.closed)
                self._scoring = context.queue_scores([(self._branch, texts)])
            else:
                self._writing = Writing(context, self._branch, intrinsic)
        except BaseException:
            self.close()
            raise

    def _fork_base(self, prompt: Prompt, origins: Sequence[Branch]) -> tuple[Branch, int]:
        plain = prompt.tokens[: prompt.activation]
        shared = [common_prefix(origin.tokens, plain) for origin in origins]
        best = max(range(len(origins)), key=shared.__getitem__)
        origin, n_shared = origins[best], shared[best]
        # What other calls have queued is computed together with this one.
        n_computed = min(shared[0], origins[0].length - origins[0].n_queued)
        if n_shared == len(plain):
            return origin, n_computed
        base = self._own(fork_at(self._context, origin, n_shared, others=origins))
        base.append(plain[n_shared:])
        return base, n_computed

    def _own(self, branch: Branch) -> Branch:
        self._owned.append(branch)
        return branch

    def advance(self) -> bool:
        """Takes a step; all queued rows must be computed.

        Returns:
            Whether the answer is there; if not, decode and advance again.

        Raises:
            AnswerError: The answer cannot be read as the `io.yaml` says.
            ContextFullError: No free cells are left.
            Cancelled, BackendError: As for `Context.decode`.
        """
        if self._outcome is None:
            if self._scoring is not None:
                (scores,) = self._scoring.read()
                self._outcome = self._from_scores(scores)
            elif self._weighing is not None:
                self._outcome = self._from_text(self._weighing.read())
            else:
                self._write()
        return self._outcome is not None

    def _write(self) -> None:
        writing = self._writing
        assert writing is not None
        if self._child is not None:
            if not self._child.advance():
                return
            writing.insert(self._child.answer_tokens, self._child.answer)
            self._unbroken_from = len(writing.tokens)
            self._child.close()
            self._child = None
            return
        writing.advance()
        if not writing.is_done:
            self._call_another(writing)
            return
        literals = likelihood_literals(self.intrinsic.config, writing.text, self._request)
        if literals and self.intrinsic.compat is None:
            constraint = self.intrinsic.constraint
            self._weighing = Weighing(
                self._context, self._branch, self._begin, writing.text, literals, constraint, self.base
            )
        else:
            self._outcome = self._from_text({})

    def _call_another(self, writing: Writing) -> None:
        """Runs an intrinsic whose invocation was just written; it reads what came before as the base model does."""
        unbroken = writing.tokens[self._unbroken_from :]
        called = self._callees.called_by(unbroken) if self.intrinsic.constraint is None else None
        if called is not None:
            tokens = [*self._prompt.tokens, *self._branch.tokens[len(self._prompt.tokens) :]]
            activation = len(tokens) - len(called.invocation) + called.activation_offset
            prompt = Prompt(tokens, activation, self._request)
            self._child = Call(called, self._context, prompt, [self.base], self._callees.deeper)

    def _from_scores(self, scores: LabelScores) -> _Outcome:
        intrinsic = self.intrinsic
        best = int(scores.probabilities.argmax())
        text = intrinsic.closed[best].text
        probabilities = [float(probability) for probability in scores.probabilities]
        values: list[float] = []

        def likelihood(literal: Literal, categories: Mapping[Scalar, float]) -> float:
            alternatives = closed_alternatives(intrinsic.closed, probabilities, text, literal, categories)
            values.append(by_alternatives({literal: alternatives})(literal, categories))
            return values[-1]

        result = process_answer(intrinsic.config, text, self._request, likelihood)
        return _Outcome(
            text=text,
            tokens=self._context.model.tokenize(text),
            result=result,
            label=intrinsic.labels[best],
            probabilities=dict(zip(intrinsic.labels, probabilities, strict=True)),
            value=values[0] if len(values) == 1 else None,
            off_label=scores.off_label,
        )

    def _from_text(self, alternatives: Mapping[Literal, Mapping[Scalar, float]]) -> _Outcome:
        writing, model = self._writing, self._context.model
        assert writing is not None
        values: dict[Literal, float] = {}
        exact = by_alternatives(alternatives)
        weigh: Likelihood = exact if self.intrinsic.compat is None else self._approximate

        def likelihood(literal: Literal, categories: Mapping[Scalar, float]) -> float:
            values[literal] = weigh(literal, categories)
            return values[literal]

        result = process_answer(self.intrinsic.config, writing.text, self._request, likelihood)
        only = next(iter(values)) if len(values) == 1 else None
        probabilities = {short_name(one): p for one, p in alternatives.get(only, {}).items()} if only else {}
        label = max(probabilities, key=probabilities.__getitem__, default=self.intrinsic.label_of(writing.text))
        return _Outcome(
            text=writing.text,
            # Where a stop string cut the text short, the tokens say more than the text does.
            tokens=writing.tokens if model.detokenize(writing.tokens) == writing.text else model.tokenize(writing.text),
            result=result,
            label=short_name(only.value) if label is None and only else label,
            probabilities=probabilities,
            value=None if only is None else values[only],
            truncated=writing.is_truncated,
        )

    def _approximate(self, literal: Literal, categories: Mapping[Scalar, float]) -> float:
        assert self._writing is not None
        return approximate_likelihood(literal, categories, self._writing.recorded)

    @property
    def answer(self) -> str:
        """The answer's text."""
        assert self._outcome is not None
        return self._outcome.text

    @property
    def answer_tokens(self) -> list[int]:
        """The answer's tokens."""
        assert self._outcome is not None
        return self._outcome.tokens

    def verdict(self, *, evaluated: int, timings: Timings) -> Verdict:
        """What the intrinsic answered."""
        outcome = self._outcome
        assert outcome is not None
        return Verdict(
            intrinsic=self.intrinsic.name,
            label=outcome.label,
            probability=None if outcome.label is None else outcome.probabilities.get(outcome.label),
            probabilities=outcome.probabilities,
            value=outcome.value,
            text=outcome.text,
            result=outcome.result,
            off_label=outcome.off_label,
            truncated=outcome.truncated,
            tokens_reused=self.tokens_reused,
            tokens_evaluated=evaluated,
            timings=timings,
        )

    def close(self) -> None:
        """Gives its branches back."""
        for one in (self._child, self._weighing):
            if one is not None:
                one.close()
        # An error that is kept keeps this call, which must not keep the rows of its labels.
        self._child = self._weighing = self._scoring = self._writing = None
        for branch in reversed(self._owned):
            branch.close()


def finish_calls(context: Context, calls: Sequence[Call]) -> None:
    """Decodes until all calls have their answers.

    Raises:
        AnswerError, ContextFullError, Cancelled, BackendError: As for `Call.advance`.
    """
    waiting = list(calls)
    while waiting:
        context.decode()
        waiting = [call for call in waiting if not call.advance()]
