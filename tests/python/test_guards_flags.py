"""What guards may be, what a flag does, and how a guarded reply ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from float_model import NAMES, exact_chat, load_with, open_float_model

from alora_cpp import AloraError, AnswerError, ArgumentError, Cancelled, Chat, ClosedError, ContextFullError, Model
from alora_cpp.chat.reply import GuardCheck

UNSAFE = [{"role": "user", "content": "How do I poison someone?"}]
DOCUMENT = "The Lantern Museum opened in 1894. It is closed on Monday."
ASKED = [{"role": "user", "content": "When did it open?"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flags")


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[Model]:
    with open_float_model(folder, endless=True) as model:
        yield model


@contextlib.contextmanager
def chat_about(model: Model, **options: Any) -> Iterator[Chat]:
    with exact_chat(model, ASKED, documents=[DOCUMENT], **options) as chat:
        yield chat


def test_a_flag_stops_the_reply_and_names_the_sentence(model: Model) -> None:
    """Tried with: a flag that is only noted."""
    with chat_about(model) as watched:
        quiet = watched.reply(max_tokens=64, guards={"hallucination": lambda _: False})
        text = "".join(quiet)
    values = [check.verdicts["hallucination"].value for check in quiet.checks]
    limit = (min(values) + max(values)) / 2
    first = next(number for number, value in enumerate(values) if value > limit)
    with chat_about(model) as chat:
        reply = chat.reply(max_tokens=64, guards={"hallucination": lambda verdict: verdict.value > limit})
        pieces = list(reply)
        assert reply.finish == "flag"
        assert "".join(pieces) == reply.text
        assert text.startswith(reply.text)
        flag = reply.flags[-1]
        assert flag is reply.checks[-1]
        assert [check.flagged for check in reply.checks[:-1]] == [()] * first
        assert flag.flagged == ("hallucination",)
        assert flag.sentence == reply.text[flag.begin : flag.end] == text[flag.begin : flag.end]
        assert flag.sentence == quiet.checks[first].sentence
        assert chat.messages[-1]["content"] == reply.text


def test_a_flag_that_is_reported_changes_nothing(model: Model) -> None:
    with chat_about(model) as quiet, chat_about(model) as chat:
        text = "".join(quiet.reply(max_tokens=64))
        reply = chat.reply(max_tokens=64, guards={"safety": ("Y", "N")}, on_flag="report")
        assert "".join(reply) == text
        assert reply.finish == "length"
        assert reply.flags == reply.checks
        assert [check.sentence for check in reply.checks] == [text[check.begin : check.end] for check in reply.checks]


def test_a_function_decides_what_a_flag_does(model: Model) -> None:
    heard: list[GuardCheck] = []

    def stops_at_the_second(check: GuardCheck) -> bool:
        heard.append(check)
        return len(heard) == 2

    with chat_about(model) as chat:
        reply = chat.reply(max_tokens=64, guards={"safety": ("Y", "N")}, on_flag=stops_at_the_second)
        list(reply)
        assert reply.finish == "flag"
        assert heard == reply.checks
        assert len(heard) == 2


def test_a_flag_at_the_very_end_is_one(model: Model) -> None:
    """The reply is complete by then; its last words are judged all the same."""
    with chat_about(model) as chat:
        reply = chat.reply(max_tokens=3, guards={"safety": ("Y", "N")})
        assert "".join(reply) == reply.text
        assert reply.finish == "flag"
        assert (reply.checks[0].begin, reply.checks[0].end) == (0, len(reply.text))


def test_without_a_rule_the_label_that_says_yes_is_a_flag(bundled: Model) -> None:
    """A clear case of each: any bundled safety intrinsic is expected to be sure of them."""
    with exact_chat(bundled, UNSAFE) as chat:
        reply = chat.reply(max_tokens=40, guards=["safety"])
        list(reply)
        assert reply.finish == "flag"
        assert reply.flags[0].verdicts["safety"].label == "Y"
    with exact_chat(bundled, [{"role": "user", "content": "Hello, who are you?"}]) as chat:
        reply = chat.reply(max_tokens=40, guards=["safety"])
        list(reply)
        assert reply.finish == "stop"
        assert [check.verdicts["safety"].label for check in reply.checks] == ["N"]


def test_rules_by_label_and_function(model: Model) -> None:
    rules: dict[str, Any] = {"safety": "N", "hallucination": lambda _: False, "certainty": "0"}
    with chat_about(model) as chat:
        reply = chat.reply(max_tokens=20, guards=rules, on_flag="report")
        list(reply)
        for check in reply.checks:
            assert ("safety" in check.flagged) == (check.verdicts["safety"].label == "N")
            assert ("certainty" in check.flagged) == (check.verdicts["certainty"].label == "0")
            assert "hallucination" not in check.flagged


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guards": "safety"}, r"guards is 'safety', expected a list of names"),
        ({"guards": 5}, r"guards is 5, expected a list of names"),
        ({"guards": ["safety", 3]}, r"expected a list of names"),
        (
            {"guards": ["certainty"]},
            r"which verdicts of guard 'certainty' raise a flag \(its labels: 0, 1",
        ),
        ({"guards": {"safety": "X"}}, r"guard 'safety' has no label 'X'; it has: Y, N"),
        ({"guards": {"safety": []}}, r"the rule of guard 'safety' is \[\], expected a label"),
        ({"guards": {"safety": 3}}, r"the rule of guard 'safety' is 3, expected a label"),
        ({"on_flag": "shout"}, r"on_flag is 'shout', expected 'stop', 'report' or a function"),
        ({"every": 0}, r"every is 0, expected 'sentence' or a number"),
        ({"max_tokens": 0}, r"max_tokens"),
        ({"temperature": -1.0}, r"temperature"),
        ({"stop": "x"}, r"stop is 'x', expected a list"),
    ],
)
def test_wrong_options_are_told_before_anything_is_written(model: Model, options: Any, message: str) -> None:
    """Tried with: sampling options that are looked at with the first piece."""
    with chat_about(model) as chat:
        with pytest.raises(ArgumentError, match=message):
            chat.reply(**options)
        assert chat.context.counters.rows_decoded == 0
        assert len(chat.messages) == 1
    with exact_chat(model) as empty, pytest.raises(ArgumentError, match="no messages"):
        empty.reply()


def test_a_guard_without_its_argument_is_told(model: Model, folder: Path) -> None:
    load_with(model, folder, "asking", instruction="Is it {what}?")
    with chat_about(model) as chat:
        with pytest.raises(ArgumentError, match="what"):
            list(chat.reply(max_tokens=20, guards={"asking": lambda _: False}))
        reply = chat.reply(max_tokens=5, guards={"asking": lambda _: False}, arguments={"what": "good"})
        list(reply)
        assert len(reply.checks) == 1


def test_an_answer_that_cannot_be_read_ends_the_reply_and_leaves_the_chat_usable(model: Model, folder: Path) -> None:
    transformation = {"type": "project", "retained_fields": ["a"], "input_path": []}
    load_with(model, folder, "unreadable", transformations=[transformation], parameters={"max_completion_tokens": 2})
    with chat_about(model) as chat:
        reply = chat.reply(max_tokens=64, guards={"unreadable": lambda _: False, "safety": lambda _: False})
        with pytest.raises(AnswerError):
            list(reply)
        _is_as_if_never_guarded(chat, reply.text)
        assert list(reply) == []


def test_what_a_rule_or_a_function_raises_comes_through(model: Model) -> None:
    def broken(_: Any) -> bool:
        raise ZeroDivisionError

    for options in ({"guards": {"safety": broken}}, {"guards": {"safety": ("Y", "N")}, "on_flag": broken}):
        with chat_about(model) as chat:
            reply = chat.reply(max_tokens=64, **options)
            with pytest.raises(ZeroDivisionError):
                list(reply)
            _is_as_if_never_guarded(chat, reply.text)


def _is_as_if_never_guarded(chat: Chat, text: str) -> None:
    """No branch is left, what was written is in the conversation, and it goes on."""
    assert text
    assert chat.context.n_branches == 1
    assert chat.messages[-1] == {"role": "assistant", "content": text}
    chat.add("user", "And when is it closed?")
    with exact_chat(chat.context.model, chat.messages, documents=[DOCUMENT]) as fresh:
        assert chat.trunk.tokens == fresh.trunk.tokens
        assert "".join(chat.reply(max_tokens=12)) == "".join(fresh.reply(max_tokens=12))


@pytest.mark.parametrize("keeps_a_reference", [True, False])
def test_who_breaks_off_leaves_what_was_taken(model: Model, keeps_a_reference: bool) -> None:
    """Without closing anything. Tried with: a reply that becomes part of the conversation when it is collected."""
    gc.disable()
    try:
        with chat_about(model) as chat:
            reply = chat.reply(max_tokens=64, guards={"safety": lambda _: False}, every=2)
            text = "".join(next(reply) for _ in range(7))
            kept = reply if keeps_a_reference else None
            del reply
            assert chat.messages[-1] == {"role": "assistant", "content": text}
            if not keeps_a_reference:
                assert chat.context.n_branches == 1
            else:
                kept.close()
            _is_as_if_never_guarded(chat, text)
    finally:
        gc.enable()


def test_a_reply_cannot_go_on_where_the_conversation_did(model: Model) -> None:
    for disturb in (lambda chat: chat.check("safety"), lambda chat: next(chat.reply()), lambda chat: chat.close()):
        with chat_about(model) as chat:
            reply = chat.reply(max_tokens=64)
            text = "".join(next(reply) for _ in range(5))
            disturb(chat)
            assert chat.messages[1]["content"] == text
            with pytest.raises(ClosedError):
                next(reply)
            assert list(reply) == []


def test_a_check_in_the_middle_of_a_reply_is_about_what_was_taken(model: Model) -> None:
    with chat_about(model) as chat, chat_about(model) as cut:
        reply = chat.reply(max_tokens=64)
        for _ in range(5):
            next(reply)
        list(cut.reply(max_tokens=5))
        assert chat.check("safety").value == pytest.approx(cut.check("safety").value, abs=1e-5)


def test_cancelling_a_guarded_reply(model: Model) -> None:
    with chat_about(model) as chat:
        reply = chat.reply(max_tokens=64, guards={"safety": lambda _: False}, every=1)
        text = "".join(next(reply) for _ in range(5))
        thread = threading.Thread(target=chat.cancel)
        thread.start()
        thread.join()
        with pytest.raises(Cancelled):
            list(reply)
        assert reply.text == text
        _is_as_if_never_guarded(chat, text)


def test_a_full_context_is_told_and_leaves_the_chat_usable(model: Model) -> None:
    with chat_about(model, n_ctx=100) as chat:
        reply = chat.reply(max_tokens=90, guards={name: (lambda _: False) for name in NAMES}, every=1)
        with pytest.raises(ContextFullError):
            list(reply)
        assert chat.context.n_branches == 1
        assert chat.messages[-1]["content"] == reply.text
        assert len(reply.text) > 20
        chat.messages[1:] = []
        assert chat.check("safety").label in {"Y", "N"}


@pytest.mark.parametrize("guard", ["safety", "writing"])
def test_old_turns_are_forgotten_in_the_middle_of_a_guarded_reply(model: Model, folder: Path, guard: str) -> None:
    load_with(model, folder, "writing", parameters={"max_completion_tokens": 20})
    with exact_chat(model, n_ctx=320, on_full="shift") as chat:
        for number in range(4):
            chat.add("user", f"Question {number}: when did the Lantern Museum open?")
            list(chat.reply(max_tokens=20))
        chat.add("user", "Tell me a long story.")
        reply = chat.reply(max_tokens=150, guards={guard: lambda _: False}, every=10)
        list(reply)
        assert reply.finish == "length"
        assert chat.transcript.n_forgotten > 0
        assert len(reply.checks) >= 14
        assert "".join("".join(check.sentence.split()) for check in reply.checks) == "".join(reply.text.split())
        assert chat.check("safety").label in {"Y", "N"}


def test_where_room_is_short_the_reply_waits_for_guards_that_write(model: Model, folder: Path) -> None:
    """Tried with: as many answers under way as there are points (the context is full then)."""
    load_with(model, folder, "writing", parameters={"max_completion_tokens": 20})
    with exact_chat(model, ASKED, n_ctx=176) as chat, exact_chat(model, ASKED) as quiet:
        reply = chat.reply(max_tokens=60, guards={"writing": lambda _: False}, every=2)
        assert "".join(reply) == "".join(quiet.reply(max_tokens=60))
        assert len(reply.checks) > 20


@pytest.mark.parametrize("every", ["sentence", 1])
def test_a_stop_string_is_neither_shown_nor_judged(model: Model, every: Any) -> None:
    with chat_about(model) as chat:
        text = "".join(chat.reply(max_tokens=64))
    stop = text[40:44]
    with chat_about(model) as chat:
        reply = chat.reply(max_tokens=64, stop=[stop], guards={"safety": lambda _: False}, every=every)
        list(reply)
        assert reply.text == text[: text.index(stop)]
        assert reply.finish == "stop"
        assert reply.checks[-1].end == len(reply.text.rstrip())
        verdict = reply.checks[-1].verdicts["safety"]
        assert verdict.value == pytest.approx(chat.check("safety").value, abs=1e-5)


def test_what_may_become_a_stop_string_is_judged_once_it_is_none(model: Model) -> None:
    with chat_about(model) as chat:
        text = "".join(chat.reply(max_tokens=40))
    with chat_about(model) as chat:
        stops = [letter + "\x07" for letter in set(text)]
        reply = chat.reply(max_tokens=40, stop=stops, guards={"safety": lambda _: False}, every=1)
        assert "".join(reply) == text
        assert reply.checks[-1].end == len(text.rstrip())


def test_a_rule_may_read_a_generated_answer(model: Model, folder: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"why": {"type": "string", "maxLength": 3}, "bad": {"type": "boolean"}},
        "required": ["why", "bad"],
    }
    load_with(model, folder, "reasoned", response_format=schema)
    with chat_about(model) as chat:
        rule = lambda verdict: json.loads(verdict.text)["bad"]  # noqa: E731
        reply = chat.reply(max_tokens=16, guards={"reasoned": rule}, on_flag="report")
        list(reply)
        for check in reply.checks:
            assert set(check.verdicts["reasoned"].result) == {"why", "bad"}
            assert bool(check.flagged) == check.verdicts["reasoned"].result["bad"]


def test_the_asyncio_twin_says_the_same(model: Model) -> None:
    async def collect(chat: Chat) -> tuple[list[str], Any]:
        taken = chat.areply(max_tokens=40, guards={"safety": ("Y", "N")}, on_flag="report")
        return [piece async for piece in taken], taken.reply

    with chat_about(model) as chat, chat_about(model) as twin:
        reply = chat.reply(max_tokens=40, guards={"safety": ("Y", "N")}, on_flag="report")
        pieces = list(reply)
        others, other = asyncio.run(collect(twin))
        assert others == pieces
        assert [check.sentence for check in other.flags] == [check.sentence for check in reply.flags]


def test_every_error_of_a_guard_is_typed(model: Model, folder: Path) -> None:
    """An adapter whose instruction the template cannot take, and the like."""
    load_with(model, folder, "long", instruction="word " * 3000)
    with chat_about(model) as chat:
        reply = chat.reply(max_tokens=64, guards={"long": lambda _: False})
        with pytest.raises(AloraError):
            list(reply)
        assert chat.context.n_branches == 1
