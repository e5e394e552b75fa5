"""Chats of models with recurrent layers: all of it works; what such a model cannot go back to is read again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_hybrid import write_hybrid

from alora_cpp import Chat, Model
from tiny import INVOCATION, open_exact
from tiny_chats import ANSWERING, DOCUMENTS, assert_no_trace, load_kinds, next_logits, open_chat, write_chat_model

MESSAGES = [
    {"role": "user", "content": "Is the cat here? It purrs."},
    {"role": "assistant", "content": "Yes. It is."},
    {"role": "user", "content": "And the dog?"},
]
WHAT = {"what": "so"}
CLOSE = 2e-5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    folder = tmp_path_factory.mktemp("hybrid_chat")
    path, adapters = write_hybrid("granitemoehybrid", folder)
    with Model(write_chat_model(path, folder / "chat.gguf")) as model:
        load_kinds(model, adapters, folder)
        yield model


@pytest.fixture
def chat(model: Model) -> Iterator[Chat]:
    with open_chat(model, MESSAGES, documents=DOCUMENTS, n_ctx=2048) as chat:
        next_logits(chat)
        yield chat


def test_a_check_reads_its_invocation_alone(chat: Chat) -> None:
    before = chat.context.counters.rows_decoded
    assert chat.check("labels").tokens_evaluated == len(INVOCATION)
    assert chat.context.counters.rows_decoded - before == len(INVOCATION)
    assert_no_trace(chat, tolerance=CLOSE)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_every_kind_is_asked_at_every_turn(model: Model, chat: Chat, at: int) -> None:
    """Tried with: fork_at reading one row too few."""
    verdicts = chat.check(*ANSWERING, at=at, arguments=WHAT)
    with open_chat(model, MESSAGES[:at], documents=DOCUMENTS) as fresh:
        expected = fresh.check(*ANSWERING, arguments=WHAT)
    for name, verdict in verdicts.items():
        assert (verdict.label, verdict.text) == (expected[name].label, expected[name].text)
        assert verdict.probabilities == pytest.approx(expected[name].probabilities, abs=1e-5)
    assert_no_trace(chat, tolerance=CLOSE)


def test_a_guarded_reply_is_the_unguarded_one(model: Model, chat: Chat) -> None:
    with open_chat(model, MESSAGES, documents=DOCUMENTS) as plain:
        expected = "".join(plain.reply(max_tokens=24, temperature=1.0, seed=3))
    guards = {"labels": lambda _: False, "open-json": lambda _: False}
    reply = chat.reply(max_tokens=24, temperature=1.0, seed=3, guards=guards, every=6)
    assert "".join(reply) == expected
    assert len(reply.checks) >= len(guards)
    assert_no_trace(chat, tolerance=CLOSE)


def test_edits_and_forgetting_read_the_rest_again(chat: Chat) -> None:
    chat.messages[1]["content"] = "No. It is not."
    assert np.isfinite(next_logits(chat)).all()
    assert_no_trace(chat, tolerance=CLOSE)
    del chat.messages[1:]
    assert_no_trace(chat, tolerance=CLOSE)


def test_a_full_context_forgets_the_oldest_turns(model: Model) -> None:
    with open_chat(model, n_ctx=256, on_full="shift") as chat:
        for number in range(12):
            chat.add("user", f"Question {number}: is the cat here?")
            chat.add("assistant", "It is.")
            next_logits(chat)
        assert chat.transcript.n_forgotten
        assert chat.check("labels").label in ("Y", "N")


def test_a_saved_chat_goes_on(model: Model, chat: Chat, tmp_path: Path) -> None:
    expected = next_logits(chat)
    chat.save(tmp_path / "chat.alora")
    with Chat(open_exact(model), MESSAGES, documents=DOCUMENTS) as loaded:
        loaded.restore(chat.trunk.save())
        rows = loaded.context.counters.rows_decoded
        assert loaded.check("labels").label == chat.check("labels").label
        assert loaded.context.counters.rows_decoded - rows == len(INVOCATION)
        loaded.add("assistant", "It is.")
        assert next_logits(loaded).shape == expected.shape
