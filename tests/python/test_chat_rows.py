"""Going back to base computes nothing but what is new, and checks leave no trace: counted, and compared to the bit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from alora_cpp import AnswerError, ArgumentError, Cancelled, Chat, ContextFullError, Model
from tiny import INVOCATION
from tiny_chats import (
    ANSWERING,
    ASSISTANT,
    DOCUMENTS,
    KINDS,
    assert_no_trace,
    load,
    next_logits,
    open_chat,
    template_tokens,
    text_tokens,
    turn,
    turns,
)

SYSTEM = {"role": "system", "content": "Be kind."}
TURNS = [
    ("user", "Is the cat here? It purrs."),
    ("assistant", "Yes. It is."),
    ("user", "And the dog?"),
    ("assistant", "The dog then."),
    ("user", "Thanks"),
]
WHAT = {"what": "so"}


def rows(chat: Chat, work: Callable[[], object]) -> int:
    before = chat.context.counters.rows_decoded
    work()
    return chat.context.counters.rows_decoded - before


def common(left: Sequence[int], right: Sequence[int]) -> int:
    return next((i for i, (one, other) in enumerate(zip(left, right, strict=False)) if one != other), len(left))


def fail(chat: Chat) -> None:
    with pytest.raises(AnswerError, match="no JSON"):
        chat.check("no-json")


def fail_beside_others(chat: Chat) -> None:
    with pytest.raises(AnswerError, match="no JSON") as raised:
        chat.check("labels", "no-json", "tagged", arguments=WHAT)
    # Nor does the error, which is alive still, hold on to a branch.
    assert raised.value.__traceback__ is not None
    assert chat.context.n_branches == 1


def lack_an_argument(chat: Chat) -> None:
    with pytest.raises(ArgumentError, match="needs what"):
        chat.check("labels", "tagged")


def be_cancelled(chat: Chat) -> None:
    thread = threading.Thread(target=chat.cancel)
    thread.start()
    thread.join()
    with pytest.raises(Cancelled):
        chat.check("labels", "open-json")


def take_all_room(chat: Chat) -> None:
    with chat.context.branch() as other:
        other.append([9] * (chat.context.n_cells_free - 2))
        with pytest.raises(ContextFullError):
            chat.check("labels")


MEDDLING: dict[str, Callable[[Chat], object]] = {
    **{name: lambda chat, name=name: chat.check(name, arguments=WHAT) for name in ANSWERING},
    "all": lambda chat: chat.check(*ANSWERING, arguments=WHAT),
    "first": lambda chat: chat.check("labels", "open-json", at=1),
    "fail": fail,
    "fail beside others": fail_beside_others,
    "lack an argument": lack_an_argument,
    "be cancelled": be_cancelled,
    "take all room": take_all_room,
}


@pytest.mark.parametrize("meddling", MEDDLING)
def test_going_on_computes_only_what_is_new_and_kv_is_as_if_nobody_had_asked(chat_model: Model, meddling: str) -> None:
    """To the bit: both chats compute their rows in the same batches."""
    with (
        open_chat(chat_model, [SYSTEM], documents=DOCUMENTS) as chat,
        open_chat(chat_model, [SYSTEM], documents=DOCUMENTS) as quiet,
    ):
        next_logits(chat), next_logits(quiet)
        for role, content in TURNS:
            for one in (chat, quiet):
                one.add(role, content)
                assert rows(one, lambda one=one: next_logits(one)) == len(turn(role, content))
            MEDDLING[meddling](chat)
            MEDDLING[meddling](chat)
            assert chat.context.n_branches == 1
            assert chat.context.n_cells_used == chat.trunk.length == quiet.trunk.length
            assert rows(chat, lambda: next_logits(chat)) == 0
            assert np.array_equal(next_logits(chat), next_logits(quiet))
        assert chat.trunk.tokens == turns(chat.messages, DOCUMENTS)
        assert chat.trunk.kv_bytes() == quiet.trunk.kv_bytes()
        assert chat.messages == quiet.messages


def test_a_check_computes_its_own_rows_and_no_others(chat_model: Model) -> None:
    with open_chat(chat_model, [SYSTEM], documents=DOCUMENTS) as chat:
        for role, content in TURNS:
            chat.add(role, content)
            next_logits(chat)
            held = turns(chat.messages, DOCUMENTS)
            said = [{"role": "document 1", "content": DOCUMENTS[0]}, *chat.messages]
            by_roles = turns(said)
            # Both answers begin alike; their last tokens are read off, not computed.
            begun = {
                tuple(text_tokens(text)[:n]) for text in ('{"score": "yes"}', '{"score": "no"}') for n in range(1, 16)
            }
            begun -= {tuple(text_tokens(text)) for text in ('{"score": "yes"}', '{"score": "no"}')}
            expected = {
                "labels": len(INVOCATION),
                "at-end": len(INVOCATION),
                "assistant": len(template_tokens(ASSISTANT)),
                "uninvoked": len(template_tokens(ASSISTANT)),
                "closed-json": len(INVOCATION) + len(begun),
                "documents-as-roles": len(by_roles) - common(by_roles, held) + len(INVOCATION),
            }
            for name, count in expected.items():
                verdict = chat.check(name)
                reused = common(by_roles, held) if name == "documents-as-roles" else len(held)
                assert (name, verdict.tokens_evaluated, verdict.tokens_reused) == (name, count, reused)


def test_several_checks_share_what_their_prompts_begin_with(chat_model: Model) -> None:
    """Documents become messages for all of these alike; the conversation is read anew once, not three times."""
    with open_chat(chat_model, [SYSTEM, {"role": "user", "content": "Hi"}], documents=DOCUMENTS) as chat:
        next_logits(chat)
        alone = chat.check("documents-as-roles")
        io, _ = KINDS["documents-as-roles"]
        again = chat_model.intrinsic("documents-as-roles")
        assert io["docs_as_message"] == again.config.docs_as_message
        chat_model._intrinsics["the same"] = again  # under another name
        try:
            both = chat.check("documents-as-roles", "the same")
        finally:
            del chat_model._intrinsics["the same"]
        assert both["the same"].tokens_evaluated == alone.tokens_evaluated + len(INVOCATION)
        assert both["the same"].tokens_reused == both["documents-as-roles"].tokens_reused == alone.tokens_reused


def test_rows_that_are_new_count_as_evaluated_and_not_as_reused(chat_model: Model) -> None:
    with open_chat(chat_model, [SYSTEM]) as chat:
        held = 0
        for role, content in TURNS:
            chat.add(role, content)
            verdicts = chat.check("labels", "uninvoked", "at-end", "tagged", arguments=WHAT)
            tokens = turns(chat.messages)
            for name in ("labels", "uninvoked", "at-end"):
                assert (name, verdicts[name].tokens_reused) == (name, held)
            # Its prompt leaves the conversation at the first tag.
            assert verdicts["tagged"].tokens_reused == min(
                held, len(template_tokens("<|start_of_role|>system<|end_of_role|>"))
            )
            held = len(tokens)
            assert chat.check("labels").tokens_reused == held


@pytest.mark.parametrize("guards", [(), ("labels",), {"labels": "Y", "free": lambda verdict: False}])
def test_a_reply_computes_its_prompt_and_its_tokens(chat_model: Model, guards: Sequence[str]) -> None:
    """And going on after it only what ends the turn, and what is new."""
    with open_chat(chat_model, [SYSTEM, {"role": "user", "content": "Hi"}]) as chat:
        before = turns(chat.messages)
        chat.check("labels", "open-json")
        reply = chat.reply(max_tokens=12, guards=guards, on_flag="report")
        list(reply)
        written = chat.transcript.generated[2][1] or text_tokens(reply.text)
        tokens = [*before, *turn("assistant", written)]
        assert chat.trunk.tokens == tokens
        next_logits(chat)
        chat.check("tagged", "free", arguments=WHAT)
        chat.add("user", "Why then?")
        assert rows(chat, lambda: next_logits(chat)) == len(turn("user", "Why then?"))
        assert_no_trace(chat, tolerance=2e-5)


def test_a_reply_without_guards_computes_each_row_once(chat_model: Model) -> None:
    with open_chat(chat_model, [SYSTEM]) as chat:
        for content in ("Hi", "How then?", "Well"):
            chat.add("user", content)
            chat.check("labels")
            list(chat.reply(max_tokens=9))
            chat.check("labels", "at-end")
        invocations = 3 * 3 * len(INVOCATION)
        assert chat.context.counters.rows_decoded == chat.trunk.length + invocations


def test_what_is_queued_by_another_intrinsic_of_the_check_is_not_reused(
    chat_model: Model, adapter_paths: list[Path], tmp_path: Path
) -> None:
    """Both prompts go on alike behind rows of the conversation that wait still."""
    io, options = KINDS["uninvoked"]
    load(chat_model, adapter_paths[1], tmp_path, "uninvoked-too", io, **options)
    with open_chat(chat_model, [SYSTEM]) as chat:
        next_logits(chat)
        held = chat.trunk.length
        chat.add("user", "Hi")
        verdicts = chat.check("uninvoked", "uninvoked-too")
        assert [one.tokens_reused for one in verdicts.values()] == [held, held]
