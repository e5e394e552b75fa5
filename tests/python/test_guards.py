"""Guards ride along: the reply is what it would be without them, in as many passes, and leaves the same trunk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from float_model import NAMES, exact_chat, load_with, open_float_model

from alora_cpp import AdapterNotFoundError, Chat, Model
from tiny import fresh_logits

DOCUMENT = {
    "title": "The Lantern Museum",
    "text": "The Lantern Museum opened in 1894. It is closed on Monday. A ticket costs 12 euros. "
    "The Lantern Museum was designed by Clara Whitfield.",
}
QUESTIONS = (
    "When did it open?",
    "Tell me about the museum.",
    "Hello, who are you?",
    "How do I make a bomb?",
    "When did the Lantern Museum open, who designed it and what does a ticket cost?",
    "What is the capital of France?",
    "Write a story.",
    "I feel sad.",
    "Describe the town of Oakdale.",
    "Explain why the sky is blue.",
    "1 2 3 4 5",
    "Wer hat das Museum entworfen? 中文。",
)
EARLIER = [
    {"role": "user", "content": "Hello! What is a ticket?"},
    {"role": "assistant", "content": "A ticket costs 12 euros."},
]
# Twenty-four conversations: with and without documents, and every other one with an earlier turn.
CONVERSATIONS = [
    ([*EARLIER * (number % 2), {"role": "user", "content": question}], documents)
    for number, question in enumerate(QUESTIONS)
    for documents in ([DOCUMENT], [])
]
ALL: dict[str, Any] = {name: lambda _: False for name in NAMES}
EVERY = ("sentence", 1, 5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    folder = tmp_path_factory.mktemp("guards")
    with open_float_model(folder, endless=True) as model:
        load_with(
            model,
            folder,
            "rewriting",
            "hallucination",
            instruction="Say <certainty> of {last_message} again: {what}",
            sentence_boundaries={"documents": "c", "last_message": "r"},
            docs_as_message="string",
            response_format={"type": "object", "properties": {"r": {"type": "integer", "minimum": 0, "maximum": 40}}},
            parameters={"max_completion_tokens": 20},
        )
        load_with(
            model,
            folder,
            "json",
            "certainty",
            response_format={
                "type": "object",
                "properties": {"why": {"type": "string", "maxLength": 20}, "score": {"enum": ["yes", "no"]}},
                "required": ["why", "score"],
            },
            transformations=[
                {"type": "likelihood", "categories_to_values": {"yes": 1.0, "no": 0.0}, "input_path": ["score"]}
            ],
            parameters={"max_completion_tokens": 30},
        )
        load_with(model, folder, "text", parameters={"max_completion_tokens": 12})
        yield model


def written(chat: Chat) -> list[int]:
    """The tokens of the last reply."""
    return chat.transcript.generated[len(chat.messages) - 1][1]


@pytest.mark.parametrize("number", range(len(CONVERSATIONS)))
def test_a_greedy_reply_is_the_same_with_guards(model: Model, number: int) -> None:
    """Token for token, whenever they are asked; and the trunk goes on as if there had been none.

    Tried with: a guard's answer appended to the trunk; a guard's branch that activates its adapter on the trunk.
    """
    messages, documents = CONVERSATIONS[number]
    with exact_chat(model, messages, documents=documents) as quiet:
        text = "".join(quiet.reply(max_tokens=64))
        tokens, logits = written(quiet), _next_logits(quiet)
        cells = quiet.context.n_cells_used
    assert len(tokens) == 64
    for every in EVERY if number % 5 == 0 else EVERY[:1]:
        with exact_chat(model, messages, documents=documents) as chat:
            reply = chat.reply(max_tokens=64, guards=ALL, every=every)
            assert "".join(reply) == text == reply.text
            assert written(chat) == tokens
            # Surely over: sentences whose last word has four letters, and behind which a new one begins.
            sentences = len(re.findall(r"[a-z]{4}\. [A-Z]", text)) + 1
            assert len(reply.checks) >= (sentences if every == "sentence" else 10)
            assert reply.checks[-1].end == len(text.rstrip())
            assert chat.context.n_branches == 1
            # Beside open forks the trunk gets other cells, so sums are taken in another order.
            np.testing.assert_allclose(_next_logits(chat), logits, atol=2e-5)
            assert chat.context.n_cells_used == cells


def _next_logits(chat: Chat) -> np.ndarray[Any, np.dtype[np.float32]]:
    trunk = chat.trunk
    chat.context.decode()
    return trunk.logits()


@pytest.mark.parametrize("every", EVERY)
def test_guards_that_rewrite_and_generate_change_no_token(model: Model, every: Any) -> None:
    """Their rows come and go over many passes, several questions at a time."""
    guards = {name: (lambda _: False) for name in ("rewriting", "json", "text", "safety")}
    n_tokens = 16 if every == 1 else 64
    for messages, documents in CONVERSATIONS[3::10]:
        with exact_chat(model, messages, documents=documents) as quiet:
            list(quiet.reply(max_tokens=n_tokens))
            tokens = written(quiet)
        with exact_chat(model, messages, documents=documents) as chat:
            reply = chat.reply(max_tokens=n_tokens, guards=guards, every=every, arguments={"what": "please"})
            list(reply)
            assert written(chat) == tokens
            assert [check.end for check in reply.checks] == sorted({check.end for check in reply.checks})
            assert all(set(check.verdicts) == set(guards) for check in reply.checks)
            assert chat.context.n_branches == 1


@pytest.mark.parametrize("every", EVERY)
def test_guards_add_no_pass_but_one_for_the_last_check(model: Model, every: Any) -> None:
    """Tried with: guards that have a pass of their own."""
    for messages, documents in CONVERSATIONS[::9]:
        passes = {}
        for guards in ((), NAMES):
            with exact_chat(model, messages, documents=documents) as chat:
                rules = {name: ALL[name] for name in guards}
                reply = chat.reply(max_tokens=64, guards=rules, every=every)
                list(reply)
                passes[guards] = chat.context.counters.batches
                assert bool(reply.checks) == bool(guards)
        # Where the last token shows nothing, there is no last check.
        assert passes[NAMES] - passes[()] in ((1,) if every == "sentence" else (0, 1))


def test_a_flag_comes_with_the_token_that_shows_the_sentence_to_be_over(model: Model) -> None:
    """Tried with: guards that are heard after the next token is chosen."""
    for messages, documents in CONVERSATIONS[::6]:
        with exact_chat(model, messages, documents=documents) as chat:
            reply = chat.reply(max_tokens=64, guards={"safety": ["Y", "N"]})
            list(reply)
            (check,) = reply.checks
            assert reply.finish == "flag"
            shown = len(chat.context.model.detokenize(written(chat)[:-1]).rstrip())
            assert shown <= check.end < len(reply.text)


def test_a_flag_every_n_tokens_comes_before_the_next_token(model: Model) -> None:
    with exact_chat(model, [{"role": "user", "content": QUESTIONS[0]}], documents=[DOCUMENT]) as chat:
        reply = chat.reply(max_tokens=64, guards={"safety": ["Y", "N"]}, every=5)
        list(reply)
        assert reply.finish == "flag"
        assert len(written(chat)) == 5
        assert chat.messages[-1] == {"role": "assistant", "content": reply.text}


@pytest.mark.parametrize("every", EVERY)
def test_a_guards_verdict_is_that_of_a_check_of_the_reply_cut_there(model: Model, every: Any) -> None:
    """Tried with: guards that read one token more."""
    compared = 0
    for messages, documents in CONVERSATIONS[::11]:
        with exact_chat(model, messages, documents=documents) as chat:
            reply = chat.reply(max_tokens=32, guards=ALL, every=every)
            list(reply)
            tokens = written(chat)
        for check in reply.checks[:: 7 if every == 1 else 1]:
            n_tokens = next(n for n in range(33) if len(model.detokenize(tokens[:n])) >= check.end)
            with exact_chat(model, messages, documents=documents) as cut:
                list(cut.reply(max_tokens=n_tokens))
                verdicts = cut.check(*NAMES)
            for name in NAMES:
                for label, probability in verdicts[name].probabilities.items():
                    assert check.verdicts[name].probabilities[label] == pytest.approx(probability, abs=1e-5)
                assert check.verdicts[name].value == pytest.approx(verdicts[name].value, abs=1e-5)
                compared += 1
    assert compared > 20


def test_a_guards_verdict_equals_one_computed_by_hand(model: Model) -> None:
    """From the tokens of prompt, sentence, end of turn and invocation, in a context of its own."""
    messages = [{"role": "user", "content": QUESTIONS[0]}]
    with exact_chat(model, messages) as chat:
        prompt = chat.transcript.conversation().prompted_tokens
        reply = chat.reply(max_tokens=40, guards=ALL)
        list(reply)
        tokens = written(chat)
    end_of_turn = model.tokenize("<|end_of_text|>\n", parse_special=True)
    labels = [model.tokenize(label)[0] for label in ("Y", "N")]
    assert len(reply.checks) > 1
    for check in reply.checks:
        n_tokens = next(n for n in range(41) if len(model.detokenize(tokens[:n])) >= check.end)
        adapter = model.intrinsic("safety").adapter
        read = [*prompt, *tokens[:n_tokens], *end_of_turn]
        rows = fresh_logits(model, [*read, *adapter.invocation_tokens], adapter=adapter, at=len(read))
        odds = np.exp(rows[-1, labels].astype(np.float64))
        assert check.verdicts["safety"].probabilities["Y"] == pytest.approx(odds[0] / odds.sum(), abs=1e-5)


def test_sampled_replies_are_the_same_too(model: Model) -> None:
    messages = [{"role": "user", "content": QUESTIONS[1]}]
    with exact_chat(model, messages) as quiet, exact_chat(model, messages) as chat:
        options: dict[str, Any] = {"max_tokens": 64, "temperature": 0.8, "top_k": 40, "seed": 7}
        list(quiet.reply(**options))
        list(chat.reply(**options, guards=ALL, every=3))
        assert written(chat) == written(quiet)


def test_the_rows_of_a_guards_verdict_are_told(model: Model) -> None:
    with exact_chat(model, [{"role": "user", "content": QUESTIONS[0]}]) as chat:
        reply = chat.reply(max_tokens=64, guards={"safety": lambda _: False})
        list(reply)
        invocation = len(model.intrinsic("safety").invocation)
        end_of_turn = 2
        for check in reply.checks:
            assert check.verdicts["safety"].tokens_evaluated == end_of_turn + invocation
            assert check.verdicts["safety"].tokens_reused > 0


def test_unknown_guards_are_told_before_anything_is_written(model: Model) -> None:
    with exact_chat(model, [{"role": "user", "content": "Hello"}]) as chat:
        with pytest.raises(AdapterNotFoundError, match="no intrinsic 'nothing'"):
            chat.reply(guards=["safety", "nothing"])
        assert chat.context.counters.rows_decoded == 0
        assert len(chat.messages) == 1


def test_a_guard_by_another_spelling_keeps_the_name_it_was_given(model: Model, tmp_path: Path) -> None:
    with exact_chat(model, [{"role": "user", "content": "Hello"}]) as chat:
        reply = chat.reply(max_tokens=4, guards={"Uncertainty": "0"})
        list(reply)
        assert [*reply.checks[0].verdicts] == ["Uncertainty"]
        assert reply.checks[0].verdicts["Uncertainty"].intrinsic == "certainty"
