"""A conversation is read once; checks reuse it and leave no trace."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from alora_cpp import AdapterNotFoundError, ArgumentError, Cancelled, ContextFullError

if TYPE_CHECKING:
    from alora_cpp import Model

DOCUMENT = {"title": "The Lantern Museum", "text": "The Lantern Museum opened in 1894. It is closed on Monday."}
QUESTION = "When did the Lantern Museum open?"


def test_checks_reuse_the_conversation_and_leave_no_trace(bundled: Model) -> None:
    with (
        bundled.chat(documents=[DOCUMENT], n_threads=1) as chat,
        bundled.chat(documents=[DOCUMENT], n_threads=1) as never_asked,
    ):
        for one in (chat, never_asked):
            one.add("user", QUESTION)
            _ = one.trunk
            one.context.decode()
        length = chat.trunk.length
        verdict = chat.check("safety")
        assert verdict.tokens_reused == length
        assert verdict.tokens_evaluated == len(bundled.intrinsic("safety").adapter.invocation_tokens)
        chat.check("hallucination", "certainty", "safety")
        assert chat.context.n_branches == 1
        assert chat.context.n_cells_used == length
        assert chat.trunk.kv_bytes() == never_asked.trunk.kv_bytes()
        assert "".join(chat.reply(max_tokens=20)) == "".join(never_asked.reply(max_tokens=20))
        np.testing.assert_array_equal(chat.trunk.tokens, never_asked.trunk.tokens)


def test_going_on_after_checks_computes_only_what_is_new(bundled: Model) -> None:
    with bundled.chat(documents=[DOCUMENT], n_threads=1) as chat:
        chat.add("user", QUESTION)
        chat.check("safety")
        reply = "".join(chat.reply(max_tokens=40))
        chat.check("hallucination", "certainty")
        before, held = chat.context.counters.rows_decoded, len(chat.trunk.tokens)
        chat.add("user", "And when is it closed?")
        new = len(chat.trunk.tokens) - held
        chat.context.decode()
        assert chat.context.counters.rows_decoded - before == new
        assert reply in chat.messages[1]["content"]


def test_several_verdicts_equal_those_asked_one_by_one(bundled: Model) -> None:
    messages = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "It opened in 1894."}]
    names = ("safety", "hallucination", "certainty")
    with bundled.chat(messages, documents=[DOCUMENT], n_threads=1) as chat:
        together = chat.check(*names)
        for name in names:
            alone = chat.check(name)
            assert together[name].label == alone.label
            for label, probability in alone.probabilities.items():
                # The weights are quantized: kernels round differently by batch size.
                assert together[name].probabilities[label] == pytest.approx(probability, abs=0.02)


def test_a_verdict_adds_up(bundled: Model) -> None:
    messages = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "It opened in 1894."}]
    with bundled.chat(messages, documents=[DOCUMENT], n_threads=1) as chat:
        verdict = chat.check("certainty")
    assert list(verdict.probabilities) == list("0123456789")
    assert sum(verdict.probabilities.values()) == pytest.approx(1.0)
    assert verdict.probability == max(verdict.probabilities.values())
    assert verdict.value is not None
    assert 0.05 <= verdict.value <= 0.95
    assert verdict.off_label is not None
    assert verdict.off_label < 0.05


def test_changing_the_document_or_the_reply_changes_the_verdict(bundled: Model) -> None:
    """The intrinsic reads the conversation: the same reply is supported by one document and not by the other."""
    question = "Who designed the Lantern Museum?"
    reply = "The Lantern Museum was designed by Clara Whitfield."

    def unsupported(designer: str, answer: str) -> float:
        document = {"title": "The Lantern Museum", "text": f"The Lantern Museum was designed by {designer}."}
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        with bundled.chat(messages, documents=[document], n_threads=1) as chat:
            return chat.check("hallucination").probabilities["Y"]

    supported = unsupported("Clara Whitfield", reply)
    assert unsupported("Oscar Pemberton", reply) > supported + 0.3
    assert unsupported("Clara Whitfield", reply.replace("Clara Whitfield", "Oscar Pemberton")) > supported + 0.3


def test_edited_history_is_read_again_from_the_edit_on(bundled: Model) -> None:
    with (
        bundled.chat([{"role": "user", "content": "Hello there, who are you?"}], n_threads=1) as chat,
        bundled.chat(n_threads=1) as fresh,
    ):
        chat.check("safety")
        chat.messages[0]["content"] = "Hello there, who is she?"
        fresh.add("user", "Hello there, who is she?")
        assert chat.check("safety").probabilities["Y"] == pytest.approx(
            fresh.check("safety").probabilities["Y"], abs=0.02
        )
        assert chat.context.n_branches == 1


def test_an_unfinished_reply_stays_as_far_as_it_was_taken(bundled: Model) -> None:
    with bundled.chat([{"role": "user", "content": "Hello, who are you?"}], n_threads=1) as chat:
        pieces = chat.reply(max_tokens=40)
        first = next(pieces)
        pieces.close()
        assert chat.messages[-1] == {"role": "assistant", "content": first}
        chat.check("safety")


def test_cancelling_a_reply_from_another_thread(bundled: Model) -> None:
    with bundled.chat([{"role": "user", "content": "Hello, who are you?"}], n_threads=1) as chat:
        pieces = chat.reply(max_tokens=400)
        next(pieces)
        thread = threading.Thread(target=chat.cancel)
        thread.start()
        thread.join()
        with pytest.raises(Cancelled):
            list(pieces)
        assert chat.check("safety").label in {"Y", "N"}


def test_wrong_use_is_told(bundled: Model) -> None:
    with bundled.chat(n_threads=1) as empty, pytest.raises(ArgumentError, match="no messages"):
        empty.check("safety")
    with pytest.raises(ArgumentError, match="expected a mapping with 'role' and 'content'"):
        bundled.chat([{"role": "user"}])
    with pytest.raises(ArgumentError, match="expected text for both"):
        bundled.chat([{"role": "user", "content": 3}])
    with pytest.raises(ArgumentError, match="a document is 3"):
        bundled.chat(documents=[3])  # type: ignore[list-item]
    with bundled.chat([{"role": "user", "content": "x"}], n_threads=1) as chat:
        with pytest.raises(AdapterNotFoundError, match=rf"'nothing'.*{', '.join(sorted(bundled.intrinsics))}"):
            chat.check("nothing")
        with pytest.raises(ArgumentError, match="no intrinsic was named"):
            chat.check()  # type: ignore[call-overload]


def test_a_conversation_that_does_not_fit_says_so_and_stays_usable(bundled: Model) -> None:
    with bundled.chat([{"role": "user", "content": "word " * 100}], n_ctx=64, n_threads=1) as chat:
        with pytest.raises(ContextFullError, match="64 cells"):
            chat.check("safety")
        chat.messages[0]["content"] = "Hello"
        assert chat.check("safety").label in {"Y", "N"}


def test_a_plain_reply_needs_neither_sentences_nor_asyncio() -> None:
    """Both take long to import, and sentences to find: that is for guards and for acheck alone."""
    script = (
        "import sys; from alora_cpp import Model\n"
        "chat = Model.bundled().chat([{'role': 'user', 'content': 'Hi'}], n_threads=1)\n"
        "assert ''.join(chat.reply(max_tokens=8))\n"
        "assert not {'nltk', 'asyncio'} & set(sys.modules), 'imported'\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
