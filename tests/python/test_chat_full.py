"""Full contexts: a clear error, or the oldest turns are forgotten and what follows moves up without being read anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alora_cpp import ArgumentError, Chat, ContextFullError, Model
from alora_cpp.chat.reply import Reply
from tiny import INVOCATION
from tiny_chats import (
    ASSISTANT,
    DOCUMENTS,
    load_kinds,
    next_logits,
    open_chat,
    template_tokens,
    turn,
    turns,
    write_chat_model,
)

SYSTEM = {"role": "system", "content": "Be kind."}
N_CTX = 256


def open_small(model: Model, **options: Any) -> Chat:
    return open_chat(model, [SYSTEM], **{"n_ctx": N_CTX, "documents": DOCUMENTS, "on_full": "shift", **options})


def long_reply(make: Callable[[], Chat], max_tokens: int, **options: Any) -> tuple[Chat, Reply, int]:
    """A chat with a reply of so many tokens, and the rows computed for it."""
    for seed in range(30):
        chat = make()
        next_logits(chat)
        before = chat.context.counters.rows_decoded
        reply = chat.reply(max_tokens=max_tokens, temperature=1.2, seed=seed, **options)
        list(reply)
        if reply.finish == "length":
            return chat, reply, chat.context.counters.rows_decoded - before
        chat.close()
    pytest.fail("all of these replies ended early")


def question(number: int) -> str:
    return f"Question {number}: is the cat here?"


def seen(chat: Chat) -> list[dict[str, Any]]:
    """What the model should see: system messages, and the messages behind those forgotten."""
    system = [one for one in chat.messages if one["role"] == "system"]
    others = [one for one in chat.messages if one["role"] != "system"]
    return [*system, *others[chat.transcript.n_forgotten :]]


def expected_tokens(chat: Chat) -> list[int]:
    tokens = [tokens for _, tokens in chat.transcript.generated.values()]
    assert not any(tokens), "these tests compare text"
    return turns(seen(chat), [one["text"] for one in chat.documents])


def test_without_leave_to_forget_a_full_context_is_an_error_and_the_chat_stays_usable(chat_model: Model) -> None:
    with open_small(chat_model, on_full="error") as chat:
        number = 0
        while chat.trunk.length + len(turn("user", question(number))) + len(INVOCATION) <= N_CTX:
            chat.add("user", question(number))
            assert chat.check("labels").label in {"Y", "N"}
            number += 1
        chat.add("user", question(number))
        with pytest.raises(ContextFullError, match="256"):
            chat.check("labels")
        assert chat.transcript.n_forgotten == 0
        with pytest.raises(ContextFullError):
            list(chat.reply(max_tokens=3))
        assert number > 2
        assert len(chat.messages) == number + 2
        chat.messages.pop()
        before = chat.context.counters.rows_decoded
        assert chat.check("labels").label in {"Y", "N"}
        assert chat.context.counters.rows_decoded - before <= len(INVOCATION)
        assert chat.trunk.tokens == expected_tokens(chat)


def test_a_reply_that_runs_into_the_end_keeps_what_was_written(chat_model: Model) -> None:
    with open_small(chat_model, on_full="error", documents=()) as chat:
        chat.add("user", question(1))
        for seed in range(30):
            reply = chat.reply(max_tokens=N_CTX, temperature=1.0, seed=seed)
            try:
                list(reply)
            except ContextFullError:
                break
            del chat.messages[2:]
        else:
            pytest.fail("all of these replies ended early")
        assert reply.text == chat.messages[-1]["content"] != ""
        del chat.messages[2:]
        assert chat.check("labels").label in {"Y", "N"}


def test_whole_turns_are_forgotten_and_the_rest_moves_up_unread(chat_model: Model) -> None:
    """Each row is computed once: those of what was said, and those of the invocations."""
    with open_small(chat_model) as chat:
        n_rows = len(turns([SYSTEM], DOCUMENTS))
        for number in range(40):
            chat.add("user", question(number))
            chat.add("assistant", "Yes, there.")
            verdict = chat.check("labels")
            n_rows += len(turns(chat.messages[-2:])) + len(INVOCATION)
            assert chat.context.counters.rows_decoded == n_rows
            assert verdict.label in {"Y", "N"}
            assert chat.transcript.n_forgotten % 2 == 0
            assert chat.trunk.tokens == expected_tokens(chat)
            assert chat.trunk.length <= N_CTX
            assert len(seen(chat)) >= 3
            assert chat.context.n_branches == 1
        assert chat.transcript.n_forgotten > 40
        assert len(chat.messages) == 81
        # A quarter of the context gets free, and no more: turns are small.
        assert chat.trunk.length > N_CTX // 2


def test_what_was_forgotten_cannot_be_asked_about_any_more(chat_model: Model) -> None:
    with open_small(chat_model) as chat:
        for number in range(10):
            chat.add("user", question(number))
            chat.check("labels")
        n_forgotten = chat.transcript.n_forgotten
        assert n_forgotten > 1
        with pytest.raises(ArgumentError, match=f"of which {n_forgotten} are forgotten"):
            chat.check("labels", at=2)
        assert chat.check("labels", at=n_forgotten + 2).tokens_evaluated == len(INVOCATION)


def test_moved_rows_serve_the_model_nearly_as_well_as_rows_read_again(chat_model: Model) -> None:
    """They hold what they read of the turns that are gone, so they are not the same; positions are right."""
    with open_small(chat_model) as chat:
        for number in range(9):
            chat.add("user", question(number))
            next_logits(chat)
        assert chat.transcript.n_forgotten > 0
        with open_small(chat_model) as fresh:
            fresh.messages[:] = seen(chat)
            expected = next_logits(fresh)
        moved = next_logits(chat)
        assert np.corrcoef(moved, expected)[0, 1] > 0.5


REVERSED = "{% for message in messages | reverse %}<|start_of_role|>{{ message.content }}{% endfor %}"
NUMBERED = (
    "{% for one in messages %}<|start_of_role|>{{ messages | length - loop.index }} {{ one.content }}{% endfor %}!"
)


@pytest.mark.parametrize("template", [NUMBERED, REVERSED])
def test_where_the_template_writes_the_rest_otherwise_it_is_read_again(
    model_path: Path, adapter_paths: list[Path], tmp_path: Path, template: str
) -> None:
    with Model(write_chat_model(model_path, tmp_path / "model.gguf", template)) as model:
        load_kinds(model, adapter_paths, tmp_path)
        with open_chat(model, n_ctx=N_CTX, on_full="shift") as chat:
            for number in range(12):
                chat.add("user", question(number))
                assert chat.check("labels").label in {"Y", "N"}
                with open_chat(model, seen(chat), n_ctx=N_CTX) as fresh:
                    assert np.abs(next_logits(chat) - next_logits(fresh)).max() < 2e-5
                    assert chat.trunk.tokens == fresh.trunk.tokens
            assert chat.transcript.n_forgotten > 0


def test_where_nothing_can_be_forgotten_it_is_an_error(chat_model: Model) -> None:
    with open_small(chat_model) as chat:
        chat.add("user", "x" * 300)
        for _ in range(2):
            with pytest.raises(ContextFullError):
                chat.check("labels")
            with pytest.raises(ContextFullError):
                list(chat.reply(max_tokens=3))
        assert chat.transcript.n_forgotten == 0
        assert len(chat.messages) == 2
        chat.messages[1]["content"] = "Short"
        assert chat.check("labels").label in {"Y", "N"}
        assert chat.context.n_branches == 1


def test_system_messages_alone_that_do_not_fit_are_an_error(chat_model: Model) -> None:
    with open_small(chat_model) as chat:
        chat.messages[0]["content"] = "x" * 300
        with pytest.raises(ContextFullError):
            chat.check("labels")
        chat.add("user", question(0))
        chat.add("user", question(1))
        with pytest.raises(ContextFullError):
            chat.check("labels")
        chat.messages[0]["content"] = "x"
        assert chat.check("labels").label in {"Y", "N"}
        assert chat.trunk.tokens == expected_tokens(chat)


@pytest.mark.parametrize("guards", [(), ("labels",), ("labels", "free", "uninvoked")])
@pytest.mark.parametrize("every", ["sentence", 3, 7])
def test_a_reply_goes_on_while_old_turns_are_forgotten(chat_model: Model, guards: tuple[str, ...], every: Any) -> None:
    n_before = 0

    def make() -> Chat:
        nonlocal n_before
        chat = open_small(chat_model, n_ctx=3 * N_CTX)
        for number in range(17):
            chat.add("user", question(number))
        next_logits(chat)
        n_before = chat.transcript.n_forgotten
        return chat

    rules = dict.fromkeys(guards, lambda verdict: False)
    chat, reply, _ = long_reply(make, 150, guards=rules, every=every)
    assert chat.transcript.n_forgotten > n_before
    assert chat.messages[-1] == {"role": "assistant", "content": reply.text}
    assert bool(reply.checks) == bool(guards)
    assert chat.context.n_branches == 1
    # What comes next is read behind it, and nothing twice.
    list(chat.reply(max_tokens=2))
    next_logits(chat)
    before = chat.context.counters.rows_decoded
    chat.add("user", "Hm")
    next_logits(chat)
    assert chat.context.counters.rows_decoded - before == len(turn("user", "Hm"))
    chat.close()


def test_a_reply_that_forgets_computes_no_row_twice(chat_model: Model) -> None:
    def make() -> Chat:
        chat = open_small(chat_model, documents=())
        for number in range(5):
            chat.add("user", question(number))
        return chat

    chat, _, n_rows = long_reply(make, 120)
    assert chat.transcript.n_forgotten > 0
    assert n_rows == len(template_tokens(ASSISTANT)) + 120
    chat.close()


def test_only_as_much_is_forgotten_as_must_be_though_something_was_edited(chat_model: Model) -> None:
    """Rows that go because of the edit need no room."""
    with open_small(chat_model, documents=()) as chat:
        for number in range(5):
            chat.add("user", question(number))
        next_logits(chat)
        assert chat.transcript.n_forgotten == 0
        chat.messages[1]["content"] = "An edit at the beginning"
        chat.add("user", question(6))
        chat.add("user", question(7))
        next_logits(chat)
        kept = len(turns(seen(chat)))
        assert chat.transcript.n_forgotten > 0
        assert kept > N_CTX * 3 // 4 - len(turn("user", question(1)))
        assert chat.trunk.tokens == expected_tokens(chat)


def test_messages_taken_away_are_not_counted_as_forgotten(chat_model: Model) -> None:
    """A conversation that begins anew in the same chat is seen from its beginning."""
    with open_small(chat_model) as chat:
        for number in range(10):
            chat.add("user", question(number))
            chat.check("labels")
        assert chat.transcript.n_forgotten > 0
        del chat.messages[1:]
        chat.add("user", "Hello")
        assert chat.check("labels").label in {"Y", "N"}
        assert chat.trunk.tokens == turns([SYSTEM, {"role": "user", "content": "Hello"}], DOCUMENTS)


def test_a_check_that_needs_more_room_makes_it(chat_model: Model) -> None:
    """Its prompt shares nothing with the conversation, and both must fit."""
    with open_small(chat_model, n_ctx=2 * N_CTX) as chat:
        for number in range(11):
            chat.add("user", question(number))
        assert chat.trunk.length > 3 * N_CTX // 2
        assert chat.transcript.n_forgotten == 0
        assert chat.check("tagged", arguments={"what": "so"}).label in {"Y", "N"}
        assert chat.transcript.n_forgotten > 0
        assert chat.trunk.tokens == expected_tokens(chat)
        assert chat.context.n_branches == 1
