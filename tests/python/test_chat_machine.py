"""A chat under random orders of everything that can be done to it, compared with one that was only told the outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from alora_cpp import AnswerError, Cancelled, Chat, Context, ContextFullError, Model
from tiny_chats import ANSWERING, ASSISTANT, load_kinds, turns, write_chat_model

# What is computed in other batches may round otherwise.
TOLERANCE = 1e-4

contents = st.text(alphabet="abt h.?!\n", max_size=12) | st.sampled_from(
    [ASSISTANT, "<|end_of_text|>", "Is it there? Then go. ", " \n!", "{last_message}"]
)
names = st.lists(st.sampled_from(ANSWERING), min_size=1, max_size=4, unique=True)


class ExactModel(Model):
    """Keeps keys and values as float32, whoever opens a context."""

    def context(self, **options: Any) -> Context:
        return super().context(**{**options, "n_threads": 1, "kv_type": "f32", "flash_attention": False})


@pytest.fixture(scope="module")
def chat_model(
    model_path: Path, adapter_paths: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Model]:
    folder = tmp_path_factory.mktemp("machine")
    with ExactModel(write_chat_model(model_path, folder / "model.gguf")) as model:
        load_kinds(model, adapter_paths, folder)
        yield model


class ChatMachine(RuleBasedStateMachine):
    """Keeps its own record of what was said, and of the tokens of what the model wrote."""

    model: Model
    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.chat: Chat = self.model.chat(n_ctx=768, n_threads=1)
        self.said: list[tuple[str, str]] = []
        self.documents: list[str] = []
        self.written: dict[int, list[int]] = {}

    def teardown(self) -> None:
        self.chat.close()

    @initialize(system=st.booleans(), document=contents | st.none())
    def begin(self, system: bool, document: str | None) -> None:
        if document is not None:
            self.documents.append(document)
            self.chat.documents.append({"text": document})
        if system:
            self.add("system", "Be kind.")
        self.add("user", "Hi")

    def add(self, role: str, content: str) -> None:
        self.chat.add(role, content)
        self.written.pop(len(self.said), None)
        self.said.append((role, content))

    @rule(role=st.sampled_from(["user", "assistant", "tool"]), content=contents)
    def say(self, role: str, content: str) -> None:
        self.add(role, content)

    def note_what_was_written(self, before: int) -> None:
        """New messages, with their tokens where these say the same as the text."""
        for index in range(before, len(self.chat.messages)):
            message = self.chat.messages[index]
            assert message["role"] == "assistant"
            self.written.pop(index, None)
            text, tokens = self.chat.transcript.generated.get(index, ("", []))
            if tokens:
                assert text == message["content"]
                assert self.model.detokenize(tokens) == text
                self.written[index] = tokens
            self.said.append(("assistant", message["content"]))

    def with_room(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except ContextFullError:
            before = len(self.said)
            self.note_what_was_written(before)
            self.cut(2)
            return None

    def cut(self, n_messages: int) -> None:
        del self.chat.messages[n_messages:]
        del self.said[n_messages:]
        self.written = {index: tokens for index, tokens in self.written.items() if index < n_messages}

    @rule(names=names, at=st.integers(1, 6) | st.none(), keep=st.booleans())
    def check(self, names: list[str], at: int | None, keep: bool) -> None:
        before = len(self.said)
        asked = self.with_room(lambda: self.chat.check(*names, at=at, keep=keep, arguments={"what": "so"}))
        if asked is not None:
            verdicts = [asked] if len(names) == 1 else list(asked.values())
            kept = [verdict.text for verdict in verdicts] if keep else []
            assert [one["content"] for one in self.chat.messages[before:]] == kept
            self.note_what_was_written(before)

    @rule(others=st.lists(st.sampled_from(ANSWERING), max_size=2, unique=True), keep=st.booleans())
    def fail(self, others: list[str], keep: bool) -> None:
        # A random model might write JSON once.
        with suppress(AnswerError):
            self.with_room(lambda: self.chat.check(*others, "no-json", "no-json", arguments={"what": "so"}))

    @rule(names=names)
    def be_cancelled(self, names: list[str]) -> None:
        self.chat.cancel()
        with pytest.raises((Cancelled, ContextFullError)):
            self.chat.check(*names, keep=True, arguments={"what": "so"})
        self.chat.context.resume()

    @rule(
        guards=st.sets(st.sampled_from(["labels", "free", "tagged", "uninvoked"]), max_size=2),
        every=st.sampled_from(["sentence", 2]),
        temperature=st.sampled_from([0.0, 1.3]),
        seed=st.integers(0, 99),
        n_taken=st.integers(0, 12),
        on_flag=st.sampled_from(["stop", "report"]),
    )
    def reply(self, guards: set[str], every: Any, temperature: float, seed: int, n_taken: int, on_flag: Any) -> None:
        before = len(self.said)
        rules = dict.fromkeys(guards, lambda verdict: verdict.label == "Y")
        options: dict[str, Any] = {"guards": rules, "every": every, "on_flag": on_flag, "arguments": {"what": "so"}}

        def write() -> bool:
            reply = self.chat.reply(max_tokens=10, temperature=temperature, seed=seed, **options)
            taken = "".join(piece for _, piece in zip(range(n_taken), reply, strict=False))
            reply.close()
            assert reply.text.startswith(taken)
            return True

        if self.with_room(write):
            self.note_what_was_written(before)

    @rule(index=st.integers(0, 20), content=contents)
    def edit(self, index: int, content: str) -> None:
        index %= len(self.said)
        self.chat.messages[index]["content"] = content
        if content != self.said[index][1]:
            self.written.pop(index, None)
            self.chat.transcript.generated.pop(index, None)
        self.said[index] = (self.said[index][0], content)

    @precondition(lambda self: len(self.said) > 2)
    @rule(n_messages=st.integers(1, 10))
    def take_back(self, n_messages: int) -> None:
        self.cut(max(2, len(self.said) - n_messages))

    @rule(document=contents)
    def change_documents(self, document: str) -> None:
        if len(self.documents) > 1:
            self.documents.clear()
            self.chat.documents.clear()
        else:
            self.documents.append(document)
            self.chat.documents.append({"text": document})

    @rule()
    def save_and_load(self) -> None:
        path = self.folder / "saved.chat"
        if self.with_room(lambda: self.chat.save(path) or True):
            length = self.chat.trunk.length
            self.chat.close()
            self.chat = self.model.load_chat(path, n_threads=1)
            assert self.chat.trunk.length == length
            assert self.chat.trunk.n_queued == 0

    @invariant()
    def is_as_if_nobody_had_asked(self) -> None:
        if not self.said:
            return
        messages = [{"role": role, "content": content} for role, content in self.said]
        assert self.chat.messages == messages
        tokens = turns(messages, self.documents, self.written)
        if len(tokens) > self.chat.context.n_ctx - 64:
            self.cut(2)
            return
        trunk = self.chat.trunk
        before = self.chat.context.counters.rows_decoded + trunk.n_queued
        self.chat.context.decode()
        assert self.chat.context.counters.rows_decoded == before
        assert trunk.tokens == tokens
        assert self.chat.context.n_branches == 1
        assert self.chat.context.n_cells_used == len(tokens)
        with self.model.context(n_ctx=768, n_threads=1) as context:
            fresh = context.branch()
            fresh.append(tokens)
            context.decode()
            assert np.abs(trunk.logits() - fresh.logits()).max() < TOLERANCE


def test_any_order_of_doing_things_leaves_a_chat_as_if_it_had_only_been_told(chat_model: Model, tmp_path: Path) -> None:
    ChatMachine.model, ChatMachine.folder = chat_model, tmp_path
    run_state_machine_as_test(
        ChatMachine,
        settings=settings(
            max_examples=30,
            stateful_step_count=12,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
