"""A reply that the base model writes, perhaps guarded, perhaps calling intrinsics itself."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from alora_cpp import asynchronous
from alora_cpp.call import Call, Callees, finish_calls
from alora_cpp.errors import ArgumentError, ContextFullError
from alora_cpp.generation import Generation, GenerationStep
from alora_cpp.guards import Every, Guard, GuardCheck, Point, Points, Rule, parse_guards
from alora_cpp.io import IoConfig, rewrite_request
from alora_cpp.prompt import Prompt, write_prompt
from alora_cpp.verdict import Timings, Verdict

if TYPE_CHECKING:
    from alora_cpp.chat import Chat

Finish = Literal["stop", "length", "flag"]
OnFlag = Literal["stop", "report"] | Callable[[GuardCheck], bool | None]


@dataclass(frozen=True)
class Sampling:
    """How the reply's tokens are chosen; the options of `Context.generation`."""

    max_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int
    stop: Sequence[str]


@dataclass
class _Asked:
    """A point whose guards have not all answered."""

    point: Point
    guards: Sequence[Guard]
    calls: list[Call]
    began: float
    rows_before: int

    def advance(self) -> bool:
        # Each takes its step, whether or not another one is done.
        return sum(call.advance() for call in self.calls) == len(self.calls)

    def close(self) -> None:
        for call in self.calls:
            call.close()


class Reply(Iterator[str]):
    """Pieces of a reply, as they are written. Made by `Chat.reply`.

    What was taken of it is part of the conversation once it ended, failed, was closed or forgotten.

    Attributes:
        context: Where it is written.
        text: What was written so far.
        finish: `stop` (it was complete, or a stop string came), `length`, `flag` (a guard stopped it); None before.
        checks: What the guards said, in order.
        calls: Verdicts of intrinsics that the model called itself, in order.
    """

    def __init__(
        self,
        chat: Chat,
        sampling: Sampling,
        *,
        guards: Sequence[str] | Mapping[str, Rule],
        every: Every,
        on_flag: OnFlag,
        arguments: Mapping[str, Any],
    ) -> None:
        if on_flag not in ("stop", "report") and not callable(on_flag):
            raise ArgumentError(f"on_flag is {on_flag!r}, expected 'stop', 'report' or a function of a GuardCheck")
        self.text = ""
        self.finish: Finish | None = None
        self.checks: list[GuardCheck] = []
        self.calls: list[Verdict] = []
        self._chat = chat
        self.context = chat.context
        self._on_flag = on_flag
        self._guards = parse_guards(guards, chat.context.model.intrinsic)
        self._arguments = arguments
        self._points = Points(every)
        self._asked: list[_Asked] = []
        self._written: list[int] = []
        self._pieces = self._write(sampling)

    @property
    def flags(self) -> list[GuardCheck]:
        """The checks in which a guard raised a flag."""
        return [check for check in self.checks if check.flagged]

    def __next__(self) -> str:
        return next(self._pieces)

    def close(self) -> None:
        """Ends the reply here; what was taken stays in the conversation."""
        self._pieces.close()

    def _write(self, sampling: Sampling) -> Generator[str, None, None]:
        self._trunk = self._chat.begin_reply()
        try:
            generation = self.context.generation([self._trunk], **vars(sampling))
            while self.finish is None and (step := self._step(generation)):
                self.text += step.text
                if step.text:
                    yield step.text
                called = self._run_called()
                if called is not None:
                    self.text += called.answer
                    yield called.answer
                self.finish = step.finish
                for asked in [one for one in self._asked if one.advance()]:
                    self._judge(asked)
                for point in self._points.take(len(self._written), self.text):
                    self._ask(point)
            self._finish_guards()
        finally:
            for asked in self._asked:
                asked.close()
            self._chat.end_reply(self.text, self._written)

    def _step(self, generation: Generation) -> GenerationStep | None:
        """The next token. What guards have queued is computed with it."""
        length = self._trunk.length
        try:
            steps = generation.next()
        except ContextFullError:
            # Forks share the rows that are to go: they come to their ends first.
            self._finish_guards()
            if not self._chat.forget() or self._trunk.length == length:
                raise
            length = self._trunk.length
            steps = generation.next()
        if not steps:
            return None
        if self._trunk.length > length:
            self._written.append(steps[0].token)
        return steps[0]

    def _run_called(self) -> Call | None:
        """Where the model just called an intrinsic: runs it and appends its answer."""
        called = self._chat.callees.called_by(self._written)
        if called is None:
            return None
        began, rows_before = time.perf_counter(), self.context.counters.rows_decoded
        tokens = self._trunk.tokens
        activation = len(tokens) - len(called.invocation) + called.activation_offset
        conversation = self._chat.transcript.conversation()
        request = rewrite_request(IoConfig(), conversation.messages, conversation.documents, {})
        prompt = Prompt(tokens, activation, request)
        call = Call(called, self.context, prompt, [self._trunk], self._chat.callees.deeper)
        try:
            finish_calls(self.context, [call])
        finally:
            call.close()
        self._trunk.append(call.answer_tokens)
        self._written += call.answer_tokens
        evaluated = self.context.counters.rows_decoded - rows_before
        self.calls.append(call.verdict(evaluated=evaluated, timings=Timings(0.0, time.perf_counter() - began)))
        return call

    def _ask(self, point: Point) -> None:
        """Queues every guard's question about the reply up to a point."""
        if not self._guards:
            return
        began = time.perf_counter()
        before = self._chat.transcript.conversation()
        so_far = before.followed_by("assistant", point.text, self._written[: point.n_tokens])
        asked = _Asked(point, self._guards, [], began, self.context.counters.rows_decoded)
        self._asked.append(asked)
        for guard in self._guards:
            prompt = write_prompt(guard.intrinsic, so_far, self._arguments)
            origins = [self._trunk, *(call.base for call in asked.calls)]
            asked.calls.append(Call(guard.intrinsic, self.context, prompt, origins, Callees()))

    def _judge(self, asked: _Asked) -> None:
        """Takes the verdicts of guards that have answered."""
        timings = Timings(0.0, time.perf_counter() - asked.began)
        evaluated = self.context.counters.rows_decoded - asked.rows_before
        verdicts = {
            guard.name: call.verdict(evaluated=evaluated, timings=timings)
            for guard, call in zip(asked.guards, asked.calls, strict=True)
        }
        asked.close()
        self._asked.remove(asked)
        flagged = tuple(guard.name for guard in asked.guards if guard.is_flag(verdicts[guard.name]))
        point = asked.point
        check = GuardCheck(point.text[point.begin : point.end], point.begin, point.end, verdicts, flagged)
        self.checks.append(check)
        if flagged and (self._on_flag(check) if callable(self._on_flag) else self._on_flag == "stop"):
            self.finish = "flag"

    def _finish_guards(self) -> None:
        """Lets all guards answer, about what is left of the reply too once it has ended."""
        if self.finish in ("stop", "length"):
            for point in self._points.finish():
                self._ask(point)
        while self._asked:
            self.context.decode()
            for asked in [one for one in self._asked if one.advance()]:
                self._judge(asked)


class AsyncReply(AsyncIterator[str]):
    """A reply for asyncio. Made by `Chat.areply`.

    Attributes:
        reply: The reply that is written, with its text, checks, flags and calls.
    """

    def __init__(self, reply: Reply) -> None:
        self.reply = reply

    async def __anext__(self) -> str:
        piece = await asynchronous.run(self.reply.context, lambda: next(self.reply, None))
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Ends the reply here; what was taken stays in the conversation."""
        self.reply.close()
