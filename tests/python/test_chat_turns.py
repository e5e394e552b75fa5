"""Questions about earlier turns (`at`), answers that become part of the conversation (`keep`), and edits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from alora_cpp import AdapterNotFoundError, AnswerError, ArgumentError, Chat, Model
from tiny import INVOCATION, open_exact
from tiny_chats import (
    ANSWERING,
    ASSISTANT,
    DOCUMENTS,
    KINDS,
    assert_no_trace,
    load,
    load_kinds,
    next_logits,
    open_chat,
    template_tokens,
    text_tokens,
    turn,
    turns,
    write_chat_model,
)

MESSAGES = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Is the cat here? It purrs."},
    {"role": "assistant", "content": "Yes. It is."},
    {"role": "user", "content": "And the dog?"},
    {"role": "assistant", "content": "The dog then."},
    {"role": "user", "content": "Thanks"},
]
WHAT = {"what": "so"}


@pytest.fixture
def chat(chat_model: Model) -> Iterator[Chat]:
    with open_chat(chat_model, MESSAGES, documents=DOCUMENTS) as chat:
        next_logits(chat)
        yield chat


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 6, 99, -1, -2, -5])
def test_an_earlier_turn_is_asked_about_without_reading_anything_again(chat_model: Model, chat: Chat, at: int) -> None:
    for name, n_rows in (("labels", len(INVOCATION)), ("assistant", len(template_tokens(ASSISTANT)))):
        verdict = chat.check(name, at=at)
        assert verdict.tokens_evaluated == n_rows
        assert verdict.tokens_reused == len(turns(MESSAGES[:at], DOCUMENTS))
    together = chat.check(*ANSWERING, at=at, arguments=WHAT)
    with open_chat(chat_model, MESSAGES[:at], documents=DOCUMENTS) as fresh:
        expected = fresh.check(*ANSWERING, arguments=WHAT)
    for name, verdict in together.items():
        assert (verdict.label, verdict.text) == (expected[name].label, expected[name].text)
        assert verdict.probabilities == pytest.approx(expected[name].probabilities, abs=1e-5)
    assert chat.messages == MESSAGES
    assert_no_trace(chat)


@pytest.mark.parametrize("at", [0, -6, -99])
def test_before_the_first_turn_there_is_nothing_to_ask_about(chat: Chat, at: int) -> None:
    with pytest.raises(ArgumentError, match=f"at={at} .*there are 6"):
        chat.check("labels", at=at)
    assert chat.check("labels").tokens_evaluated == len(INVOCATION)


def test_the_question_is_judged_after_the_reply_exists(chat_model: Model) -> None:
    """The reply's own tokens count, though its text would be read as others."""
    with open_chat(chat_model, MESSAGES[:2]) as chat:
        before = chat.check("labels")
        list(chat.reply(max_tokens=10))
        after = chat.check("labels", at=-1)
        assert after.tokens_evaluated == len(INVOCATION) + 3  # the last token, and what ends its turn
        assert after.probabilities == pytest.approx(before.probabilities, abs=1e-5)


@pytest.mark.parametrize("name", ANSWERING)
def test_a_kept_answer_is_read_by_the_base_model_and_by_later_checks(chat_model: Model, chat: Chat, name: str) -> None:
    verdict = chat.check(name, keep=True, arguments=WHAT)
    assert chat.messages == [*MESSAGES, {"role": "assistant", "content": verdict.text}]
    before = chat.context.counters.rows_decoded
    next_logits(chat)
    written = chat.transcript.generated.get(6, ("", []))[1] or text_tokens(verdict.text)
    assert chat.context.counters.rows_decoded - before == len(turn("assistant", written))
    assert chat.trunk.tokens == [*turns(MESSAGES, DOCUMENTS), *turn("assistant", written)]
    assert chat.check("labels").tokens_evaluated == len(INVOCATION)
    assert_no_trace(chat)
    with open_chat(chat_model, MESSAGES, documents=DOCUMENTS) as other:
        other.transcript.add_generated(verdict.text, written)
        assert chat.check("labels").probabilities == pytest.approx(other.check("labels").probabilities, abs=1e-5)


def test_a_kept_answer_keeps_the_tokens_it_was_written_with(chat_model: Model, chat: Chat) -> None:
    """Written here by hand, on a branch under the adapter."""
    adapter = chat_model.intrinsic("free").adapter
    with open_exact(chat_model) as context:
        branch = context.branch()
        branch.append(turns(MESSAGES, DOCUMENTS))
        branch.activate(adapter)
        branch.append(INVOCATION)
        written = [step.token for step in context.generate([branch], max_tokens=6)]
    text = chat_model.detokenize(written)
    assert chat_model.tokenize(text) != written
    assert chat.check("free", keep=True).text == text
    assert chat.trunk.tokens == [*turns(MESSAGES, DOCUMENTS), *turn("assistant", written)]


def test_several_answers_are_kept_in_the_order_of_asking(chat: Chat) -> None:
    verdicts = chat.check("free", "labels", "closed-json", keep=True)
    kept = [{"role": "assistant", "content": verdicts[name].text} for name in ("free", "labels", "closed-json")]
    assert chat.messages == [*MESSAGES, *kept]
    again = chat.check("labels", keep=True, at=2)
    assert chat.messages == [*MESSAGES, *kept, {"role": "assistant", "content": again.text}]
    assert_no_trace(chat, tolerance=2e-5)


def test_where_one_answer_cannot_be_read_none_is_kept(chat: Chat) -> None:
    with pytest.raises(AnswerError):
        chat.check("labels", "no-json", keep=True)
    assert chat.messages == MESSAGES
    assert_no_trace(chat)


def test_names_by_alias_and_spelling(chat_model: Model, chat: Chat, adapter_paths: list[Path], tmp_path: Path) -> None:
    load(chat_model, adapter_paths[0], tmp_path, "Answer-Certainty check", KINDS["labels"][0])
    load(chat_model, adapter_paths[1], tmp_path, "uncertainty", KINDS["labels"][0])
    load(chat_model, adapter_paths[2], tmp_path, "hallucination_detection", KINDS["labels"][0])
    verdict = chat.check("answer_certainty_CHECK")
    assert verdict.intrinsic == "Answer-Certainty check"
    both = chat.check("Certainty", "uncertainty", "hallucination")
    assert list(both) == ["Certainty", "uncertainty", "hallucination"]
    assert both["Certainty"].probabilities == pytest.approx(both["uncertainty"].probabilities, abs=1e-6)
    assert both["hallucination"].intrinsic == "hallucination_detection"
    with pytest.raises(AdapterNotFoundError, match="'answers'"):
        chat.check("answers")


def assert_read_from(chat: Chat, position: int) -> None:
    """After an edit, what comes before a position stays as it was read."""
    before = chat.context.counters.rows_decoded
    next_logits(chat)
    assert chat.context.counters.rows_decoded - before == chat.trunk.length - position
    assert chat.trunk.tokens == turns(chat.messages, [str(one["text"]) for one in chat.documents])
    assert_no_trace(chat, tolerance=2e-5)


def test_an_edited_message_is_read_again_from_the_edit_on(chat: Chat) -> None:
    chat.messages[3]["content"] = "And the bird?"
    position = len([*turns(MESSAGES[:3], DOCUMENTS), 3, *text_tokens("user"), 4, *text_tokens("And the ")])
    assert_read_from(chat, position)


def test_an_appended_removed_or_inserted_message(chat: Chat) -> None:
    chat.messages.append({"role": "user", "content": "Hm"})
    assert_read_from(chat, len(turns(MESSAGES, DOCUMENTS)))
    del chat.messages[4:]
    # Nothing is new; the last row's logits are another row's, which is computed again.
    before = chat.context.counters.rows_decoded
    next_logits(chat)
    assert chat.context.counters.rows_decoded - before <= 1
    chat.messages.insert(1, {"role": "assistant", "content": "Hello"})
    assert_read_from(chat, len(turns(MESSAGES[:1], DOCUMENTS)) + 1)


def test_edited_documents_are_read_again_and_all_that_follows(chat: Chat) -> None:
    chat.documents[0]["text"] = "Cats purr. Birds sing."
    position = len([*turns(MESSAGES[:1]), 3, *text_tokens("documents"), 4, *text_tokens("Cats purr. ")])
    assert_read_from(chat, position)
    chat.documents.append({"text": "More", "title": "T"})
    assert_read_from(chat, len([*turns(MESSAGES[:1]), 3, *text_tokens("documents"), 4]) + 23)
    chat.documents.clear()
    assert_read_from(chat, len(turns(MESSAGES[:1])) + 1)


def test_a_generated_reply_that_is_edited_counts_by_its_new_text(chat_model: Model) -> None:
    written = [90, 78, *text_tokens("en")]
    with open_chat(chat_model, MESSAGES[:2]) as chat:
        chat.transcript.add_generated("then", written)
        assert chat.trunk.tokens == turns(chat.messages, written={2: written})
        chat.messages[2]["content"] = "then so"
        assert chat.trunk.tokens == turns(chat.messages)
        chat.messages[2]["content"] = "then"
        assert chat.trunk.tokens == turns(chat.messages, written={2: written})
        # It moves with the messages before it; its tokens no longer count there, its text does.
        del chat.messages[0]
        assert chat.trunk.tokens == turns(chat.messages)
        assert_no_trace(chat, tolerance=2e-5)


TOOLS = """\
{%- for tool in tools or [] -%}<|start_of_role|>tool<|end_of_role|>{{ tool.function.name }}<|end_of_text|>{%- endfor -%}
{%- for message in messages -%}
<|start_of_role|>{{ message.role }}<|end_of_role|>{{ message.content or '' }}
{%- for call in message.tool_calls or [] -%}call {{ call.function.name }}({{ call.function.arguments }}){%- endfor -%}
<|end_of_text|>{{ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}<|start_of_role|>assistant<|end_of_role|>{%- endif -%}
"""


def test_calls_of_tools_are_part_of_the_conversation(
    model_path: Path, adapter_paths: list[Path], tmp_path: Path
) -> None:
    call = {"type": "function", "function": {"name": "find", "arguments": '{"what": "cat"}'}}
    messages = [
        {"role": "user", "content": "Find it"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": [{"type": "text", "text": "it is"}]},
    ]
    with Model(write_chat_model(model_path, tmp_path / "model.gguf", TOOLS)) as model:
        load_kinds(model, adapter_paths, tmp_path)
        with open_chat(model, messages[:2], tools=[{"type": "function", "function": {"name": "find"}}]) as chat:
            asked = chat.check("labels", "uninvoked", "free", "documents-as-roles")
            assert all(verdict.text for verdict in asked.values())
            assert chat.trunk.tokens == [
                *[3, *text_tokens("tool"), 4, *text_tokens("find"), 1],
                *turn("user", "Find it"),
                *turn("assistant", 'call find({"what": "cat"})'),
            ]
            with pytest.raises(ArgumentError, match="needs last_message"):
                chat.check("tagged", arguments=WHAT)
            chat.transcript.add(messages[2])
            chat.check("labels")
            assert_no_trace(chat, tolerance=2e-5)


def test_what_is_no_message_any_more_is_told_and_can_be_mended(chat: Chat) -> None:
    for broken in ({"role": "user"}, {"content": "x"}, {"role": "user", "content": 3}, "text", None):
        chat.messages.append(broken)  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="message 6"):
            chat.check("labels")
        with pytest.raises(ArgumentError, match="message 6"):
            list(chat.reply(max_tokens=3))
        chat.messages.pop()
    chat.documents.append({"title": "no text"})
    with pytest.raises(ArgumentError, match="a document is"):
        chat.check("labels")
    chat.documents.pop()
    chat.check("labels")
    assert np.isfinite(next_logits(chat)).all()
    assert_no_trace(chat)
