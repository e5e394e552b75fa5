"""Intrinsics on labelled conversations: what is read, what is asked, and what counts as right."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from alora_cpp.evaluation import Judged, ask, evaluate
from alora_cpp.evaluation.evaluation import evaluation_of
from alora_cpp.evaluation.scale import Scale, expected_label, scale_of
from alora_cpp.labelled_data import DataError, LabelledExample
from alora_cpp.verdict import Verdict
from tiny_chats import load, open_chat

if TYPE_CHECKING:
    from alora_cpp import Chat, Model

HELLO = [{"role": "user", "content": "Hello there"}]
LONGER = [*HELLO, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Again"}]
OTHER = [{"role": "user", "content": "the cat"}]


def labelled(messages: Sequence[dict[str, Any]], completion: str, **others: Any) -> LabelledExample:
    return LabelledExample(messages, completion, **others)


@pytest.fixture
def chat(chat_model: Model) -> Iterator[Chat]:
    with open_chat(chat_model) as chat:
        yield chat


class TestAsk:
    def test_verdicts_are_those_of_a_chat_of_its_own(self, chat: Chat, chat_model: Model) -> None:
        documents = [{"text": "Cats purr."}]
        examples = {
            "labels": [labelled(OTHER, "Y"), labelled(LONGER, "N"), labelled(HELLO, "N", documents=documents)],
            "closed-json": [labelled(LONGER, "yes"), labelled(OTHER, "no"), labelled(OTHER, "yes", origin="twice")],
        }
        shares: list[float] = []
        judged = ask(chat, examples, progress=shares.append)
        assert shares == pytest.approx([1 / 3, 2 / 3, 1.0])
        for name, asked in examples.items():
            assert [one.example for one in judged[name]] == asked
            for one in judged[name]:
                with open_chat(chat_model, one.example.messages, documents=one.example.documents) as alone:
                    expected = alone.check(name)
                assert one.error is None
                assert one.verdict is not None
                assert (one.verdict.intrinsic, one.verdict.label) == (name, expected.label)
                assert one.verdict.probabilities == pytest.approx(expected.probabilities, abs=1e-5)

    def test_a_conversation_is_read_once_for_all_intrinsics(self, chat_model: Model) -> None:
        names = ("labels", "closed-json", "assistant")
        n_read = {name: rows(chat_model, {name: [labelled(LONGER, "x")]}) for name in names}
        with open_chat(chat_model, LONGER) as alone:
            n_conversation = alone.trunk.length
        together = rows(chat_model, {name: [labelled(LONGER, "x")] for name in names})
        assert together == n_conversation + sum(n - n_conversation for n in n_read.values())

    def test_what_conversations_begin_with_alike_is_read_once(self, chat_model: Model) -> None:
        other_longer = [*OTHER, *LONGER[1:]]
        # In whatever order they come.
        mixed = [labelled(messages, "Y") for messages in (HELLO, OTHER, LONGER, other_longer)]
        alone = sum(rows(chat_model, {"labels": [one]}) for one in mixed)
        n_shared = 0
        for messages in (HELLO, OTHER):
            with open_chat(chat_model, messages) as short:
                n_shared += short.trunk.length
        assert rows(chat_model, {"labels": mixed}) <= alone - n_shared

    def test_the_same_conversation_twice_is_asked_about_once(self, chat_model: Model) -> None:
        one = rows(chat_model, {"labels": [labelled(HELLO, "Y")]})
        assert rows(chat_model, {"labels": [labelled(HELLO, "Y"), labelled(HELLO, "N")]}) == one

    def test_one_that_fails_keeps_no_other_from_answering(self, chat: Chat) -> None:
        examples = {name: [labelled(HELLO, "Y")] for name in ("labels", "no-json", "tagged")}
        judged = {name: one for name, (one,) in ask(chat, examples).items()}
        assert judged["labels"].verdict is not None
        assert judged["no-json"].verdict is None
        assert "is no JSON" in (judged["no-json"].error or "")
        assert "what" in (judged["tagged"].error or "")
        assert chat.context.n_branches == 1

    def test_arguments_reach_the_instruction(self, chat: Chat) -> None:
        examples = {name: [labelled(HELLO, "Y")] for name in ("tagged", "no-json")}
        judged = ask(chat, examples, arguments={"what": "true"})
        assert judged["tagged"][0].verdict is not None
        assert judged["no-json"][0].verdict is None

    def test_what_is_too_long_fails_and_the_next_is_answered(self, chat_model: Model) -> None:
        long = [{"role": "user", "content": "Hello " * 100}]
        with open_chat(chat_model, n_ctx=256) as chat:
            examples = [labelled(HELLO, "Y"), labelled(long, "Y"), labelled(OTHER, "Y"), labelled(HELLO, "Y")]
            judged = ask(chat, {"labels": examples, "assistant": examples[1:2]})
        assert [one.verdict is None for one in judged["labels"]] == [False, True, False, False]
        assert "256" in (judged["labels"][1].error or "")
        assert judged["assistant"][0].error == judged["labels"][1].error


def rows(model: Model, examples: dict[str, list[LabelledExample]]) -> int:
    with open_chat(model) as chat:
        ask(chat, examples)
        return chat.context.counters.rows_decoded


class TestScale:
    def test_values_order_the_labels(self, model: Model, adapter_paths: list[Path], tmp_path: Path) -> None:
        values = {"low": 0.1, "top": 0.9, "middle": 0.5}
        choices = {"extra_body": {"structured_outputs": {"choice": list(values)}}}
        likelihood = {"type": "likelihood", "input_path": [], "categories_to_values": values}
        worth = load(
            model, adapter_paths[0], tmp_path, "worth", {"parameters": choices, "transformations": [likelihood]}
        )
        assert scale_of(worth) == Scale(("low", "middle", "top"), (0.1, 0.5, 0.9))
        assert scale_of(worth).has_steps
        plain = load(model, adapter_paths[0], tmp_path, "plain", {"parameters": choices})
        assert scale_of(plain) == Scale(("low", "top", "middle"))
        assert not scale_of(plain).has_steps
        numbers = {"response_format": '{"type": "integer", "enum": [10, 9, 2]}'}
        digits = load(model, adapter_paths[0], tmp_path, "digits", numbers)
        assert scale_of(digits) == Scale(("2", "9", "10"), (2.0, 9.0, 10.0))
        assert scale_of(load(model, adapter_paths[0], tmp_path, "text", {})) == Scale(())

    def test_yes_and_no_have_no_steps(self, chat_model: Model) -> None:
        scale = scale_of(chat_model.intrinsic("labels"))
        assert scale == Scale(("N", "Y"), (0.0, 1.0))
        assert not scale.has_steps

    @pytest.mark.parametrize(
        ("completion", "label"),
        [
            ("yes", "yes"),
            ('{"score": "no"}', "no"),
            ('{ "score":"no" }', "no"),
            ('"yes"', None),
            ("Yes", None),
            ('{"score": "maybe"}', None),
            ("[" * 100_000, None),
        ],
    )
    def test_a_completion_is_the_label_or_the_whole_answer(
        self, chat_model: Model, completion: str, label: str | None
    ) -> None:
        assert expected_label(chat_model.intrinsic("closed-json"), completion) == label

    def test_the_keys_of_an_answer_come_in_any_order(
        self, model: Model, adapter_paths: list[Path], tmp_path: Path
    ) -> None:
        either = {"enum": ["x", "y"]}
        schema = {"type": "object", "properties": {"a": either, "b": either}, "required": ["a", "b"]}
        pair = load(model, adapter_paths[0], tmp_path, "pair", {"response_format": json.dumps(schema)})
        assert len(pair.labels) == 4
        label = expected_label(pair, '{"b": "y", "a": "x"}')
        assert label in pair.labels
        assert json.loads(label or "") == {"a": "x", "b": "y"}


class TestEvaluate:
    def test_completions_that_are_no_answers_are_refused_before_anything_is_asked(self, chat_model: Model) -> None:
        told: list[float] = []
        good = labelled(HELLO, "Y", where="a.jsonl, line 1")
        bad = [labelled(HELLO, "maybe", where=f"a.jsonl, line {number}") for number in (2, 3)]
        with pytest.raises(DataError) as caught:
            evaluate(chat_model, {"labels": [good, *bad]}, progress=told.append)
        lines = str(caught.value).splitlines()
        assert lines[0] == "a.jsonl, line 2: the completion 'maybe' is no answer of 'labels'; expected 'Y', 'N'"
        assert lines[1].startswith("a.jsonl, line 3: ")
        assert told == []

    def test_failures_are_listed_and_not_counted(self, chat_model: Model) -> None:
        long = [{"role": "user", "content": "Hello " * 200}]
        examples = [labelled(long, "Y", origin="long", where="a.jsonl, line 1"), labelled(HELLO, "Y", origin="short")]
        found = evaluate(chat_model, {"labels": examples, "no-json": examples[1:]}, n_ctx=256, n_threads=1)
        evaluation = found["labels"]
        assert evaluation.overall is not None
        assert evaluation.overall.n == 1
        assert list(evaluation.by_origin) == ["short"]
        plain = evaluation.as_dict()
        assert plain["examples"] == 2
        assert [one["where"] for one in plain["failed"]] == ["a.jsonl, line 1"]
        nothing = found["no-json"]
        assert (nothing.overall, nothing.by_origin, len(nothing.failed)) == (None, {}, 1)
        assert nothing.as_dict()["overall"] is None

    def test_text_is_compared_by_content_and_by_words(self, chat_model: Model) -> None:
        free = chat_model.intrinsic("free")
        pairs = [
            ("When did it  open?\n", "When did it open?"),
            ('{"a":  ["x y", 2]}', '{"a": ["x y", 2]}'),
            ("When did the mill open?", "when did it open"),
            ('{"a": "one two"}', '{"b": "two"}'),
        ]
        judged = [Judged(labelled(HELLO, expected), Verdict("free", None, None, text=said)) for said, expected in pairs]
        overall = evaluation_of(free, judged).overall
        assert overall is not None
        assert overall.figures["exact_match"].value == 0.5
        assert overall.figures["token_f1"].value == pytest.approx((1 + 1 + 2 * 3 / 9 + 2 / 3) / 4)
        assert set(overall.figures) == {"exact_match", "token_f1"}
        assert overall.reliability is None

    def test_figures_of_a_scale(self, model: Model, adapter_paths: list[Path], tmp_path: Path) -> None:
        values = {"low": 0.0, "middle": 0.5, "top": 1.0}
        io = {
            "parameters": {"extra_body": {"structured_outputs": {"choice": ["top", "low", "middle"]}}},
            "transformations": [{"type": "likelihood", "input_path": [], "categories_to_values": values}],
        }
        intrinsic = load(model, adapter_paths[0], tmp_path, "scale", io)

        def judged(expected: str, correct: bool, *shares: float) -> Judged:
            probabilities = dict(zip(values, shares, strict=True))
            said = max(probabilities, key=probabilities.__getitem__)
            value = sum(share * values[label] for label, share in probabilities.items())
            verdict = Verdict("scale", said, probabilities[said], probabilities, value, text=said)
            return Judged(labelled(HELLO, expected, correct=correct), verdict)

        # The second one says `low`, and its median is `middle`.
        found = [judged("top", True, 0.0, 0.2, 0.8), judged("top", False, 0.4, 0.25, 0.35)]
        overall = evaluation_of(intrinsic, found).overall
        assert overall is not None
        figures = {name: figure.value for name, figure in overall.figures.items()}
        assert figures["error"] == figures["accuracy"] == 0.5
        assert figures["label_distance"] == pytest.approx((0 + 1) / 2)
        assert figures["value_distance"] == pytest.approx((0.1 + 0.525) / 2)
        assert figures["calibration_error"] == pytest.approx((0.2 + 0.4) / 2)
        assert figures["reply_calibration_error"] == pytest.approx((0.1 + 0.475) / 2)
        assert figures["reply_brier"] == pytest.approx((0.1**2 + 0.475**2) / 2)
        assert figures["reply_auroc"] == 1.0
        assert overall.confusion == [[0, 0, 0], [0, 0, 0], [1, 0, 1]]
        assert overall.per_label == {
            "low": {"precision": 0.0, "recall": None, "f1": 0.0},
            "top": {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3)},
        }
        assert overall.reliability is not None
        assert overall.reliability.of == "value"
        assert overall.reliability.counts == [0, 0, 0, 0, 1, 0, 0, 0, 0, 1]

    def test_replies_are_compared_only_where_all_of_them_are_known(self, chat_model: Model) -> None:
        verdict = Verdict("labels", "Y", 0.9, {"Y": 0.9, "N": 0.1}, 0.9, text="Y")
        known = [Judged(labelled(HELLO, "Y", correct=True), verdict), Judged(labelled(HELLO, "Y"), verdict)]
        overall = evaluation_of(chat_model.intrinsic("labels"), known).overall
        assert overall is not None
        assert not any(name.startswith("reply") for name in overall.figures)
        assert overall.reliability is not None
        assert overall.reliability.of == "label"

    def test_a_value_that_is_no_share_says_nothing_of_replies(self, chat_model: Model) -> None:
        verdict = Verdict("labels", "Y", 0.9, {"Y": 0.9, "N": 0.1}, 7.5, text="Y")
        overall = evaluation_of(
            chat_model.intrinsic("labels"), [Judged(labelled(HELLO, "Y", correct=True), verdict)]
        ).overall
        assert overall is not None
        assert "reply_brier" not in overall.figures
