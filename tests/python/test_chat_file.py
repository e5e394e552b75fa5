"""A chat in a file goes on as it was, to the bit; whatever is not just such a file is refused, and nothing is left."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alora_cpp import ArgumentError, Cancelled, Chat, ContextFullError, Model
from tiny import INVOCATION, make_model, write_gguf
from tiny_chats import (
    DOCUMENTS,
    next_logits,
    open_chat,
    text_tokens,
)

MESSAGES = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Is the cat here?"},
]
TOOL = {"type": "function", "function": {"name": "find"}}


@pytest.fixture
def chat(chat_model: Model) -> Iterator[Chat]:
    with chat_model.chat(MESSAGES, documents=DOCUMENTS, n_threads=1) as chat:
        yield chat


@pytest.fixture
def saved(chat: Chat, tmp_path: Path) -> Path:
    list(chat.reply(max_tokens=8))
    chat.save(tmp_path / "saved.chat")
    return tmp_path / "saved.chat"


def assert_goes_on(loaded: Chat, chat: Chat) -> None:
    """As the same conversation, from the same KV, without reading a row."""
    assert loaded.context.counters.rows_decoded == 0
    assert loaded.trunk.n_queued == 0
    assert loaded.context.n_branches == 1
    assert loaded.trunk.tokens == chat.trunk.tokens
    assert loaded.trunk.save() == chat.trunk.save()
    for field in ("messages", "documents", "tools", "template_options", "n_forgotten", "generated"):
        assert getattr(loaded.transcript, field) == getattr(chat.transcript, field)
    for one in (loaded, chat):
        one.add("user", "Well?")
    assert np.array_equal(next_logits(loaded), next_logits(chat))
    assert loaded.check("labels").probabilities == chat.check("labels").probabilities
    assert loaded.check("labels").tokens_evaluated == len(INVOCATION)
    assert "".join(loaded.reply(max_tokens=5)) == "".join(chat.reply(max_tokens=5))
    assert loaded.trunk.tokens == chat.trunk.tokens


def test_a_chat_goes_on_as_it_was(chat_model: Model, chat: Chat, saved: Path) -> None:
    with chat_model.load_chat(saved, n_threads=1) as loaded:
        assert loaded.context.n_ctx == chat.context.n_ctx
        assert_goes_on(loaded, chat)


def test_everything_said_is_in_the_file(chat_model: Model, tmp_path: Path) -> None:
    """Tools, options, parts, other scripts, and tokens that the text alone would not give."""
    messages: list[dict[str, Any]] = [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "tool", "content": "it is", "tool_call_id": "1"},
        {"role": "user", "content": "\u00e9 \U0001f600 \x00 \u2028 \\"},
    ]
    options: dict[str, Any] = {"tools": [TOOL], "template_options": {"mood": ["sad", 1, None]}}
    documents = ["A", {"text": "B", "title": "T", "doc_id": "x"}]
    with chat_model.chat(messages, documents=documents, n_threads=1, **options) as chat:
        chat.transcript.add_generated("then", [90, 78, *text_tokens("en")])
        chat.check("free", keep=True)
        chat.save(tmp_path / "all.chat")
        with chat_model.load_chat(tmp_path / "all.chat", n_threads=1) as loaded:
            assert_goes_on(loaded, chat)


def test_what_was_forgotten_stays_forgotten(chat_model: Model, tmp_path: Path) -> None:
    with chat_model.chat(MESSAGES[:1], n_ctx=256, on_full="shift", n_threads=1) as chat:
        for number in range(8):
            chat.add("user", f"Question {number} about the cat and the dog?")
            chat.check("labels")
        assert chat.transcript.n_forgotten > 0
        chat.save(tmp_path / "shifted.chat")
        with chat_model.load_chat(tmp_path / "shifted.chat", on_full="shift", n_threads=1) as loaded:
            assert_goes_on(loaded, chat)


def test_rows_that_wait_are_computed_before_they_are_saved(chat_model: Model, chat: Chat, tmp_path: Path) -> None:
    chat.save(tmp_path / "new.chat")
    with chat_model.load_chat(tmp_path / "new.chat", n_threads=1) as loaded:
        assert_goes_on(loaded, chat)


def test_saving_leaves_no_trace_and_can_be_done_again(chat_model: Model, chat: Chat, saved: Path) -> None:
    list(chat.reply(max_tokens=3))
    chat.save(saved)
    first, before, kv = saved.read_bytes(), chat.context.counters.rows_decoded, chat.trunk.kv_bytes()
    chat.save(saved)
    assert saved.read_bytes() == first
    assert [one.name for one in saved.parent.iterdir()] == [saved.name]
    assert chat.trunk.kv_bytes() == kv
    assert chat.context.counters.rows_decoded == before
    with chat_model.load_chat(saved, n_threads=1) as loaded:
        assert_goes_on(loaded, chat)


def test_a_chat_is_loaded_into_a_context_of_another_size(chat_model: Model, chat: Chat, saved: Path) -> None:
    with chat_model.load_chat(saved, n_ctx=chat.trunk.length + 64, n_threads=1) as loaded:
        assert loaded.context.n_ctx == chat.trunk.length + 64
        assert_goes_on(loaded, chat)


def test_a_context_that_is_too_small_is_told(chat_model: Model, chat: Chat, saved: Path) -> None:
    assert_refused(chat_model, saved, ContextFullError, "cells", n_ctx=chat.trunk.length - 1)


def assert_refused(
    model: Model, path: Path, error: type[Exception] = ArgumentError, match: str | None = None, **options: Any
) -> None:
    """With a typed error, and no context left behind."""
    gc.collect()
    before = {id(one) for one in model._contexts if not one.closed}
    with pytest.raises(error, match=match) as raised:
        model.load_chat(path, n_threads=1, **options)
    # Its traceback alone keeps objects alive: what matters is that no buffers are.
    assert {id(one) for one in model._contexts if not one.closed} == before
    assert str(raised.value)


def test_a_file_that_is_cut_off_is_refused(chat_model: Model, saved: Path) -> None:
    data = saved.read_bytes()
    lengths = {*range(0, 40), *range(40, len(data), len(data) // 50), *range(len(data) - 40, len(data))}
    for length in sorted(lengths):
        saved.write_bytes(data[:length])
        assert_refused(chat_model, saved, match="no saved chat" if length < 13 else "cut off or damaged")
    saved.write_bytes(data + b"\0")
    assert_refused(chat_model, saved, match="damaged")
    saved.write_bytes(data)
    chat_model.load_chat(saved, n_threads=1).close()


def test_a_file_with_a_flipped_bit_is_refused(chat_model: Model, saved: Path) -> None:
    data = saved.read_bytes()
    random = np.random.Generator(np.random.PCG64(7))
    for at in {0, 5, 12, 13, 14, len(data) - 1, *map(int, random.integers(len(data), size=100))}:
        flipped = bytearray(data)
        flipped[at] ^= 1 << int(random.integers(8))
        saved.write_bytes(flipped)
        assert_refused(chat_model, saved, match="no saved chat" if at < 13 else "damaged")


def rewritten(data: bytes, **facts: Any) -> bytes:
    """A saved chat with other facts in it, and a checksum that fits."""
    magic, line, kv = data[:-32].split(b"\n", 2)
    body = b"\n".join([magic, json.dumps({**json.loads(line), **facts}).encode(), kv])
    return body + hashlib.sha256(body).digest()


def test_another_version_is_refused(chat_model: Model, saved: Path) -> None:
    data = saved.read_bytes()
    saved.write_bytes(rewritten(data))
    chat_model.load_chat(saved, n_threads=1).close()
    saved.write_bytes(rewritten(data, version="0.0.9"))
    assert_refused(chat_model, saved, match=r"version 0\.0\.9, this is")


def test_another_model_is_refused_though_all_its_shapes_are_the_same(saved: Path, tmp_path: Path) -> None:
    with Model(write_gguf(make_model("llama", seed=1), tmp_path / "other.gguf")) as other:
        assert_refused(other, saved, match="saved with the model tiny-llama, this is tiny-llama, another file")


def test_the_same_model_elsewhere_is_the_same(chat_model: Model, chat: Chat, saved: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(chat_model.path.read_bytes())
    with Model(copy) as other, other.load_chat(saved, n_threads=1) as loaded:
        assert loaded.messages == chat.messages
        assert loaded.trunk.save() == chat.trunk.save()


def test_kv_of_another_kind_is_refused(chat_model: Model, tmp_path: Path) -> None:
    """A chat in a context with a float32 cache."""
    with open_chat(chat_model, MESSAGES) as chat:
        chat.save(tmp_path / "f32.chat")
    assert_refused(chat_model, tmp_path / "f32.chat", match="cache f32")


def test_foreign_files_are_refused(chat_model: Model, tmp_path: Path) -> None:
    assert_refused(chat_model, chat_model.path, match="no saved chat")
    for content in (b"", b"{}", b"alora-chat 2\n" + bytes(100), b"alora-chat 1\n", b"alora-chat 1\n" + bytes(31)):
        path = tmp_path / "foreign"
        path.write_bytes(content)
        assert_refused(chat_model, path)
    assert_refused(chat_model, tmp_path / "missing", FileNotFoundError)
    assert_refused(chat_model, tmp_path, OSError)


def test_where_it_cannot_be_written_the_old_file_stays(chat: Chat, saved: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    old = saved.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            chat.save(saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "missing" / "x.chat", tmp_path / "folder"):
        with pytest.raises(OSError, match=path.name):
            chat.save(path)
    assert saved.read_bytes() == old
    assert sorted(one.name for one in tmp_path.iterdir()) == ["folder", saved.name]
    assert_no_trace_of_saving(chat)


def assert_no_trace_of_saving(chat: Chat) -> None:
    before = chat.context.counters.rows_decoded
    next_logits(chat)
    assert chat.context.counters.rows_decoded == before
    assert chat.context.n_branches == 1


def test_an_empty_or_cancelled_chat_is_not_saved(chat_model: Model, chat: Chat, tmp_path: Path) -> None:
    with chat_model.chat(n_threads=1) as empty, pytest.raises(ArgumentError, match="no messages"):
        empty.save(tmp_path / "empty.chat")
    chat.cancel()
    with pytest.raises(Cancelled):
        chat.save(tmp_path / "cancelled.chat")
    assert list(tmp_path.iterdir()) == []
    chat.save(tmp_path / "cancelled.chat")


def test_bytes_that_are_no_trunk_leave_the_chat_usable(chat: Chat) -> None:
    next_logits(chat)
    for kv in (b"", b"no trunk", bytes(1000)):
        with pytest.raises(ArgumentError):
            chat.restore(kv)
    assert_no_trace_of_saving(chat)
    assert chat.check("labels").tokens_evaluated == len(INVOCATION)
