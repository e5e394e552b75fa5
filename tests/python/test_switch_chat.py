"""Verdicts of a Granite Switch model's built-in adapters: those of the same adapters, loaded from files on its base."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alora_cpp import AdapterError, Chat, Model, Verdict
from tiny import N_VOCAB, Key, Kind, fresh_logits
from tiny_chats import (
    ASSISTANT,
    DOCUMENTS,
    KINDS,
    TEMPLATE,
    assert_no_trace,
    open_chat,
    template_tokens,
    text_tokens,
    turns,
)
from tiny_switch import ASSISTANT_PROMPT, NAMES, Composed, compose, control_token

MESSAGES = [
    {"role": "user", "content": "Do cats purr?"},
    {"role": "assistant", "content": "They do."},
    {"role": "user", "content": "And the dogs?"},
]
ASKING = {"instruction": "Judge: <certainty> {what}"}


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Composed:
    return compose(tmp_path_factory.mktemp("switch"))


@pytest.fixture(scope="module")
def pair(composed: Composed) -> Iterator[tuple[Model, Model]]:
    """The composed model, and its base."""
    with Model(composed.path) as switch, Model(composed.base) as base:
        yield switch, base


def write_io(path: Path, io: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps({"model": None, "response_format": None, "transformations": [], **io}))
    return path


def load(pair: tuple[Model, Model], composed: Composed, folder: Path, io: Mapping[str, Any]) -> None:
    """Loads all adapters with the same `io.yaml`: the built-in ones, and those from files."""
    files = composed.write_adapters(folder)
    path = write_io(folder / "asked.yaml", io)
    for name in NAMES:
        pair[0].load_intrinsic(name, io_yaml=path)
        pair[1].load_intrinsic(files[name], io_yaml=path)


def assert_same(left: Verdict, right: Verdict) -> None:
    assert (left.label, left.text) == (right.label, right.text)
    assert left.probabilities == pytest.approx(right.probabilities, abs=1e-4)
    assert left.value == pytest.approx(right.value, abs=1e-4)
    assert left.off_label == pytest.approx(right.off_label, abs=1e-4)


@pytest.mark.parametrize("kind", ["labels", "closed-json", "open-json", "free", "tagged", "documents-as-roles"])
def test_verdicts_are_those_of_the_adapters_apart(
    pair: tuple[Model, Model], composed: Composed, tmp_path: Path, kind: str
) -> None:
    """Tried with: the next adapter's index and control token, and the substitute left in the control token's place."""
    load(pair, composed, tmp_path, KINDS[kind][0])
    arguments = {"what": "so"} if kind == "tagged" else {}
    documents = [{"text": text} for text in DOCUMENTS]
    with (
        open_chat(pair[0], MESSAGES, documents=documents) as one,
        open_chat(pair[1], MESSAGES, documents=documents) as other,
    ):
        composed_verdicts = one.check(*NAMES, arguments=arguments)
        apart = other.check(*NAMES, arguments=arguments)
        for name in NAMES:
            assert_same(composed_verdicts[name], apart[name])
            assert composed_verdicts[name].tokens_evaluated == apart[name].tokens_evaluated
        assert len({verdict.text + str(verdict.value) for verdict in apart.values()}) > 1
        assert_no_trace(one, tolerance=1e-5)


def test_checks_leave_the_conversation_bit_for_bit(
    pair: tuple[Model, Model], composed: Composed, tmp_path: Path
) -> None:
    load(pair, composed, tmp_path, KINDS["labels"][0])
    with open_chat(pair[0], MESSAGES) as chat:
        trunk = chat.trunk
        chat.context.decode()
        kv, logits = trunk.kv_bytes(), trunk.logits()
        verdict = chat.check("safety")
        assert verdict.tokens_evaluated == len(ASSISTANT_PROMPT)
        assert chat.trunk.kv_bytes() == kv
        assert np.array_equal(chat.trunk.logits(), logits)
        chat.add("user", "More.")
        assert_no_trace(chat, tolerance=1e-5)


def rows_of_check(chat: Chat, name: str, monkeypatch: pytest.MonkeyPatch, **arguments: str) -> dict[str, list[int]]:
    """The tokens of the branches on which an intrinsic, and those that it calls, are asked."""
    from alora_cpp.chat import call

    asked: dict[str, list[int]] = {}
    advance = call.Call.advance

    def watched(self: call.Call) -> bool:
        asked.setdefault(self.intrinsic.name, self._branch.tokens)
        return advance(self)

    monkeypatch.setattr(call.Call, "advance", watched)
    chat.check(name, arguments=arguments)
    return asked


def test_the_control_token_takes_the_place_of_the_invocations_first_token(
    pair: tuple[Model, Model], composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(pair, composed, tmp_path, KINDS["labels"][0])
    with open_chat(pair[0], MESSAGES) as chat:
        rows = rows_of_check(chat, "safety", monkeypatch)["safety"]
    assert rows == [*turns(MESSAGES), control_token("safety"), *ASSISTANT_PROMPT[1:]]


def mapped(**entry: object) -> str:
    """`TEMPLATE` behind a composer's table with one adapter in it."""
    table = {"sureness": {"token": "<|certainty|>", **entry}}
    return f"{{%- set adapter_map = {table!r} -%}}\n{TEMPLATE}"


@pytest.fixture(scope="module")
def instructed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Composed, Model, Model]]:
    """Adapters that a text in their instruction invokes, of which one is in the template's table."""
    made = compose(
        tmp_path_factory.mktemp("instructed"),
        invocation=tuple(text_tokens("<certainty>")),
        template=mapped(type="alora", invocation_text="<certainty>"),
    )
    with Model(made.path) as switch, Model(made.base) as base:
        yield made, switch, base


def test_an_invocation_within_the_instruction(
    instructed: tuple[Composed, Model, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the user wrote invokes nothing, though it is the same text."""
    composed, switch, base = instructed
    io = write_io(tmp_path / "asked.yaml", {**KINDS["labels"][0], **ASKING})
    files = composed.write_adapters(tmp_path)
    switch.load_intrinsic("sureness", io_yaml=io)
    base.load_intrinsic(files["certainty"], name="sureness", io_yaml=io)
    said = [{"role": "user", "content": "I say <certainty> too."}]
    with open_chat(switch, said) as one, open_chat(base, said) as other:
        what = {"what": "<certainty>"}
        assert_same(one.check("sureness", arguments=what), other.check("sureness", arguments=what))
        rows = rows_of_check(one, "sureness", monkeypatch, **what)["sureness"]
    judge = text_tokens("Judge: ")
    written = [*turns(said), *template_tokens("<|start_of_role|>user<|end_of_role|>"), *judge]
    assert rows[: len(written) + 2] == [*written, control_token("certainty"), *text_tokens("c")]
    assert [token for token in rows if token >= N_VOCAB] == [control_token("certainty")]


def test_an_adapter_of_which_nothing_says_how_it_is_invoked(instructed: tuple[Composed, Model, Model]) -> None:
    _, switch, _ = instructed
    with pytest.raises(AdapterError, match=r"nothing says what invokes the built-in adapter 'safety'.*token is 34;"):
        switch.load_intrinsic("safety")
    assert switch.load_intrinsic("safety", invocation="<safety>").invocation == tuple(text_tokens("<safety>"))
    with pytest.raises(AdapterError, match=r"'safety' was to govern from \[57\] on, .* stands for the token 34"):
        switch.load_intrinsic("safety", invocation="Safe?")
    with pytest.raises(AdapterError, match=r"'safety' was to govern from \[\] on"):
        switch.load_intrinsic("safety", invocation=())


def test_an_ordinary_lora_governs_the_whole_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The composer's other kind. Tried with: its prompt governed from the reply's beginning on."""
    composed = compose(tmp_path / "lora", template=mapped(type="lora"))
    io = write_io(tmp_path / "asked.yaml", KINDS["labels"][0])
    files = composed.write_adapters(tmp_path)
    with Model(composed.path) as switch, Model(composed.base) as base:
        switch.load_intrinsic("sureness", io_yaml=io)
        with open_chat(switch, MESSAGES) as chat:
            verdict = chat.check("sureness")
            assert verdict.tokens_reused == 0
            assert_no_trace(chat, tolerance=1e-5)
            rows = rows_of_check(chat, "sureness", monkeypatch)["sureness"]
        prompt = [*turns(MESSAGES), *template_tokens(ASSISTANT)]
        assert rows == [control_token("certainty"), *prompt[1:]]
        last = fresh_logits(base, prompt, adapter=base.load_adapter(files["certainty"]))[-1]
        yes, no = (np.exp(float(last[text_tokens(label)[0]])) for label in ("Y", "N"))
        assert verdict.probabilities["Y"] == pytest.approx(yes / (yes + no), abs=1e-4)


def test_one_that_is_asked_may_call_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first one's adapter governs is read again as the base's. Tried with: its control token left therein."""
    plain = compose(tmp_path / "plain")
    free = write_io(tmp_path / "free.yaml", {"parameters": {"max_completion_tokens": 8}})
    labels = write_io(tmp_path / "labels.yaml", KINDS["labels"][0])
    files = plain.write_adapters(tmp_path)
    with Model(plain.base) as base:
        base.load_intrinsic(files["certainty"], io_yaml=free)
        with open_chat(base, MESSAGES) as chat:
            alone = chat.check("certainty").text
        calling = text_tokens(alone)[2:4]
        base.load_intrinsic(files["safety"], io_yaml=labels, invocation=calling)
        with open_chat(base, MESSAGES, may_call=["safety"]) as chat:
            expected = chat.check("certainty").text
    substitutes = Key([ASSISTANT_PROMPT[0], calling[0], 0], Kind.ARRAY, Kind.INT32)
    composed = compose(tmp_path / "called", graniteswitch__adapters__token_ids_substitute=substitutes)
    with Model(composed.path) as switch:
        switch.load_intrinsic("certainty", io_yaml=free)
        switch.load_intrinsic("safety", io_yaml=labels, invocation=calling)
        with open_chat(switch, MESSAGES, may_call=["safety"]) as chat:
            assert chat.check("certainty").text == expected != alone
            rows = rows_of_check(chat, "certainty", monkeypatch)["safety"]
            assert [token for token in rows if token >= N_VOCAB] == [control_token("safety")]
            assert_no_trace(chat, tolerance=1e-5)
