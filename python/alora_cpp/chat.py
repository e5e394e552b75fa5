"""A conversation with a model: one trunk, on which intrinsics are asked at any point."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, overload

from alora_cpp.branch import Branch
from alora_cpp.context import Context
from alora_cpp.errors import ArgumentError
from alora_cpp.intrinsic import Intrinsic
from alora_cpp.verdict import Timings, Verdict


class Chat:
    """A conversation. Made by `Model.chat`; owns a context and the trunk in it."""

    def __init__(
        self,
        context: Context,
        messages: Sequence[Mapping[str, Any]] = (),
        *,
        documents: Sequence[Mapping[str, str] | str] = (),
    ) -> None:
        self.context = context
        self.documents = [_document(one) for one in documents]
        self.messages: list[dict[str, Any]] = []
        self._generated: dict[int, list[int]] = {}
        self._template = context.model.template
        self._trunk = context.branch()
        for message in messages:
            if not isinstance(message, Mapping) or "role" not in message or "content" not in message:
                raise ArgumentError(f"a message is {message!r}, expected a mapping with 'role' and 'content'")
            self.add(message["role"], message["content"])

    def add(self, role: str, content: str) -> None:
        """Adds a message. Nothing is computed until a check or a reply needs it.

        Raises:
            ArgumentError: Role or content is no text.
        """
        if not isinstance(role, str) or not isinstance(content, str):
            raise ArgumentError(
                f"a message has role {type(role).__name__} and content {type(content).__name__}, expected text for both"
            )
        self.messages.append({"role": role, "content": content})

    @overload
    def check(self, name: str, /) -> Verdict: ...
    @overload
    def check(self, first: str, second: str, /, *others: str) -> dict[str, Verdict]: ...

    def check(self, *names: str) -> Verdict | dict[str, Verdict]:
        """Asks intrinsics about the conversation as it stands, all in one fused pass, and leaves no trace of it.

        Args:
            *names: Intrinsics loaded by the model.

        Returns:
            The verdict, or where several were asked the verdicts by name.

        Raises:
            ArgumentError: No intrinsic was named, or there are no messages.
            AdapterNotFoundError: One of the intrinsics is not loaded.
            ContextFullError: The conversation and the invocations do not fit.
            Cancelled: `cancel` was called.
        """
        if not names:
            raise ArgumentError("no intrinsic was named; expected at least one")
        intrinsics = [self.context.model.intrinsic(name) for name in dict.fromkeys(names)]
        began = time.perf_counter()
        self._sync()
        reused = self._trunk.length - self._trunk.n_queued
        rows_before = self.context.counters.rows_decoded
        forks: list[Branch] = []
        try:
            forks.extend(intrinsic.invoke(self._trunk) for intrinsic in intrinsics)
            prepared = time.perf_counter()
            answers = self._ask(intrinsics, forks)
            timings = Timings(prepared - began, time.perf_counter() - prepared)
        finally:
            for fork in forks:
                fork.close()
        evaluated = self.context.counters.rows_decoded - rows_before
        verdicts = {
            intrinsic.name: (
                intrinsic.read_text(answer, reused=reused, evaluated=evaluated, timings=timings)
                if isinstance(answer, str)
                else intrinsic.read_labels(answer, reused=reused, evaluated=evaluated, timings=timings)
            )
            for intrinsic, answer in zip(intrinsics, answers, strict=True)
        }
        return verdicts if len(names) > 1 else next(iter(verdicts.values()))

    def _ask(self, intrinsics: Sequence[Intrinsic], forks: Sequence[Branch]) -> list[Any]:
        answers: list[Any] = [""] * len(intrinsics)
        labelled = [i for i, intrinsic in enumerate(intrinsics) if intrinsic.answer.labels]
        if labelled:
            scores = self.context.score([(forks[i], intrinsics[i].answer.labels) for i in labelled])
            for i, one in zip(labelled, scores, strict=True):
                answers[i] = one
        for limit in sorted({intrinsic.answer.max_tokens for intrinsic in intrinsics if not intrinsic.answer.labels}):
            free = [i for i, one in enumerate(intrinsics) if not one.answer.labels and one.answer.max_tokens == limit]
            for step in self.context.generate([forks[i] for i in free], max_tokens=limit):
                answers[free[step.index]] += step.text
        return answers

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
    ) -> Iterator[str]:
        """Lets the base model answer; the reply becomes part of the conversation, as far as it was taken.

        Args:
            max_tokens: Longest reply.
            temperature: 0 is greedy.
            top_k: As for `Context.generate`.
            top_p: As for `Context.generate`.
            min_p: As for `Context.generate`.
            seed: Seed of the sampling.
            stop: The reply ends before the first of these.

        Yields:
            Pieces of the reply.

        Raises:
            ArgumentError: An option is outside its range, or there are no messages.
            ContextFullError: The reply does not fit; what was written stays.
            Cancelled: `cancel` was called.
        """
        self._sync(add_generation_prompt=True)
        begin = self._trunk.length
        pieces: list[str] = []
        steps = self.context.generate(
            [self._trunk],
            max_tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            seed=seed,
            stop=stop,
        )
        try:
            for step in steps:
                if step.text:
                    pieces.append(step.text)
                    yield step.text
        finally:
            if pieces and not self.context.closed:
                # Where a stop string cut the text short, the tokens say more than the reply does.
                text, tokens = "".join(pieces), self._trunk.tokens[begin:]
                if self.context.model.detokenize(tokens) == text:
                    self._generated[len(self.messages)] = tokens
                self.add("assistant", text)

    def cancel(self) -> None:
        """Makes the running check or reply raise Cancelled. Safe from any thread."""
        self.context.cancel()

    @property
    def trunk(self) -> Branch:
        """The conversation's own branch, with all messages queued or computed."""
        self._sync()
        return self._trunk

    def _sync(self, *, add_generation_prompt: bool = False) -> None:
        """Makes the trunk hold the conversation, keeping the longest prefix it already has."""
        if not self.messages:
            raise ArgumentError("the conversation has no messages; add one first")
        wanted = self._template.tokenize(
            self.messages,
            documents=self.documents,
            add_generation_prompt=add_generation_prompt,
            generated=self._generated,
        )
        held = self._trunk.tokens
        shared = next(
            (i for i, (a, b) in enumerate(zip(held, wanted, strict=False)) if a != b), min(len(held), len(wanted))
        )
        if shared < len(held):
            shorter = self._trunk.fork(shared)
            self._trunk.close()
            self._trunk = shorter
        self._trunk.append(wanted[shared:])

    def close(self) -> None:
        """Frees the conversation's context."""
        self.context.close()

    def __enter__(self) -> Chat:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _document(document: Mapping[str, str] | str) -> dict[str, str]:
    if isinstance(document, str):
        return {"text": document}
    if isinstance(document, Mapping) and isinstance(document.get("text"), str):
        return dict(document)
    raise ArgumentError(f"a document is {document!r}, expected text or a mapping with 'text' and perhaps 'title'")
