"""A reply that the base model writes, perhaps guarded, perhaps calling intrinsics itself."""

from __future__ import annotations

import time
from bisect import insort
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from alora_cpp.chat import asynchronous
from alora_cpp.chat.call import Call, finish_calls
from alora_cpp.chat.draft import Draft
from alora_cpp.chat.guards import GuardCheck, Rule, parse_guards
from alora_cpp.chat.points import Every, Point, Points
from alora_cpp.chat.prompt import Prompt
from alora_cpp.chat.watch import Watch
from alora_cpp.errors import ArgumentError, ClosedError, ContextFullError
from alora_cpp.generation import Generation
from alora_cpp.intrinsic import Intrinsic
from alora_cpp.io import IoConfig, rewrite_request
from alora_cpp.verdict import Timings, Verdict

if TYPE_CHECKING:
    from alora_cpp.chat.chat import Chat

Finish = Literal["stop", "length", "flag"]
OnFlag = Literal["stop", "report"] | Callable[[GuardCheck], bool | None]
Result = TypeVar("Result")


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


class Reply(Iterator[str]):
    """Pieces of a reply, as they are written. Made by `Chat.reply`.

    What was taken of it is part of the conversation at once. Where a check or another reply comes in between, it cannot
    go on.

    Attributes:
        context: Where it is written.
        finish: `stop` (it was complete, or a stop string came), `length`, `flag` (a guard stopped it); None before.
        checks: What the guards said, in the reply's order.
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
        self.context = chat.context
        self.finish: Finish | None = None
        self.checks: list[GuardCheck] = []
        self.calls: list[Verdict] = []
        self._chat = chat
        self._sampling = sampling
        self._on_flag = on_flag
        self._guards = parse_guards(guards, chat.context.model.intrinsic)
        self._points = Points(every)
        self._arguments = arguments
        # Wrong options, and a conversation without messages, are told now and not with the first piece.
        self.context.generation([], **vars(sampling))
        chat.transcript.conversation()
        self._draft = Draft(chat.context.model)
        self._length = 0
        self._has_begun = self._has_ended = False

    @property
    def text(self) -> str:
        """What was written so far."""
        return self._draft.text

    @property
    def flags(self) -> list[GuardCheck]:
        """The checks in which a guard raised a flag."""
        return [check for check in self.checks if check.flagged]

    def __next__(self) -> str:
        try:
            while not self._has_ended:
                piece = self._go_on()
                if piece:
                    return piece
        except BaseException:
            self.close()
            raise
        raise StopIteration

    def close(self) -> None:
        """Ends the reply here; what was taken stays in the conversation."""
        self._has_ended = True
        if self._has_begun:
            self._watch.close()

    def _go_on(self) -> str:
        """Takes a step.

        Returns:
            Text that became certain; may be empty.
        """
        if not self._has_begun:
            self._begin()
        elif self._trunk_length() != self._length:
            raise ClosedError(
                "the reply cannot go on: the conversation was read or closed since its last piece; take a reply to its "
                "end, or close it, before you check the chat or let it reply anew"
            )
        if self.finish is None:
            # What the guards have queued is computed with the reply's last token.
            self._wait()
        piece = "" if self.finish else self._write()
        if self.finish and not (piece and self._guards):
            self._finish_guards()
            self.close()
        self._length = self._trunk.length
        return piece

    def _trunk_length(self) -> int | None:
        """Rows of the trunk; None where it was closed. Where it was lost in a crash, this says so."""
        try:
            return self._trunk.length
        except ClosedError:
            return None

    def _begin(self) -> None:
        self._place = len(self._chat.messages)
        self._trunk = self._chat.begin_reply()
        self._watch = Watch(self._guards, self._trunk, self.context, self._arguments)
        self._generation = self._generate(self._sampling)
        self._has_begun = True
        # Invocations count from here on: what the model writes without a break.
        self._unbroken_from = 0

    def _generate(self, sampling: Sampling) -> Generation:
        return self.context.generation([self._trunk], **vars(sampling))

    def _write(self) -> str:
        """Writes the next token, and what an intrinsic answers that it calls."""
        length = self._trunk.length
        steps = self._with_room(self._generation.next)
        if not steps:
            return ""
        (step,) = steps
        self._add([step.token] if self._trunk.length > length else [], step.text)
        self.finish = step.finish
        piece = step.text
        called = self._chat.callees.called_by(self._draft.tokens[self._unbroken_from :])
        if called is not None and self.finish is None:
            piece += self._insert_answer(called)
        if self._guards:
            for point in self._points.take(self._draft):
                self._ask(point)
        return piece

    def _add(self, tokens: Sequence[int], text: str) -> None:
        self._draft.write(tokens, text)
        self._chat.write_reply(self._place, self._draft.text, self._draft.agreed_tokens)

    def _insert_answer(self, called: Intrinsic) -> str:
        """Runs an intrinsic that the model just called, and appends its answer."""
        call = self._with_room(lambda: self._call(called))
        if call is None:
            return ""
        held = self._draft.flush()
        self._add(call.answer_tokens, call.answer)
        self._unbroken_from = len(self._draft.tokens)
        n_left = self._sampling.max_tokens - len(self._draft.tokens)
        if n_left <= 0:
            self.finish = "length"
        else:
            # A new one: what it holds back or draws at random has nothing to do with what was before.
            seed = (self._sampling.seed + len(self.calls)) % 2**32
            self._generation = self._generate(replace(self._sampling, max_tokens=n_left, seed=seed))
        return held + call.answer

    def _call(self, called: Intrinsic) -> Call:
        began, rows_before = time.perf_counter(), self.context.counters.rows_decoded + self._trunk.n_queued
        conversation = self._chat.transcript.conversation(self._place)
        request = rewrite_request(IoConfig(), conversation.messages, conversation.documents, {})
        tokens = self._trunk.tokens
        prompt = Prompt(tokens, len(tokens) - len(called.invocation) + called.activation_offset, request)
        call = Call(called, self.context, prompt, [self._trunk], self._chat.callees.deeper)
        try:
            finish_calls(self.context, [call])
        finally:
            call.close()
        self._trunk.append(call.answer_tokens)
        evaluated = self.context.counters.rows_decoded - rows_before
        self.calls.append(call.verdict(evaluated=evaluated, timings=Timings(0.0, time.perf_counter() - began)))
        return call

    def _ask(self, point: Point) -> None:
        """Queues every guard's question about the reply up to a point."""

        def ask() -> None:
            before = self._chat.transcript.conversation(self._place)
            self._watch.ask(point, before.followed_by("assistant", point.text, point.tokens))

        while self._watch.is_full:
            self._wait()
        if self.context.n_cells_free < self.context.n_ctx // 8:
            self._make_room()
        self._with_room(ask)

    def _take_checks(self) -> None:
        for check in self._watch.advance():
            insort(self.checks, check, key=lambda one: one.end)
            if check.flagged and (self._on_flag(check) if callable(self._on_flag) else self._on_flag == "stop"):
                self.finish = "flag"

    def _finish_guards(self) -> None:
        """Lets all guards answer, about what is left of the reply too where it has come to its end."""
        if self._guards and self.finish in ("stop", "length"):
            for point in self._points.finish(self._draft):
                self._ask(point)
        while self._watch.is_waiting:
            self._wait()

    def _wait(self) -> None:
        self.context.decode()
        self._take_checks()

    def _with_room(self, work: Callable[[], Result]) -> Result | None:
        """Does some work; where the context is full, makes room and does it again.

        Returns:
            What the work gave; None where a flag ended the reply meanwhile.
        """
        while self.finish != "flag":
            try:
                return work()
            except ContextFullError:
                if not self._make_room():
                    raise
        return None

    def _make_room(self) -> bool:
        """Lets guards answer, whose forks share the rows that are to go; then forgets turns, if the chat is to do so.

        Returns:
            Whether anything was freed.
        """
        was_waiting, length = self._watch.is_waiting, self._trunk.length
        self._finish_guards()
        return (self._chat.forget() and self._trunk.length < length) or was_waiting


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
