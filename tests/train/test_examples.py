"""Examples to tokens: what is learned from is what the engine asks; and what is refused, with file, line and reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alora_cpp import Model, TrainingError
from alora_cpp.io import parse_io_yaml
from alora_cpp.labelled_data import DataError, LabelledExample
from alora_cpp.train.examples import TokenizedExample, split_off, tokenize_examples
from alora_cpp.train.invocation import Question, choose_invocation
from alora_cpp.train.io_description import describe_io
from alora_cpp.train.options import TrainingOptions
from tiny_chats import ASSISTANT, template_tokens, turn, turns

USER = [{"role": "user", "content": "Is it?"}]
CALLED = "<|start_of_role|>judge<|end_of_role|>"
END = 1


@pytest.fixture(scope="module")
def vocabulary(tiny_base: Path) -> Iterator[Model]:
    with Model(tiny_base, vocabulary_only=True) as model:
        yield model


def labelled(completion: str = "Y", *, where: str = "data.jsonl, line 1", **more: Any) -> LabelledExample:
    return LabelledExample(**{"messages": USER, "completion": completion, "where": where, **more})


def io_text(**settings: Any) -> str:
    return json.dumps({"model": None, "response_format": None, "transformations": [], **settings})


def question(vocabulary: Model, io: str | None = None, **options: Any) -> Question:
    config = parse_io_yaml(io or io_text(), source="io.yaml")
    return choose_invocation(TrainingOptions(name="judge", **options), config, vocabulary, vocabulary.template)


def tokenized(
    vocabulary: Model, asked: Question, *examples: LabelledExample, max_length: int = 512
) -> list[TokenizedExample]:
    return tokenize_examples(examples, asked, vocabulary, vocabulary.template, max_length=max_length)


def test_a_turn_of_its_own_role(vocabulary: Model) -> None:
    example = labelled("Y", documents=[{"text": "Cats purr."}], weight=2.5)
    (found,) = tokenized(vocabulary, question(vocabulary), example)
    conversation = turns(USER, ["Cats purr."])
    assert list(found.prompt) == [*conversation, *template_tokens(CALLED)]
    assert (found.activation, found.answer, found.weight) == (len(conversation), (ord("Y") - 26, END), 2.5)
    assert found.length == len(found.prompt) + 1


@pytest.mark.parametrize(
    ("options", "written", "offset", "sought"),
    [
        ({"activation": "end"}, CALLED, -1, 1),
        ({"activation": "empty"}, ASSISTANT, -1, 1),
        ({"invocation": "<|start_of_role|>x"}, "<|start_of_role|>x", 0, 2),
        ({"invocation": (3, 40)}, "<|start_of_role|>B", 0, 2),
        ({"invocation": ASSISTANT}, ASSISTANT, 0, None),
        ({"invocation": "<ok>", "activation": "end"}, "<ok>", -1, 1),
    ],
)
def test_invocations(options: dict[str, Any], written: str, offset: int, sought: int | None, vocabulary: Model) -> None:
    asked = question(vocabulary, **options)
    (found,) = tokenized(vocabulary, asked, labelled())
    tokens = template_tokens(written)
    assert list(found.prompt) == [*turns(USER), *tokens]
    assert found.activation == len(found.prompt) - (1 if offset else len(tokens))
    adapted = asked.adapted_invocation
    assert adapted == found.prompt[found.activation :]
    assert sought is None or len(adapted) == sought


@pytest.mark.parametrize(("activation", "written"), [("start", CALLED), ("empty", ASSISTANT)])
def test_an_ordinary_lora(activation: str, written: str, vocabulary: Model) -> None:
    asked = question(vocabulary, kind="lora", activation=activation)
    (found,) = tokenized(vocabulary, asked, labelled())
    assert (found.activation, asked.adapted_invocation) == (0, None)
    assert list(found.prompt) == [*turns(USER), *template_tokens(written)]


@pytest.mark.parametrize("activation", ["start", "end", "empty"])
def test_what_the_engine_asks(activation: str, vocabulary: Model, tiny_base: Path, tmp_path: Path) -> None:
    """The prompt and the activation of a real check, with an instruction and tagged sentences."""
    from alora_cpp.chat.conversation import Conversation
    from alora_cpp.chat.prompt import write_prompt
    from tiny import Key, Kind, adapter_file, make_model

    io = io_text(instruction="Is {last_message} right?", sentence_boundaries={"last_message": "i"})
    asked = question(vocabulary, io, activation=activation)
    keys = {
        "adapter__alora__invocation_tokens": Key(list(asked.invocation), Kind.ARRAY, Kind.UINT32),
        "alora__activation_offset": Key(asked.activation_offset, Kind.UINT32),
    }
    file = adapter_file(make_model("granite")).write(tmp_path / "adapter.gguf", **keys)
    (tmp_path / "io.yaml").write_text(io)
    messages = [{"role": "user", "content": "Cats purr. Dogs bark."}]
    (found,) = tokenized(vocabulary, asked, labelled(messages=messages))
    with Model(tiny_base) as model:
        intrinsic = model.load_intrinsic(file, name="judge")
        prompt = write_prompt(intrinsic, Conversation(model.template, messages), {})
    assert (list(found.prompt), found.activation) == (prompt.tokens, prompt.activation)


def test_what_users_write_is_no_control_token(vocabulary: Model) -> None:
    text = f"{CALLED} now"
    (found,) = tokenized(vocabulary, question(vocabulary), labelled(messages=[{"role": "user", "content": text}]))
    assert list(found.prompt) == [*turn("user", text), *template_tokens(CALLED)]


def problems(vocabulary: Model, asked: Question, *examples: LabelledExample, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        tokenized(vocabulary, asked, *examples, **options)
    return str(caught.value)


def test_all_bad_lines_are_told(vocabulary: Model) -> None:
    long = [{"role": "user", "content": "long " * 20}]
    examples = [
        labelled(),
        labelled(where="a.jsonl, line 2", messages=long),
        labelled(where="b.jsonl, line 7", messages=long, completion="N"),
    ]
    told = problems(vocabulary, question(vocabulary), *examples, max_length=60).splitlines()
    assert len(told) == 2
    n_tokens = len(turn("user", "long " * 20)) + len(template_tokens(CALLED)) + 2
    assert told[0].startswith(f"a.jsonl, line 2: the example has {n_tokens} tokens, of which the answer has 2; ")
    assert "expected at most 60" in told[1]
    assert told[1].startswith("b.jsonl, line 7: ")


def test_the_longest_example_there_may_be(vocabulary: Model) -> None:
    asked = question(vocabulary)
    (found,) = tokenized(vocabulary, asked, labelled())
    n_tokens = len(found.prompt) + len(found.answer)
    tokenized(vocabulary, asked, labelled(), max_length=n_tokens)
    assert f"has {n_tokens} tokens" in problems(vocabulary, asked, labelled(), max_length=n_tokens - 1)


@pytest.mark.parametrize(
    ("io", "completion", "found"),
    [
        ({"parameters": {"extra_body": {"structured_outputs": {"choice": ["Y", "N"]}}}}, "y", "'y' is none of"),
        ({"response_format": json.dumps({"enum": [1, 2]})}, "3", "'3' is none of the answers"),
        ({"response_format": json.dumps({"type": "string"})}, "Yes", "'Yes' is no JSON"),
    ],
)
def test_completions_that_the_io_yaml_rules_out(
    io: dict[str, Any], completion: str, found: str, vocabulary: Model
) -> None:
    assert found in problems(vocabulary, question(vocabulary, io_text(**io)), labelled(completion))


def test_an_invocation_that_comes_again(vocabulary: Model) -> None:
    """An instruction holds it before the user's words, which hold it, too: PEFT would take theirs."""
    asked = question(vocabulary, io_text(instruction="<ok> {last_message}"), invocation="<ok>")
    said = [{"role": "user", "content": "is <ok> ok"}]
    assert "are there again at position" in problems(vocabulary, asked, labelled(messages=said))
    tokenized(vocabulary, asked, labelled())


def test_an_instruction_in_which_the_invocation_merges(vocabulary: Model) -> None:
    """In this vocabulary `t` and `h` become one token."""
    asked = question(vocabulary, io_text(instruction="Answer: ath"), invocation="at")
    with pytest.raises(TrainingError, match="merge with their neighbours"):
        tokenized(vocabulary, asked, labelled())
    tokenized(vocabulary, question(vocabulary, io_text(instruction="Answer: at."), invocation="at"), labelled())


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"invocation": (3, 104)}, "the token 104, expected 0 to 103"),
        ({"invocation": (-1,)}, "the token -1"),
        ({"invocation": ""}, "the invocation is empty"),
        ({"invocation": ()}, "the invocation is empty"),
    ],
)
def test_invocations_that_are_none(options: dict[str, Any], found: str, vocabulary: Model) -> None:
    with pytest.raises(TrainingError, match=found):
        question(vocabulary, **options)


def test_templates_without_a_reply_prompt(tiny_base: Path, tmp_path: Path) -> None:
    from tiny_chats import write_chat_model

    silent = "{%- for message in messages -%}{{ message.content }}<|end_of_text|>{%- endfor -%}"
    with Model(write_chat_model(tiny_base, tmp_path / "silent.gguf", silent), vocabulary_only=True) as vocabulary:
        with pytest.raises(TrainingError, match="no role can be put in the assistant's place; give an invocation"):
            question(vocabulary)
        with pytest.raises(TrainingError, match="writes nothing before a reply"):
            question(vocabulary, activation="empty")


class TestSplit:
    """Drawing what is measured on."""

    def test_about_as_many_of_each_label(self) -> None:
        examples = [
            labelled("Y" if i % 4 else "N", messages=[{"role": "user", "content": str(i)}], where=str(i))
            for i in range(80)
        ]
        left, drawn = split_off(examples, share=0.25, seed=3)
        assert [sum(one.completion == label for one in drawn) for label in "YN"] == [15, 5]
        assert sorted([*left, *drawn], key=lambda one: int(one.where)) == examples
        assert split_off(examples, share=0.25, seed=3)[1] == drawn
        assert split_off(examples, share=0.25, seed=4)[1] != drawn

    def test_the_same_conversation_stays_on_one_side(self) -> None:
        examples = [labelled("Y", messages=[{"role": "user", "content": str(i // 2)}]) for i in range(40)]
        left, drawn = split_off(examples, share=0.3, seed=0)
        said = [{json.dumps(one.messages) for one in side} for side in (left, drawn)]
        assert drawn
        assert not said[0] & said[1]

    def test_texts_of_their_own(self) -> None:
        examples = [labelled(str(i), messages=[{"role": "user", "content": str(i)}]) for i in range(50)]
        assert len(split_off(examples, share=0.1, seed=0)[1]) == 5

    @pytest.mark.parametrize(("count", "share", "found"), [(3, 0.1, "measure"), (4, 0.99, "train")])
    def test_too_few(self, count: int, share: float, found: str) -> None:
        examples = [labelled(messages=[{"role": "user", "content": str(i)}]) for i in range(count)]
        with pytest.raises(TrainingError, match=f"leaves none to {found} on"):
            split_off(examples, share=share, seed=0)


class TestIoDescription:
    """The io.yaml that is made from answers."""

    def described(self, vocabulary: Model, *completions: str) -> Any:
        text = describe_io("judge", [labelled(one) for one in completions], vocabulary)
        return parse_io_yaml(text, source="io.yaml")

    @pytest.mark.parametrize(
        ("completions", "values"),
        [
            (["Y", "N", "Y", "N"], {"Y": 1.0, "N": 0.0}),
            (["no", "Yes", "Yes", "no"], {"Yes": 1.0, "no": 0.0}),
            (["0", "7", "10", "7", "10", "0"], {"0": 0.0, "7": 7.0, "10": 10.0}),
            (["cat", "dog", "cat", "dog"], None),
            (["Y", "N", "?", "Y", "N", "?"], None),
        ],
    )
    def test_labels(self, completions: list[str], values: dict[str, float] | None, vocabulary: Model) -> None:
        config = self.described(vocabulary, *completions)
        assert config.choices == tuple(sorted(set(completions)))
        assert [one.categories_to_values for one in config.transformations] == ([values] if values else [])

    def test_texts(self, vocabulary: Model) -> None:
        config = self.described(vocabulary, "it is so", "no")
        assert (config.choices, config.transformations) == ((), ())
        assert config.parameters.max_tokens == 2 * len("it is so")
