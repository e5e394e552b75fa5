"""A conversation with a model: one trunk, on which intrinsics are asked at any point."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, Literal, overload

from alora_cpp.branch import Branch
from alora_cpp.chat import asynchronous, chat_file
from alora_cpp.chat.call import Call, finish_calls
from alora_cpp.chat.callees import parse_callees
from alora_cpp.chat.guards import Rule
from alora_cpp.chat.points import Every
from alora_cpp.chat.prompt import write_prompt
from alora_cpp.chat.reply import AsyncReply, OnFlag, Reply, Sampling
from alora_cpp.chat.transcript import Transcript, as_document
from alora_cpp.chat.trunk import Trunk
from alora_cpp.context import Context
from alora_cpp.errors import ArgumentError, ContextFullError
from alora_cpp.intrinsic import Intrinsic
from alora_cpp.verdict import Timings, Verdict

OnFull = Literal["error", "shift"]


class Chat:
    """A conversation. Made by `Model.chat`; owns a context and the trunk in it.

    Attributes:
        context: Where it lives.
        transcript: What was said. Its messages and documents may be changed; what follows a change is read again.
        callees: Intrinsics that the model may call itself.
    """

    def __init__(
        self,
        context: Context,
        messages: Sequence[Mapping[str, Any]] = (),
        *,
        documents: Sequence[Mapping[str, Any] | str] = (),
        tools: Sequence[Mapping[str, Any]] = (),
        template_options: Mapping[str, Any] | None = None,
        on_full: OnFull = "error",
        may_call: Sequence[str] = (),
        call_depth: int = 1,
    ) -> None:
        if on_full not in ("error", "shift"):
            raise ArgumentError(f"on_full is {on_full!r}, expected 'error' or 'shift'")
        self.context = context
        self.transcript = Transcript(
            context.model,
            documents=[as_document(one) for one in documents],
            tools=list(tools),
            template_options=dict(template_options or {}),
        )
        for message in messages:
            self.transcript.add(message)
        self.callees = parse_callees(context.model, may_call, call_depth)
        self._trunk = Trunk(context, self.transcript, shifts=on_full == "shift")

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What was said: mappings with `role` and `content`."""
        return self.transcript.messages

    @property
    def documents(self) -> list[dict[str, Any]]:
        """What the conversation is grounded in: mappings with `text`."""
        return self.transcript.documents

    def add(self, role: str, content: str) -> None:
        """Adds a message. Nothing is computed until a check or a reply needs it.

        Raises:
            ArgumentError: Role or content is no text.
        """
        self.transcript.add({"role": role, "content": content})

    @overload
    def check(
        self,
        name: str,
        /,
        *,
        at: int | None = None,
        keep: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> Verdict: ...
    @overload
    def check(
        self,
        first: str,
        second: str,
        /,
        *others: str,
        at: int | None = None,
        keep: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> dict[str, Verdict]: ...

    def check(
        self,
        *names: str,
        at: int | None = None,
        keep: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> Verdict | dict[str, Verdict]:
        """Asks intrinsics about the conversation, all in one fused pass, and leaves no trace of it.

        Args:
            *names: Intrinsics loaded by the model.
            at: Ask about the first messages only, as `messages[:at]`; all of them if not given. Nothing is read again.
            keep: Whether the answers become part of the conversation, each an assistant's message.
            arguments: What the intrinsics' instructions insert, by name.

        Returns:
            The verdict, or where several were asked the verdicts by name.

        Raises:
            ArgumentError: No intrinsic was named, there are no messages, or an argument is missing.
            AdapterNotFoundError: One of the intrinsics is not loaded.
            AnswerError: An answer cannot be read as the intrinsic's `io.yaml` says.
            ContextFullError: The conversation and the prompts do not fit.
            Cancelled: `cancel` was called.
        """
        if not names:
            raise ArgumentError("no intrinsic was named; expected at least one")
        asked = {name: self.context.model.intrinsic(name) for name in names}
        answered = None
        while answered is None:
            try:
                answered = self._ask(asked, at, arguments or {})
            except ContextFullError:
                if not self.forget():
                    raise
        verdicts, calls = answered
        if keep:
            for call in calls:
                self.transcript.add_generated(call.answer, call.answer_tokens)
        return verdicts if len(names) > 1 else next(iter(verdicts.values()))

    def _ask(
        self, asked: Mapping[str, Intrinsic], at: int | None, arguments: Mapping[str, Any]
    ) -> tuple[dict[str, Verdict], list[Call]]:
        began = time.perf_counter()
        trunk = self.trunk
        conversation = self.transcript.conversation(at)
        prompts = [write_prompt(intrinsic, conversation, arguments) for intrinsic in asked.values()]
        rows_before = self.context.counters.rows_decoded
        calls: list[Call] = []
        try:
            for intrinsic, prompt in zip(asked.values(), prompts, strict=True):
                origins = [trunk, *(call.base for call in calls)]
                calls.append(Call(intrinsic, self.context, prompt, origins, self.callees))
            prepared = time.perf_counter()
            finish_calls(self.context, calls)
            timings = Timings(prepared - began, time.perf_counter() - prepared)
        finally:
            for call in reversed(calls):
                call.close()
        evaluated = self.context.counters.rows_decoded - rows_before
        verdicts = [call.verdict(evaluated=evaluated, timings=timings) for call in calls]
        return dict(zip(asked, verdicts, strict=True)), calls

    def reply(
        self,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        seed: int = 0,
        stop: Sequence[str] = (),
        guards: Sequence[str] | Mapping[str, Rule] = (),
        every: Every = "sentence",
        on_flag: OnFlag = "stop",
        arguments: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Lets the base model answer; the reply becomes part of the conversation, as far as it was taken.

        Args:
            max_tokens: Longest reply.
            temperature: 0 is greedy.
            top_k: As for `Context.generate`.
            top_p: As for `Context.generate`.
            min_p: As for `Context.generate`.
            seed: Seed of the sampling.
            stop: The reply ends before the first of these.
            guards: Intrinsics that judge the reply while it is written, in the batches that write it: names, or a
                mapping from names to what raises a flag: a label, several labels, or a function of the verdict. Without
                that it is the label that says yes.
            every: When the guards are asked: at the end of each `sentence`, or every so many tokens.
            on_flag: What a flag does: `stop` ends the reply, with what was written by then; `report` leaves it in
                `Reply.flags`; a function is called with the `GuardCheck` and returns whether to stop.
            arguments: What the guards' instructions insert, by name.

        Returns:
            The reply; taking pieces from it writes it.

        Raises:
            ArgumentError: An option is outside its range, or there are no messages.
            AdapterNotFoundError: A guard is not loaded.
            AnswerError: A guard's answer cannot be read; what was written stays.
            ContextFullError: The reply does not fit; what was written stays.
            Cancelled: `cancel` was called.
        """
        sampling = Sampling(max_tokens, temperature, top_k, top_p, min_p, seed, stop)
        return Reply(self, sampling, guards=guards, every=every, on_flag=on_flag, arguments=arguments or {})

    def cancel(self) -> None:
        """Makes the running check or reply raise Cancelled. Safe from any thread."""
        self.context.cancel()

    @overload
    async def acheck(
        self,
        name: str,
        /,
        *,
        at: int | None = None,
        keep: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> Verdict: ...
    @overload
    async def acheck(
        self,
        first: str,
        second: str,
        /,
        *others: str,
        at: int | None = None,
        keep: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> dict[str, Verdict]: ...

    async def acheck(
        self,
        *names: str,
        at: int | None = None,
        keep: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> Verdict | dict[str, Verdict]:
        """`check` for asyncio: it runs on a thread, and cancelling the task cancels it.

        Args:
            *names: As for `check`, like all the others.
            at: See there.
            keep: See there.
            arguments: See there.
        """
        return await asynchronous.run(self.context, lambda: self.check(*names, at=at, keep=keep, arguments=arguments))

    def areply(
        self,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        seed: int = 0,
        stop: Sequence[str] = (),
        guards: Sequence[str] | Mapping[str, Rule] = (),
        every: Every = "sentence",
        on_flag: OnFlag = "stop",
        arguments: Mapping[str, Any] | None = None,
    ) -> AsyncReply:
        """`reply` for asyncio, to be taken with `async for`; cancelling the task cancels it.

        Args:
            max_tokens: As for `reply`, like all the others.
            temperature: See there.
            top_k: See there.
            top_p: See there.
            min_p: See there.
            seed: See there.
            stop: See there.
            guards: See there.
            every: See there.
            on_flag: See there.
            arguments: See there.
        """
        return AsyncReply(
            self.reply(
                max_tokens=max_tokens,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                min_p=min_p,
                seed=seed,
                stop=stop,
                guards=guards,
                every=every,
                on_flag=on_flag,
                arguments=arguments,
            )
        )

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the conversation and its KV cache to a file, for `Model.load_chat`.

        What is not computed yet is computed first.

        Raises:
            ArgumentError: There are no messages, or what they hold cannot be written as JSON.
            OSError: The file cannot be written.
            Cancelled, ContextFullError: As for `check`.
        """
        trunk = self.trunk
        self.context.decode()
        chat_file.write(path, self.transcript, self.context, trunk.save())

    def restore(self, saved: bytes) -> None:
        """Takes over a trunk as `Branch.save` wrote it; what does not fit the conversation is read again.

        Raises:
            ArgumentError: It is none, or from another model.
            ContextFullError: It does not fit beside what is held now.
        """
        self._trunk.take(self.context.restore(saved))

    @property
    def trunk(self) -> Branch:
        """The conversation's own branch, with all messages queued or computed."""
        return self._trunk.hold()

    def forget(self) -> bool:
        """Forgets the oldest turns, where `on_full` is `shift`.

        Returns:
            Whether anything was forgotten.
        """
        return self._trunk.forget()

    def begin_reply(self) -> Branch:
        """The trunk, ready for the assistant to write on."""
        return self._trunk.hold(add_generation_prompt=True)

    def write_reply(self, place: int, text: str, tokens: Sequence[int]) -> None:
        """Takes what was written on the trunk into the conversation, as the message at a place."""
        if text:
            self.transcript.write_generated(place, text, tokens)

    def close(self) -> None:
        """Frees the conversation's context."""
        self.context.close()

    def __enter__(self) -> Chat:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
