"""Guards at work: what they are asked about a reply goes through the batches that write it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alora_cpp.branch import Branch
from alora_cpp.chat.call import Call
from alora_cpp.chat.callees import Callees
from alora_cpp.chat.conversation import Conversation
from alora_cpp.chat.guards import Guard, GuardCheck
from alora_cpp.chat.points import Point
from alora_cpp.chat.prompt import write_prompt
from alora_cpp.chat.writing import MAX_TOKENS
from alora_cpp.context import Context
from alora_cpp.verdict import Timings

# Guards that write take several passes; of at most so many answers under way, all find branches to be weighed on.
_MOST_CALLS = 12


@dataclass(eq=False)
class _Question:
    """A point whose guards have not all answered."""

    point: Point
    calls: list[Call]
    began: float
    rows_before: int

    def advance(self) -> bool:
        # Each takes its step, whether or not another one is done.
        return sum(call.advance() for call in self.calls) == len(self.calls)

    def close(self) -> None:
        for call in self.calls:
            call.close()


class Watch:
    """The guards of one reply, and their open questions."""

    def __init__(self, guards: Sequence[Guard], trunk: Branch, context: Context, arguments: Mapping[str, Any]) -> None:
        """Begins with nothing asked.

        Args:
            guards: The guards.
            trunk: The branch on which the reply is written.
            context: Where.
            arguments: What the guards' instructions insert, by name.
        """
        self._guards = guards
        self._trunk = trunk
        self._context = context
        self._arguments = arguments
        self._questions: list[_Question] = []
        # Tokens that all guards together write at most.
        self._n_written = sum(
            0 if guard.intrinsic.is_scored else guard.intrinsic.config.parameters.max_tokens or MAX_TOKENS
            for guard in guards
        )

    def ask(self, point: Point, conversation: Conversation) -> None:
        """Queues every guard's rows.

        Args:
            point: What to ask about.
            conversation: The conversation up to there.

        Raises:
            ArgumentError: An argument is missing, or the chat template refuses the messages.
            ContextFullError: The rows do not fit; nothing is asked then.
        """
        question = _Question(point, [], time.perf_counter(), self._rows())
        try:
            for guard in self._guards:
                prompt = write_prompt(guard.intrinsic, conversation, self._arguments)
                origins = [self._trunk, *(call.base for call in question.calls)]
                question.calls.append(Call(guard.intrinsic, self._context, prompt, origins, Callees()))
        except BaseException:
            question.close()
            raise
        self._questions.append(question)

    def advance(self) -> list[GuardCheck]:
        """Takes what was decoded; gives the checks that are complete now.

        Raises:
            AnswerError, ContextFullError, Cancelled, BackendError: As for `Call.advance`.
        """
        answered = [question for question in self._questions if question.advance()]
        for question in answered:
            self._questions.remove(question)
        return [self._check(question) for question in answered]

    def _check(self, question: _Question) -> GuardCheck:
        timings = Timings(0.0, time.perf_counter() - question.began)
        evaluated = self._rows() - question.rows_before
        verdicts = {
            guard.name: call.verdict(evaluated=evaluated, timings=timings)
            for guard, call in zip(self._guards, question.calls, strict=True)
        }
        question.close()
        flagged = tuple(guard.name for guard in self._guards if guard.is_flag(verdicts[guard.name]))
        point = question.point
        return GuardCheck(point.text[point.begin : point.end], point.begin, point.end, verdicts, flagged)

    def _rows(self) -> int:
        """Rows computed so far, without the reply's own."""
        return self._context.counters.rows_decoded - (self._trunk.length - self._trunk.n_queued)

    @property
    def is_full(self) -> bool:
        """Whether another question would leave too little room for the open ones, whose guards may have to write."""
        n_questions = len(self._questions) + 1
        has_room = self._context.n_cells_free >= n_questions * self._n_written
        return self.is_waiting and not (has_room and n_questions * len(self._guards) <= _MOST_CALLS)

    @property
    def is_waiting(self) -> bool:
        """Whether a question is open."""
        return bool(self._questions)

    def close(self) -> None:
        """Drops open questions."""
        for question in self._questions:
            question.close()
        self._questions = []
