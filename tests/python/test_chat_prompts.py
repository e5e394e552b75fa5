"""What an intrinsic reads and from which token on its adapter governs, computed here from the rendered text.

Each verdict is compared with one computed in a context of its own, from tokens and a position found without our code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alora_cpp import ArgumentError, Chat, Intrinsic, Model
from tiny import INVOCATION, Key, Kind, rewrite_gguf
from tiny_chats import (
    ASSISTANT,
    DOCUMENTS,
    KINDS,
    load,
    open_chat,
    template_tokens,
    text_tokens,
    turn,
    turns,
    write_chat_model,
    yes_or_no,
)

MESSAGES = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Is the cat here? It purrs."},
    {"role": "assistant", "content": "Yes. It is."},
    {"role": "user", "content": "And the dog?"},
]
YES_OR_NO = KINDS["labels"][0]
PLAIN = "<certainty>"


@pytest.fixture(scope="module")
def chat_model(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    with Model(write_chat_model(model_path, tmp_path_factory.mktemp("prompts") / "model.gguf")) as model:
        yield model


@pytest.fixture
def chat(chat_model: Model) -> Iterator[Chat]:
    with open_chat(chat_model, MESSAGES, documents=DOCUMENTS) as chat:
        yield chat


def last_occurrence(tokens: list[int], invocation: list[int]) -> int:
    """PEFT's rule."""
    width = len(invocation)
    return max(at for at in range(len(tokens) - width + 1) if tokens[at : at + width] == invocation)


def log_odds(probabilities: Mapping[str, float]) -> float:
    return float(np.log(probabilities["Y"] / probabilities["N"]))


def assert_asked(chat: Chat, intrinsic: Intrinsic, tokens: list[int], at: int, **arguments: Any) -> None:
    asked = log_odds(chat.check(intrinsic.name, arguments=arguments).probabilities)
    model = chat.context.model
    # One position off gives another answer.
    for position in (at - 1, at, at + 1):
        if 0 <= position < len(tokens):
            difference = abs(asked - log_odds(yes_or_no(model, intrinsic.adapter, tokens, position)))
            assert difference < 5e-5 if position == at else difference > 3e-4, (position, at, difference)


def test_an_invocation_that_the_prompt_lacks_follows_the_conversation(
    chat: Chat, chat_model: Model, adapter_paths: list[Path], tmp_path: Path
) -> None:
    intrinsic = load(chat_model, adapter_paths[0], tmp_path, "appended", YES_OR_NO)
    tokens = [*turns(MESSAGES, DOCUMENTS), *INVOCATION]
    assert_asked(chat, intrinsic, tokens, last_occurrence(tokens, list(INVOCATION)))


def test_an_invocation_with_control_tokens_follows_the_conversation(
    chat: Chat, chat_model: Model, adapter_paths: list[Path], tmp_path: Path
) -> None:
    role = "<|start_of_role|>judge<|end_of_role|>"
    intrinsic = load(chat_model, adapter_paths[0], tmp_path, "role", YES_OR_NO, invocation=role)
    tokens = [*turns(MESSAGES, DOCUMENTS), *template_tokens(role)]
    assert_asked(chat, intrinsic, tokens, last_occurrence(tokens, template_tokens(role)))


def test_the_prompt_that_begins_a_reply_may_be_the_invocation(
    chat: Chat, chat_model: Model, adapter_paths: list[Path], tmp_path: Path
) -> None:
    """An earlier reply begins with the same tokens: the last occurrence counts, and it is not appended once more."""
    intrinsic = load(chat_model, adapter_paths[0], tmp_path, "assistant", YES_OR_NO, invocation=ASSISTANT)
    tokens = [*turns(MESSAGES, DOCUMENTS), *template_tokens(ASSISTANT)]
    assert_asked(chat, intrinsic, tokens, last_occurrence(tokens, template_tokens(ASSISTANT)))


@pytest.mark.parametrize(
    ("instruction", "filled"),
    [
        (f"{PLAIN} Is it true?", f"{PLAIN} Is it true?"),
        (f"Is it true? {PLAIN}", f"Is it true? {PLAIN}"),
        (f"{PLAIN} twice {PLAIN}!", f"{PLAIN} twice {PLAIN}!"),
        (f"{PLAIN} Is {{last_message}} true?", f"{PLAIN} Is And the dog? true?"),
        (f"Is {{last_message}} true? {PLAIN}.", f"Is And the dog? true? {PLAIN}."),
        (f"{{last_message}}{PLAIN}", f"And the dog?{PLAIN}"),
        (f"{PLAIN}{{last_message}}", f"{PLAIN}And the dog?"),
        (f"{PLAIN} {{last_message}} {{what}} {PLAIN}", f"{PLAIN} And the dog? it {PLAIN}"),
        (f"By {{what}}: {PLAIN} of {{last_message}}.", f"By it: {PLAIN} of And the dog?."),
    ],
)
def test_an_instruction_may_hold_the_invocation(
    chat: Chat, chat_model: Model, adapter_paths: list[Path], tmp_path: Path, instruction: str, filled: str
) -> None:
    io = {**YES_OR_NO, "instruction": instruction}
    intrinsic = load(chat_model, adapter_paths[0], tmp_path, "instructed", io, invocation=PLAIN)
    tokens = [*turns([*MESSAGES, {"role": "user", "content": filled}], DOCUMENTS), *template_tokens(ASSISTANT)]
    assert_asked(chat, intrinsic, tokens, last_occurrence(tokens, text_tokens(PLAIN)), what="it")


def test_an_instruction_without_the_invocation_is_followed_by_it(
    chat: Chat, chat_model: Model, adapter_paths: list[Path], tmp_path: Path
) -> None:
    io = {**YES_OR_NO, "instruction": "Is it true?"}
    intrinsic = load(chat_model, adapter_paths[0], tmp_path, "instructed", io)
    tokens = [*turns([*MESSAGES, {"role": "user", "content": "Is it true?"}], DOCUMENTS), *INVOCATION]
    assert_asked(chat, intrinsic, tokens, len(tokens) - 3)


def test_a_legacy_adapter_governs_from_its_second_token_on(
    chat: Chat, chat_model: Model, adapter_paths: list[Path], tmp_path: Path
) -> None:
    legacy = rewrite_gguf(adapter_paths[0], tmp_path / "legacy.gguf", alora__activation_offset=Key(1, Kind.UINT32))
    intrinsic = load(chat_model, legacy, tmp_path, "legacy", YES_OR_NO)
    tokens = [*turns(MESSAGES, DOCUMENTS), *INVOCATION]
    assert_asked(chat, intrinsic, tokens, len(tokens) - 2)
    instructed = load(
        chat_model, legacy, tmp_path, "legacy", {**YES_OR_NO, "instruction": f"Say {PLAIN} now"}, invocation=PLAIN
    )
    asked = {"role": "user", "content": f"Say {PLAIN} now"}
    tokens = [*turns([*MESSAGES, asked], DOCUMENTS), *template_tokens(ASSISTANT)]
    assert_asked(chat, instructed, tokens, last_occurrence(tokens, text_tokens(PLAIN)) + 1)


@pytest.mark.parametrize("invocation", [None, ASSISTANT, (9,)])
def test_activation_at_the_end_governs_the_invocations_last_token_only(
    chat: Chat, chat_model: Model, adapter_paths: list[Path], tmp_path: Path, invocation: Any
) -> None:
    intrinsic = load(chat_model, adapter_paths[0], tmp_path, "end", YES_OR_NO, invocation=invocation, activation="end")
    called = {None: list(INVOCATION), ASSISTANT: template_tokens(ASSISTANT), (9,): [9]}[invocation]
    tokens = [*turns(MESSAGES, DOCUMENTS), *called]
    assert_asked(chat, intrinsic, tokens, len(tokens) - 1)


def test_without_an_invocation_it_governs_the_row_that_predicts_the_answer(
    chat: Chat, chat_model: Model, adapter_paths: list[Path], tmp_path: Path
) -> None:
    intrinsic = load(chat_model, adapter_paths[0], tmp_path, "none", YES_OR_NO, invocation=())
    tokens = [*turns(MESSAGES, DOCUMENTS), *template_tokens(ASSISTANT)]
    assert_asked(chat, intrinsic, tokens, len(tokens) - 1)


def test_tagged_sentences_and_documents_as_a_message_are_what_is_read(
    chat: Chat, chat_model: Model, adapter_paths: list[Path], tmp_path: Path
) -> None:
    io, _ = KINDS["tagged"]
    intrinsic = load(chat_model, adapter_paths[0], tmp_path, "tagged", io)
    last = "<i0> And the dog?"
    said = [
        {
            "role": "user",
            "content": "You have access to the following documents:\n\n[Document 1]\n<d0> Cats purr. <d1> Dogs bark.",
        },
        {"role": "system", "content": "<m2> Be kind."},
        {"role": "user", "content": "<m3> Is the cat here? <m4> It purrs."},
        {"role": "assistant", "content": "<m5> Yes. <m6> It is."},
        {"role": "user", "content": last},
        {"role": "user", "content": f"Is {last} sad?"},
    ]
    tokens = [*turns(said), *INVOCATION]
    assert_asked(chat, intrinsic, tokens, len(tokens) - 3, what="sad")


def test_documents_as_roles_are_what_is_read(
    chat: Chat, chat_model: Model, adapter_paths: list[Path], tmp_path: Path
) -> None:
    intrinsic = load(chat_model, adapter_paths[0], tmp_path, "roles", KINDS["documents-as-roles"][0])
    said = [{"role": "document 1", "content": DOCUMENTS[0]}, *MESSAGES]
    tokens = [*turns(said), *INVOCATION]
    assert_asked(chat, intrinsic, tokens, len(tokens) - 3)


def test_replies_keep_their_tokens_in_a_rewritten_prompt(
    chat_model: Model, adapter_paths: list[Path], tmp_path: Path
) -> None:
    """The model wrote `t`, `h`; the tokenizer would make one token of it."""
    io = {**YES_OR_NO, "instruction": "Well?"}
    intrinsic = load(chat_model, adapter_paths[0], tmp_path, "written", io)
    with open_chat(chat_model, MESSAGES) as chat:
        written = [90, 78, *text_tokens("en")]
        assert chat_model.tokenize("then") != written
        chat.transcript.add_generated("then", written)
        said = [*MESSAGES, {"role": "assistant", "content": "then"}, {"role": "user", "content": "Well?"}]
        tokens = [*turns(said, written={4: written}), *INVOCATION]
        assert_asked(chat, intrinsic, tokens, len(tokens) - 3)
        # Also where a document comes before it as a message.
        by_roles = load(chat_model, adapter_paths[0], tmp_path, "roles", KINDS["documents-as-roles"][0])
        chat.documents.append({"text": DOCUMENTS[0]})
        said = [{"role": "document 1", "content": DOCUMENTS[0]}, *said[:-1]]
        tokens = [*turns(said, written={5: written}), *INVOCATION]
        assert_asked(chat, by_roles, tokens, len(tokens) - 3)


def test_template_options_reach_the_template(model_path: Path, adapter_paths: list[Path], tmp_path: Path) -> None:
    template = "{{ mood }}:{{ messages[-1].content }}{% if add_generation_prompt %}\n!{% endif %}"
    with Model(write_chat_model(model_path, tmp_path / "model.gguf", template)) as model:
        io = {
            **YES_OR_NO,
            "parameters": {
                **YES_OR_NO["parameters"],
                "extra_body": {**YES_OR_NO["parameters"]["extra_body"], "chat_template_kwargs": {"mood": "sad"}},
            },
        }
        sad = load(model, adapter_paths[0], tmp_path, "sad", io)
        plain = load(model, adapter_paths[0], tmp_path, "plain", YES_OR_NO)
        with open_chat(model, [{"role": "user", "content": "Hi"}], template_options={"mood": "gay"}) as chat:
            for intrinsic, mood in ((sad, "sad"), (plain, "gay"), (sad, "sad")):
                tokens = [*text_tokens(f"{mood}:Hi"), *INVOCATION]
                assert_asked(chat, intrinsic, tokens, len(tokens) - 3)
            assert chat.trunk.tokens == text_tokens("gay:Hi")


def test_a_missing_argument_is_told(chat: Chat, chat_model: Model, adapter_paths: list[Path], tmp_path: Path) -> None:
    load(chat_model, adapter_paths[0], tmp_path, "instructed", {**YES_OR_NO, "instruction": "By {what}?"})
    with pytest.raises(ArgumentError, match="needs what; given are whom"):
        chat.check("instructed", arguments={"whom": "me"})
    assert chat.context.n_branches == 1
    assert chat.check("instructed", arguments={"what": "me"}).label in {"Y", "N"}


def test_turn_is_what_the_template_writes(chat_model: Model) -> None:
    """The independent rendering of these tests, against the model's own."""
    tokens = chat_model.template.tokenize(MESSAGES, documents=[{"text": DOCUMENTS[0]}], add_generation_prompt=True)
    assert tokens == [*turns(MESSAGES, DOCUMENTS), *template_tokens(ASSISTANT)]
    assert turn("user", "hi") == [3, *text_tokens("user"), 4, *text_tokens("hi"), 1, 6]
