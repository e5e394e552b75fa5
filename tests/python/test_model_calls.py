"""Intrinsics that the model calls itself: run from the sequence's start, answered into the text, by nobody else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from float_model import exact_chat, load_with, open_float_model

from alora_cpp import AdapterNotFoundError, AnswerError, ArgumentError, Branch, Chat, Context, Intrinsic, Model
from tiny import open_exact

MESSAGES = [{"role": "user", "content": "When did it open?"}]
DOCUMENTS = ["The Lantern Museum opened in 1894. It is closed on Monday."]
CHOICE = {"extra_body": {"structured_outputs": {"choice": ["Y", "N"]}}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calls")


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[Model]:
    with open_float_model(folder, endless=True) as model:
        yield model


@pytest.fixture(scope="module")
def plain(model: Model) -> list[int]:
    """What the base writes greedily when it calls nobody."""
    with exact_chat(model, MESSAGES, documents=DOCUMENTS) as chat:
        list(chat.reply(max_tokens=60))
        return written(chat)


@pytest.fixture(scope="module")
def prompt(model: Model) -> list[int]:
    with exact_chat(model, MESSAGES, documents=DOCUMENTS) as chat:
        return chat.transcript.conversation().prompted_tokens


def written(chat: Chat) -> list[int]:
    return chat.transcript.generated[len(chat.messages) - 1][1]


def callee(model: Model, folder: Path, name: str, invocation: Sequence[int], **io_yaml: Any) -> Intrinsic:
    """Loads an intrinsic that these tokens call."""
    options = {"adapter": "safety", "parameters": CHOICE, **io_yaml}
    load_with(model, folder, name, **options)
    path = folder / f"{options['adapter']}.gguf"
    return model.load_intrinsic(path, name=name, io_yaml=folder / f"{name}.io.yaml", invocation=invocation)


def greedy(context: Context, branch: Branch, count: int) -> list[int]:
    """The next tokens, by hand: one decode and one argmax each."""
    tokens: list[int] = []
    for _ in range(count):
        context.decode()
        tokens.append(int(branch.logits().argmax()))
        branch.append(tokens[-1:])
    return tokens


def probability_of(logits: np.ndarray[Any, Any], labels: Sequence[int]) -> float:
    """Of the first label among them."""
    odds = np.exp(logits[list(labels)].astype(np.float64) - float(logits.max()))
    return float(odds[0] / odds.sum())


def test_a_called_intrinsic_answers_into_the_text(
    model: Model, folder: Path, plain: list[int], prompt: list[int]
) -> None:
    """All of it by hand: what the base writes, the fork under the adapter, its answer, and what the base writes then.

    Tried with: an adapter that governs nothing; an answer that is not appended; one appended twice.
    """
    called = callee(model, folder, "called", plain[6:9])
    with exact_chat(model, MESSAGES, documents=DOCUMENTS, may_call=["called"]) as chat:
        reply = chat.reply(max_tokens=24)
        pieces = list(reply)
        tokens = written(chat)
    labels = [model.tokenize(label)[0] for label in ("Y", "N")]
    with open_exact(model) as context:
        base = context.branch()
        base.append(prompt)
        by_hand = greedy(context, base, 9)
        assert by_hand == plain[:9]
        fork = base.fork(len(prompt) + 6)
        fork.activate(called.adapter)
        fork.append(plain[6:9])
        context.decode()
        expected = probability_of(fork.logits(), labels)
        fork.close()
        answer = labels[0 if expected > 0.5 else 1]
        base.append([answer])
        by_hand += [answer, *greedy(context, base, 14)]
    assert tokens == by_hand
    (verdict,) = reply.calls
    assert verdict.intrinsic == "called"
    assert verdict.probabilities["Y"] == pytest.approx(expected, abs=1e-5)
    assert verdict.tokens_evaluated == len(called.invocation)
    assert reply.text == model.detokenize(tokens) == "".join(pieces)
    assert reply.finish == "length"
    before = model.detokenize(tokens[:9])
    assert [text for text in pieces if before.endswith(text[:-1]) and text.endswith(verdict.text)]


def test_a_free_answer_is_written_by_the_adapter_and_read_by_the_base(
    model: Model, folder: Path, plain: list[int], prompt: list[int]
) -> None:
    called = callee(model, folder, "writer", plain[3:5], parameters={"max_completion_tokens": 6})
    with exact_chat(model, MESSAGES, documents=DOCUMENTS, may_call=["writer"]) as chat:
        reply = chat.reply(max_tokens=15)
        list(reply)
        tokens = written(chat)
        after = next_logits(chat.context, chat.trunk)
    with open_exact(model) as context:
        base = context.branch()
        base.append([*prompt, *plain[:5]])
        fork = base.fork(len(prompt) + 3)
        fork.activate(called.adapter)
        fork.append(plain[3:5])
        answer = greedy(context, fork, 6)
        fork.close()
        base.append(answer)
        assert tokens == [*plain[:5], *answer, *greedy(context, base, 4)]
        base.append(chat_end(model))
        np.testing.assert_allclose(after, next_logits(context, base), atol=2e-5)
    assert reply.calls[0].text == model.detokenize(answer)
    assert reply.calls[0].truncated


def next_logits(context: Context, branch: Branch) -> np.ndarray[Any, Any]:
    context.decode()
    return branch.logits()


def chat_end(model: Model) -> list[int]:
    return model.tokenize("<|end_of_text|>\n", parse_special=True)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_calls_within_calls_go_as_deep_as_allowed(
    model: Model, folder: Path, plain: list[int], prompt: list[int], depth: int
) -> None:
    """The inner one reads what the outer one wrote as the base model does: no row of one adapter is read by another.

    Tried with: an inner call that forks the outer one's branch; a depth that does not shrink.
    """
    outer = callee(model, folder, "outer", plain[3:5], parameters={"max_completion_tokens": 8})
    with open_exact(model) as context:
        fork = context.branch()
        fork.append([*prompt, *plain[:3]])
        fork.activate(outer.adapter)
        fork.append(plain[3:5])
        begun = greedy(context, fork, 4)
    inner = callee(model, folder, "inner", begun[2:4], adapter="hallucination")
    with exact_chat(model, MESSAGES, documents=DOCUMENTS, may_call=["outer", "inner"], call_depth=depth) as chat:
        reply = chat.reply(max_tokens=30)
        list(reply)
        tokens = written(chat)
    if depth == 0:
        assert tokens == plain[:30]
        assert reply.calls == []
        return
    with open_exact(model) as context:
        before = [*prompt, *plain[:5]]
        fork = context.branch()
        fork.append(before[:-2])
        fork.activate(outer.adapter)
        fork.append(before[-2:])
        if depth == 1:
            answer = greedy(context, fork, 8)
        else:
            answer = greedy(context, fork, 4)
            # In a branch of its own, so that nothing can be shared by mistake.
            nested = context.branch()
            nested.append([*before, *answer[:2]])
            nested.activate(inner.adapter)
            nested.append(answer[2:4])
            labels = [model.tokenize(label)[0] for label in ("Y", "N")]
            answer.append(labels[int(probability_of(next_logits(context, nested), labels) < 0.5)])
            nested.close()
            fork.append(answer[-1:])
            answer += greedy(context, fork, 3)
    assert tokens[:13] == [*plain[:5], *answer]
    assert reply.calls[0].text == model.detokenize(answer)


def test_only_those_that_may_be_called_are(model: Model, folder: Path, plain: list[int]) -> None:
    callee(model, folder, "called", plain[6:9])
    for options in ({}, {"may_call": ["safety"]}, {"may_call": ["called"], "call_depth": 0}):
        with exact_chat(model, MESSAGES, documents=DOCUMENTS, **options) as chat:
            reply = chat.reply(max_tokens=30)
            list(reply)
            assert reply.calls == []
            assert written(chat) == plain[:30]


def test_no_text_that_others_wrote_calls(model: Model, folder: Path, plain: list[int]) -> None:
    """Neither a user's, nor a document's, nor the prompt's, nor an earlier reply's, nor one half of each."""
    text = model.detokenize(plain[:8])
    callee(model, folder, "whole", model.tokenize(text))
    callee(model, folder, "prompting", model.tokenize("<|end_of_role|>", parse_special=True))
    callee(model, folder, "spanning", [*model.tokenize("<|end_of_role|>", parse_special=True), plain[0]])
    callee(model, folder, "question", model.tokenize(MESSAGES[0]["content"])[-3:])
    said = [{"role": "assistant", "content": text}, {"role": "user", "content": text + MESSAGES[0]["content"]}]
    for messages in (said, MESSAGES):
        for names in (["whole", "prompting", "question"], ["spanning"]):
            documents = DOCUMENTS if messages is MESSAGES else [text]
            with exact_chat(model, messages, documents=documents, may_call=names) as chat:
                reply = chat.reply(max_tokens=7)
                list(reply)
                assert reply.calls == []
                assert messages is said or written(chat) == plain[:7]


def test_an_answer_calls_nobody(model: Model, folder: Path, plain: list[int]) -> None:
    """Nor does an answer's end together with what the base writes next."""
    callee(model, folder, "called", plain[6:9])
    with exact_chat(model, MESSAGES, documents=DOCUMENTS, may_call=["called"]) as chat:
        list(chat.reply(max_tokens=24))
        tokens = written(chat)
    callee(model, folder, "answered", tokens[9:10])
    callee(model, folder, "across", tokens[8:11])
    callee(model, folder, "behind", tokens[10:12])
    for name, n_calls in (("answered", 1), ("across", 1), ("behind", 2)):
        with exact_chat(model, MESSAGES, documents=DOCUMENTS, may_call=["called", name]) as chat:
            reply = chat.reply(max_tokens=13)
            list(reply)
            assert [verdict.intrinsic for verdict in reply.calls] == ["called", "behind"][:n_calls]


def test_the_longest_invocation_wins(model: Model, folder: Path, plain: list[int]) -> None:
    """Tried with: the first one that fits."""
    end = next(i for i in range(4, 30) if plain[i] not in plain[:i]) + 1
    callee(model, folder, "short", plain[end - 1 : end])
    callee(model, folder, "long", plain[end - 3 : end])
    for names in (["short", "long"], ["long", "short"]):
        with exact_chat(model, MESSAGES, documents=DOCUMENTS, may_call=names) as chat:
            reply = chat.reply(max_tokens=end + 1)
            list(reply)
            assert [verdict.intrinsic for verdict in reply.calls] == ["long"]


def test_an_invocation_of_one_token(model: Model, folder: Path, plain: list[int], prompt: list[int]) -> None:
    position = next(i for i in range(4, 30) if plain[i] not in plain[:i])
    called = callee(model, folder, "single", plain[position : position + 1])
    with exact_chat(model, MESSAGES, documents=DOCUMENTS, may_call=["single"]) as chat:
        reply = chat.reply(max_tokens=position + 2)
        list(reply)
    with open_exact(model) as context:
        branch = context.branch()
        branch.append([*prompt, *plain[:position]])
        branch.activate(called.adapter)
        branch.append(plain[position : position + 1])
        labels = [model.tokenize(label)[0] for label in ("Y", "N")]
        expected = probability_of(next_logits(context, branch), labels)
    assert len(reply.calls) == 1
    assert reply.calls[0].probabilities["Y"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("offset", [0, 1])
def test_the_adapter_governs_from_where_it_is_to(
    model: Model, folder: Path, plain: list[int], prompt: list[int], offset: int
) -> None:
    """From the invocation's first token, or where it was loaded with activation at the end from its last."""
    load_with(model, folder, "ending", parameters=CHOICE)
    called = model.load_intrinsic(
        folder / "safety.gguf",
        name="ending",
        io_yaml=folder / "ending.io.yaml",
        invocation=plain[6:8],
        activation="end" if offset else "start",
    )
    with exact_chat(model, MESSAGES, documents=DOCUMENTS, may_call=["ending"]) as chat:
        reply = chat.reply(max_tokens=9)
        list(reply)
    with open_exact(model) as context:
        branch = context.branch()
        branch.append([*prompt, *plain[: 6 + offset]])
        branch.activate(called.adapter)
        branch.append(plain[6 + offset : 8])
        labels = [model.tokenize(label)[0] for label in ("Y", "N")]
        expected = probability_of(next_logits(context, branch), labels)
    assert reply.calls[0].probabilities["Y"] == pytest.approx(expected, abs=1e-5)


def test_calls_and_guards_in_one_reply(model: Model, folder: Path, plain: list[int]) -> None:
    """The answer is judged as part of the reply; the reply is the one without guards."""
    callee(model, folder, "writer", plain[3:5], parameters={"max_completion_tokens": 6})
    guards = {name: (lambda _: False) for name in ("safety", "hallucination", "writer")}
    with exact_chat(model, MESSAGES, documents=DOCUMENTS, may_call=["writer"]) as quiet:
        text = "".join(quiet.reply(max_tokens=40))
        for every in ("sentence", 3):
            with exact_chat(model, MESSAGES, documents=DOCUMENTS, may_call=["writer"]) as chat:
                reply = chat.reply(max_tokens=40, guards=guards, every=every)
                assert "".join(reply) == text
                assert written(chat) == written(quiet)
                assert len(reply.calls) >= 1
                judged = "".join("".join(check.sentence.split()) for check in reply.checks)
                assert judged == "".join(text.split())
                assert chat.context.n_branches == 1


def test_an_intrinsic_that_is_asked_may_call(model: Model, folder: Path, plain: list[int], prompt: list[int]) -> None:
    callee(model, folder, "asked", model.tokenize("The"), parameters={"max_completion_tokens": 10})
    with exact_chat(model, MESSAGES, documents=DOCUMENTS) as chat:
        alone = chat.check("asked").text
    called = callee(model, folder, "second", model.tokenize(alone)[2:4])
    with exact_chat(model, MESSAGES, documents=DOCUMENTS, may_call=["second"]) as chat:
        text = chat.check("asked").text
        context, trunk = chat.context, chat.trunk
        begun = model.tokenize(alone)[:4]
        nested = context.branch()
        nested.append([*trunk.tokens, *model.intrinsic("asked").invocation, *begun[:2]])
        nested.activate(called.adapter)
        nested.append(begun[2:])
        labels = [model.tokenize(label)[0] for label in ("Y", "N")]
        answer = "Y" if probability_of(next_logits(context, nested), labels) > 0.5 else "N"
        nested.close()
        assert text.startswith(model.detokenize(begun) + answer)
        assert text != alone
        assert context.n_branches == 1
    with exact_chat(model, MESSAGES, documents=DOCUMENTS, may_call=["second"], call_depth=0) as chat:
        assert chat.check("asked").text == alone


def test_an_answers_tokens_count_but_are_never_cut(model: Model, folder: Path, plain: list[int]) -> None:
    callee(model, folder, "writer", plain[3:5], parameters={"max_completion_tokens": 6})
    for max_tokens, length, n_calls in ((5, 5, 0), (6, 11, 1), (11, 11, 1), (12, 12, 1)):
        with exact_chat(model, MESSAGES, documents=DOCUMENTS, may_call=["writer"]) as chat:
            reply = chat.reply(max_tokens=max_tokens)
            list(reply)
            assert (len(written(chat)), len(reply.calls)) == (length, n_calls)
            assert reply.finish == "length"


def test_what_may_become_a_stop_string_comes_before_the_answer(model: Model, folder: Path, plain: list[int]) -> None:
    """The invocation's last letter begins a stop string. Tried with: text held back until after the answer."""
    callee(model, folder, "called", plain[6:9])
    callee(model, folder, "writer", plain[6:9], parameters={"max_completion_tokens": 4})
    for name in ("called", "writer"):
        with exact_chat(model, MESSAGES, documents=DOCUMENTS, may_call=[name]) as chat:
            text = "".join(chat.reply(max_tokens=20))
            tokens = written(chat)
        stop = model.detokenize(plain[8:9])[-1] + "\x07"
        with exact_chat(model, MESSAGES, documents=DOCUMENTS, may_call=[name]) as chat:
            reply = chat.reply(max_tokens=20, stop=[stop])
            assert "".join(reply) == text
            assert written(chat) == tokens


def test_nor_does_an_asked_intrinsic_hold_back_what_it_wrote(model: Model, folder: Path, plain: list[int]) -> None:
    """Neither before what it inserts, nor where its answer is cut off."""
    callee(model, folder, "asked", model.tokenize("The"), parameters={"max_completion_tokens": 10})
    with exact_chat(model, MESSAGES, documents=DOCUMENTS) as chat:
        alone = chat.check("asked").text
    callee(model, folder, "second", model.tokenize(alone)[2:4])
    for options in ({}, {"may_call": ["second"]}):
        with exact_chat(model, MESSAGES, documents=DOCUMENTS, **options) as chat:
            parameters: dict[str, Any] = {"max_completion_tokens": 10}
            callee(model, folder, "asked", model.tokenize("The"), parameters=parameters)
            text = chat.check("asked").text
            assert (text == alone) == (not options)
            parameters["stop"] = [letter + "\x07" for letter in set(text)]
            callee(model, folder, "asked", model.tokenize("The"), parameters=parameters)
            assert chat.check("asked").text == text


def test_a_stop_string_within_the_invocation_stops_before_the_call(
    model: Model, folder: Path, plain: list[int]
) -> None:
    callee(model, folder, "called", plain[6:9])
    stop = model.detokenize(plain[7:9])
    with exact_chat(model, MESSAGES, documents=DOCUMENTS, may_call=["called"]) as chat:
        reply = chat.reply(max_tokens=20, stop=[stop])
        list(reply)
        assert (reply.finish, reply.calls) == ("stop", [])


def test_what_an_answer_cuts_off_is_not_read_by_the_base(
    model: Model, folder: Path, plain: list[int], prompt: list[int]
) -> None:
    """A stop string ends the answer within a token: the base reads the answer's text, as it stands in the message."""
    callee(model, folder, "writer", plain[3:5], parameters={"max_completion_tokens": 6})
    with exact_chat(model, MESSAGES, documents=DOCUMENTS, may_call=["writer"]) as chat:
        reply = chat.reply(max_tokens=12)
        list(reply)
        full = reply.calls[0].text
    callee(model, folder, "writer", plain[3:5], parameters={"max_completion_tokens": 6, "stop": [full[3:]]})
    with exact_chat(model, MESSAGES, documents=DOCUMENTS, may_call=["writer"]) as chat:
        reply = chat.reply(max_tokens=12)
        list(reply)
        assert reply.calls[0].text == full[:3]
        assert reply.text == model.detokenize(written(chat))
        assert chat.trunk.tokens[len(prompt) :][: len(written(chat))] == written(chat)


def test_an_answer_that_cannot_be_read_ends_the_reply(model: Model, folder: Path, plain: list[int]) -> None:
    project = {"type": "project", "retained_fields": ["a"], "input_path": []}
    callee(model, folder, "broken", plain[3:5], transformations=[project], parameters={"max_completion_tokens": 3})
    with exact_chat(model, MESSAGES, documents=DOCUMENTS, may_call=["broken"]) as chat:
        reply = chat.reply(max_tokens=20)
        with pytest.raises(AnswerError):
            list(reply)
        assert chat.context.n_branches == 1
        assert chat.messages[-1]["content"] == model.detokenize(plain[:5])
        assert chat.check("safety").label in {"Y", "N"}


def test_replies_with_calls_are_sampled_the_same_each_time(model: Model, folder: Path, plain: list[int]) -> None:
    callee(model, folder, "single", plain[5:6])
    texts = set()
    for _ in range(2):
        with exact_chat(model, MESSAGES, documents=DOCUMENTS, may_call=["single"]) as chat:
            reply = chat.reply(max_tokens=40, temperature=0.7, seed=2**32 - 1)
            texts.add("".join(reply))
    assert len(texts) == 1


def test_who_could_never_be_called_is_told(model: Model, folder: Path, plain: list[int]) -> None:
    end = model.eos
    assert end is not None
    callee(model, folder, "ending", [5, end])
    callee(model, folder, "only end", [end])
    callee(model, folder, "empty", [])
    callee(model, folder, "one", [10, 11])
    callee(model, folder, "same", [10, 11])
    callee(model, folder, "around", [9, 10, 11, 12])
    callee(model, folder, "before", [9, 10, 11])
    for names, message in (
        (["ending"], r"never call 'ending': its invocation \[5, 0\] holds '<\|end_of_text\|>', which ends a reply"),
        (["only end"], r"which ends a reply"),
        (["empty"], r"never call 'empty': it was loaded with an empty invocation"),
        (["one", "same"], r"never call 'same': the invocation of 'one'"),
        (["around", "one"], r"never call 'around': the invocation of 'one', \[10, 11\], is complete no later"),
        ("one", r"may_call is 'one', expected a list of names"),
    ):
        with pytest.raises(ArgumentError, match=message):
            model.chat(may_call=names, n_ctx=64)
    with pytest.raises(AdapterNotFoundError):
        model.chat(may_call=["nobody"], n_ctx=64)
    for depth in (-1, 1.0, True, None):
        with pytest.raises(ArgumentError, match="call_depth is"):
            model.chat(may_call=["one"], call_depth=depth, n_ctx=64)  # type: ignore[arg-type]
    model.chat(may_call=["one", "before", "one"], n_ctx=64).close()
