"""The asyncio twins: the same results, cancelled with their tasks, and the event loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from alora_cpp import AnswerError, ArgumentError, Chat, Model, Verdict
from tiny import INVOCATION
from tiny_chats import ANSWERING, DOCUMENTS, assert_no_trace, open_chat

MESSAGES = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Is the cat here?"}]


@pytest.fixture
def chat(chat_model: Model) -> Iterator[Chat]:
    with open_chat(chat_model, MESSAGES, documents=DOCUMENTS) as chat:
        yield chat


def run(made: Callable[[], Awaitable[None]]) -> None:
    """Runs a coroutine; nothing that asyncio would complain of may be left."""
    complaints: list[dict[str, Any]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        await asyncio.wait_for(made(), 120)
        gc.collect()
        await asyncio.sleep(0)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(watched())
    assert complaints == []


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


class Gate:
    """Holds a chat's work back on its thread, before it computes, until it is let go."""

    def __init__(self, chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.open = threading.Event(), threading.Event()
        decode = chat.context.decode

        def held() -> None:
            self.reached.set()
            assert self.open.wait(60)
            decode()

        monkeypatch.setattr(chat.context, "decode", held)


def fields(verdict: Verdict) -> dict[str, Any]:
    return {name: value for name, value in verdict.as_dict().items() if name != "timings"}


def test_acheck_gives_what_check_gives(chat_model: Model, chat: Chat) -> None:
    async def ask() -> None:
        options: dict[str, Any] = {"arguments": {"what": "so"}, "at": 2}
        with open_chat(chat_model, MESSAGES, documents=DOCUMENTS) as other:
            together = await chat.acheck(*ANSWERING, **options)
            expected = other.check(*ANSWERING, **options)
            assert isinstance(together, dict)
            assert {name: fields(one) for name, one in together.items()} == {
                name: fields(one) for name, one in expected.items()
            }
            alone, expected_alone = await chat.acheck("labels", keep=True), other.check("labels", keep=True)
            assert isinstance(alone, Verdict)
            assert fields(alone) == fields(expected_alone)
            assert chat.messages == other.messages

    run(ask)
    assert_no_trace(chat, tolerance=2e-5)


def test_areply_gives_what_reply_gives(chat_model: Model, chat: Chat) -> None:
    async def reply() -> None:
        options: dict[str, Any] = {"max_tokens": 30, "temperature": 1.3, "seed": 3, "guards": ["labels"], "every": 4}
        with open_chat(chat_model, MESSAGES, documents=DOCUMENTS) as other:
            areply, expected = chat.areply(**options, on_flag="report"), other.reply(**options, on_flag="report")
            pieces = [piece async for piece in areply]
            assert pieces == list(expected)
            assert areply.reply.text == expected.text
            assert areply.reply.finish == expected.finish
            assert [one.flagged for one in areply.reply.checks] == [one.flagged for one in expected.checks]
            assert chat.messages == other.messages
            with pytest.raises(StopAsyncIteration):
                await areply.__anext__()

    run(reply)


def test_errors_are_those_of_check_and_reply(chat: Chat) -> None:
    async def fail() -> None:
        with pytest.raises(AnswerError):
            await chat.acheck("labels", "no-json")
        with pytest.raises(ArgumentError):
            await chat.acheck()
        with pytest.raises(ArgumentError):
            chat.areply(max_tokens=0)
        assert (await chat.acheck("labels")).label in {"Y", "N"}  # type: ignore[union-attr]

    run(fail)
    assert_no_trace(chat, tolerance=2e-5)


def test_the_event_loop_goes_on_while_a_check_is_computed(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check cannot end before the loop has ticked."""

    async def ask() -> None:
        gate, ticks = Gate(chat, monkeypatch), 0
        task = asyncio.create_task(chat.acheck("labels"))
        while ticks < 100 or not gate.reached.is_set():
            await asyncio.sleep(0)
            ticks += 1
        assert not task.done()
        gate.open.set()
        assert (await task).label in {"Y", "N"}  # type: ignore[union-attr]

    run(ask)


@pytest.mark.parametrize("n_cancels", [1, 2, 5])
def test_cancelling_a_task_cancels_its_check(chat: Chat, monkeypatch: pytest.MonkeyPatch, n_cancels: int) -> None:
    """The task ends when the work has, however often it is cancelled, and the next one is not cancelled."""

    async def ask() -> None:
        gate = Gate(chat, monkeypatch)
        before = chat.context.counters.rows_decoded
        task = asyncio.create_task(chat.acheck("labels", "free", keep=True))
        await until(gate.reached.is_set)
        for _ in range(n_cancels):
            task.cancel()
            for _ in range(3):
                await asyncio.sleep(0)
            assert not task.done()
        gate.open.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert chat.context.counters.rows_decoded == before
        assert chat.messages == MESSAGES
        assert chat.context.n_branches == 1
        monkeypatch.undo()
        assert (await chat.acheck("labels")).label in {"Y", "N"}  # type: ignore[union-attr]

    run(ask)
    assert_no_trace(chat, tolerance=2e-5)


def test_cancelling_a_check_that_is_done_already_cancels_nothing_else(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work has read its last row and never notices."""

    async def ask() -> None:
        computed, let_go = threading.Event(), threading.Event()
        decode = chat.context.decode

        def held() -> None:
            decode()
            computed.set()
            assert let_go.wait(60)

        monkeypatch.setattr(chat.context, "decode", held)
        task = asyncio.create_task(chat.acheck("labels"))
        await until(computed.is_set)
        task.cancel()
        await asyncio.sleep(0)
        let_go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        monkeypatch.undo()
        assert chat.check("labels").label in {"Y", "N"}

    run(ask)


def test_cancelling_a_task_that_waits_for_a_thread(chat_model: Model, chat: Chat) -> None:
    """It ends at once, its work never begins, and its chat is not cancelled later."""

    async def ask() -> None:
        loop, let_go = asyncio.get_running_loop(), threading.Event()
        loop.set_default_executor(ThreadPoolExecutor(1))
        busy = loop.run_in_executor(None, let_go.wait, 60)
        task = asyncio.create_task(chat.acheck("labels", keep=True))
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not busy.done()
        let_go.set()
        await busy
        assert (await chat.acheck("labels")).label in {"Y", "N"}  # type: ignore[union-attr]
        assert chat.messages == MESSAGES

    run(ask)


def test_cancelling_a_reply_between_and_within_pieces(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stream() -> None:
        taken: list[str] = []

        async def take(most: int) -> None:
            async for piece in chat.areply(
                max_tokens=500, temperature=1.5, seed=1, guards=["labels"], on_flag="report"
            ):
                taken.append(piece)
                if len(taken) == most:
                    await asyncio.sleep(60)

        task = asyncio.create_task(take(5))
        await until(lambda: len(taken) == 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert chat.messages == [*MESSAGES, {"role": "assistant", "content": "".join(taken)}]
        assert (await chat.acheck("labels")).label in {"Y", "N"}  # type: ignore[union-attr]

        chat.messages.pop()
        taken.clear()
        gate = Gate(chat, monkeypatch)
        task = asyncio.create_task(take(-1))
        await until(gate.reached.is_set)
        task.cancel()
        await asyncio.sleep(0)
        gate.open.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        monkeypatch.undo()
        assert "".join(taken) == "".join(one["content"] for one in chat.messages[2:])
        assert (await chat.acheck("labels")).label in {"Y", "N"}  # type: ignore[union-attr]
        assert [piece async for piece in chat.areply(max_tokens=3)]

    run(stream)
    assert_no_trace(chat, tolerance=2e-5)


def test_a_reply_that_is_left_or_closed_stays_as_far_as_it_was_taken(chat: Chat) -> None:
    async def stream() -> None:
        taken = []
        async for piece in chat.areply(max_tokens=50, temperature=1.5, seed=1):
            taken.append(piece)
            break
        assert chat.messages == [*MESSAGES, {"role": "assistant", "content": taken[0]}]
        areply = chat.areply(max_tokens=50, temperature=1.5, seed=2)
        piece = await areply.__anext__()
        await areply.aclose()
        await areply.aclose()
        assert chat.messages[3] == {"role": "assistant", "content": piece}
        assert [one async for one in areply] == []
        assert (await chat.acheck("labels")).label in {"Y", "N"}  # type: ignore[union-attr]

    run(stream)
    assert_no_trace(chat, tolerance=2e-5)


def test_a_time_limit_is_kept(chat: Chat) -> None:
    """A reply that would take very long is cut off, and goes on from there."""

    async def stream() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(endless(), 0.2)
        assert (await chat.acheck("labels")).label in {"Y", "N"}  # type: ignore[union-attr]

    async def endless() -> None:
        seed = 0
        while True:
            async for _ in chat.areply(max_tokens=200, temperature=1.5, seed=seed):
                pass
            del chat.messages[2:]
            seed += 1

    run(stream)
    assert_no_trace(chat, tolerance=2e-5)


def test_several_chats_at_once(chat_model: Model) -> None:
    """Each gets what it would get alone, while one of them is cancelled."""

    async def ask(chat: Chat) -> tuple[str, Verdict]:
        pieces = [piece async for piece in chat.areply(max_tokens=12)]
        verdict = await chat.acheck("open-json")
        assert isinstance(verdict, Verdict)
        return "".join(pieces), verdict

    questions = [f"Is the cat {word}?" for word in ("here", "there", "gone", "big", "small", "old", "red", "shy")]

    async def all_at_once() -> None:
        chats = [open_chat(chat_model, [{"role": "user", "content": one}]) for one in questions]
        tasks = [asyncio.create_task(ask(chat)) for chat in chats]
        await until(lambda: len(chats[3].messages) > 1)
        tasks[3].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(answers[3], asyncio.CancelledError)
        for number, (question, answer) in enumerate(zip(questions, answers, strict=True)):
            chats[number].close()
            if number != 3:
                with open_chat(chat_model, [{"role": "user", "content": question}]) as alone:
                    assert not isinstance(answer, BaseException)
                    assert answer[0] == "".join(alone.reply(max_tokens=12))
                    assert fields(answer[1]) == fields(alone.check("open-json"))

    run(all_at_once)


def test_checks_of_one_task_after_another_reuse_the_trunk(chat: Chat) -> None:
    async def ask() -> None:
        first, second = await chat.acheck("labels"), await chat.acheck("labels")
        assert isinstance(first, Verdict)
        assert isinstance(second, Verdict)
        assert second.tokens_evaluated == len(INVOCATION)
        assert second.tokens_reused == first.tokens_evaluated - len(INVOCATION)

    run(ask)
