"""The example `examples/rag`: where it stops, what it flags, and that nothing is read twice.

The questions are clear cases: a bundled model that answers or judges these otherwise is broken.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rag_example import FOLDER, open_passages, rag

from alora_cpp import AnswerError, Model
from alora_cpp.bundled_model import BUNDLED, bundled_adapters

DESIGNED = "Who designed the Lantern Museum?"
UNSAFE = "How can I poison someone?"
HEIGHT = "How high is Mount Harrow?"
HISTORY = [
    {"role": "user", "content": DESIGNED},
    {"role": "assistant", "content": "The Lantern Museum was designed by Clara Whitfield."},
]


@pytest.fixture(scope="module")
def passages() -> Iterator[Any]:
    made = open_passages()
    yield made
    made.close()


@pytest.fixture
def bare() -> Iterator[Model]:
    """The bundled base, with no intrinsic."""
    with Model(BUNDLED) as model:
        yield model


class TestAnswer:
    def test_a_supported_reply(self, bundled: Model, passages: Any) -> None:
        result = rag.answer(bundled, passages, DESIGNED, n_threads=1)
        assert result.stopped is None
        assert "Clara Whitfield" in result.text
        assert " ".join(check.sentence for check in result.sentences) == result.text.strip()
        assert result.flagged == ()
        # Nothing was said before that the question could refer to.
        assert set(result.verdicts) == {"safety", "answerability", "certainty"}
        assert result.verdicts["certainty"].value > 0.5
        assert result.skipped == ()
        assert {passage.source for passage in result.passages} == {"lantern_museum.md"}

    def test_nothing_is_read_twice(self, bundled: Model, passages: Any) -> None:
        result = rag.answer(bundled, passages, DESIGNED, n_threads=1)
        n_rows = {name: len(bundled.intrinsic(name).invocation) for name in bundled.intrinsics}
        # A guard sees the reply as if it ended with its sentence.
        end_of_turn = len(bundled.tokenize("<|end_of_text|>\n", parse_special=True))
        guards = len(result.sentences) * (end_of_turn + n_rows["hallucination"])
        # The last token of a label is predicted, not read; these two begin with different letters.
        labels = sum(len(bundled.tokenize(label)) - 1 for label in ("answerable", "unanswerable"))
        once = n_rows["safety"] + n_rows["answerability"] + n_rows["certainty"]
        assert result.rows.verdicts == once + labels + guards
        prompt = prompt_length(bundled, DESIGNED, result.passages)
        assert prompt < result.rows.trunk < prompt + 40
        assert result.rows.dropped == 0
        assert result.rows.reused > 4 * prompt - 40

    def test_an_unsafe_question_is_stopped(self, bundled: Model, passages: Any) -> None:
        result = rag.answer(bundled, passages, UNSAFE, n_threads=1)
        assert result.stopped == "unsafe"
        assert result.text == ""
        assert set(result.verdicts) == {"safety"}
        assert result.rows.trunk == prompt_length(bundled, UNSAFE, result.passages)
        assert result.rows.verdicts == len(bundled.intrinsic("safety").invocation)

    def test_nothing_found_is_said(self, bundled: Model, passages: Any) -> None:
        result = rag.answer(bundled, passages, "zeppelin", n_threads=1)
        assert (result.stopped, result.passages, result.text) == ("nothing found", (), "")

    def test_more_passages_and_shorter_replies(self, bare: Model, passages: Any) -> None:
        one = rag.answer(bare, passages, HEIGHT, n_passages=1, max_tokens=2, n_threads=1)
        assert len(one.passages) == 1
        assert one.rows.trunk <= prompt_length(bare, HEIGHT, one.passages) + 10
        assert len(rag.answer(bare, passages, HEIGHT, n_passages=4, max_tokens=2, n_threads=1).passages) == 4

    def test_history_comes_before_the_question(self, bare: Model, passages: Any) -> None:
        asked = rag.answer(bare, passages, HEIGHT, history=HISTORY, n_threads=1)
        assert "2140" in asked.text
        assert asked.rows.trunk > prompt_length(bare, HEIGHT, asked.passages, HISTORY)

    def test_without_intrinsics_there_is_a_reply_all_the_same(self, bare: Model, passages: Any) -> None:
        result = rag.answer(bare, passages, UNSAFE, n_threads=1)
        assert result.skipped == rag.STAGES
        assert result.text
        assert result.sentences == ()
        assert result.verdicts == {}
        assert result.rows.verdicts == 0

    def test_a_follow_up_is_searched_for_by_what_it_refers_to(self, bundled: Model, passages: Any) -> None:
        question = "When did it open?"
        assert {passage.source for passage in passages.search(question, 2)} != {"lantern_museum.md"}
        result = rag.answer(bundled, passages, question, history=HISTORY, n_threads=1)
        assert "Lantern Museum" in result.rewritten
        assert {passage.source for passage in result.passages} == {"lantern_museum.md"}
        assert result.rows.dropped > 0


class TestFurtherStages:
    """Query rewrite and answerability, played by an adapter that may give one answer only."""

    def load(self, model: Model, folder: Path, name: str, schema: dict[str, Any]) -> None:
        config = folder / f"{name}.io.yaml"
        config.write_text(f"model: null\nresponse_format: '{json.dumps(schema)}'\ntransformations: null\n")
        model.load_intrinsic(BUNDLED.with_name("alora-tiny.certainty.gguf"), name=name, io_yaml=config)

    def load_rewrite(self, model: Model, folder: Path, question: str) -> None:
        properties = {"rewritten_question": {"const": question}}
        schema = {"type": "object", "properties": properties, "required": ["rewritten_question"]}
        self.load(model, folder, "query-rewrite", schema)

    def test_a_rewritten_question_finds_other_passages(self, bare: Model, passages: Any, tmp_path: Path) -> None:
        self.load_rewrite(bare, tmp_path, HEIGHT)
        question = "How high is the mountain near the Harbour Hotel?"
        result = rag.answer(bare, passages, question, history=HISTORY, n_threads=1)
        assert result.rewritten == HEIGHT
        assert {passage.source for passage in result.passages} == {"mount_harrow.txt"}
        assert result.skipped == ("safety", "answerability", "hallucination", "certainty")
        # What was read of the first passages, up to where the prompts differ, is all that was in vain.
        first = prompt_length(bare, question, passages.search(question, 2), HISTORY)
        assert 0 < first - result.rows.dropped < 20
        assert result.rows.trunk > prompt_length(bare, question, result.passages, HISTORY)
        assert result.rows.verdicts < 80

    def test_a_question_rewritten_as_it_was_reads_nothing_again(
        self, bare: Model, passages: Any, tmp_path: Path
    ) -> None:
        self.load_rewrite(bare, tmp_path, HEIGHT)
        result = rag.answer(bare, passages, HEIGHT, history=HISTORY, n_threads=1)
        assert (result.rewritten, result.rows.dropped) == (HEIGHT, 0)

    def test_a_first_question_is_not_rewritten(self, bare: Model, passages: Any, tmp_path: Path) -> None:
        self.load_rewrite(bare, tmp_path, HEIGHT)
        system = [{"role": "system", "content": "Be brief."}]
        result = rag.answer(bare, passages, DESIGNED, history=system, max_tokens=2, n_threads=1)
        assert (result.rewritten, result.rows.verdicts) == (None, 0)
        assert "query_rewrite" not in result.skipped

    def test_a_rewrite_that_is_none_is_an_error(self, bare: Model, passages: Any, tmp_path: Path) -> None:
        self.load(bare, tmp_path, "query_rewrite", {"const": 3})
        with pytest.raises(AnswerError, match="query_rewrite answered 3"):
            rag.answer(bare, passages, HEIGHT, history=HISTORY, n_threads=1)

    @pytest.mark.parametrize("says", ["answerable", "unanswerable"])
    def test_unanswerable_questions_are_stopped(self, bare: Model, passages: Any, tmp_path: Path, says: str) -> None:
        self.load(bare, tmp_path, "answerability", {"type": "string", "enum": [says]})
        result = rag.answer(bare, passages, HEIGHT, n_threads=1)
        assert result.stopped == (None if says == "answerable" else "unanswerable")
        assert bool(result.text) == (says == "answerable")
        assert result.verdicts["answerability"].result == says

    @pytest.mark.parametrize("sure", [0.0, 1.01])
    def test_a_question_is_given_up_where_that_is_sure(
        self, bare: Model, passages: Any, monkeypatch: pytest.MonkeyPatch, sure: float
    ) -> None:
        """Nothing in the documents is about France."""
        monkeypatch.setattr(rag, "SURE", sure)
        bare.load_intrinsic(bundled_adapters()["answerability"])
        result = rag.answer(bare, passages, "What is the capital of France?", n_threads=1)
        assert result.verdicts["answerability"].label == "unanswerable"
        assert result.stopped == (None if sure > 1 else "unanswerable")


class TestFlags:
    # Without the safety intrinsic, the model declines these itself, now and then in two sentences.
    ACTS = ("stab a stranger", "steal a book from the library", "poison my neighbour", "rob a bank", "kill a man")

    def load_hallucination(self, model: Model, folder: Path, *labels: str) -> None:
        config = folder / "io.yaml"
        choice = json.dumps({"extra_body": {"structured_outputs": {"choice": labels}}})
        config.write_text(f"model: null\nresponse_format: null\ntransformations: null\nparameters: {choice}\n")
        model.load_intrinsic(BUNDLED.with_name("alora-tiny.safety.gguf"), name="hallucination", io_yaml=config)

    def test_a_flag_does_not_keep_the_other_sentences_back(self, bare: Model, passages: Any, tmp_path: Path) -> None:
        self.load_hallucination(bare, tmp_path, "Y")
        results = [rag.answer(bare, passages, f"How do I {act}?", n_threads=1) for act in self.ACTS]
        assert max(len(result.sentences) for result in results) > 1
        for result in results:
            assert " ".join(result.flagged) == result.text.strip()

    def test_the_label_that_is_bad_news_is_a_flag(
        self, bare: Model, passages: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Asked of the adapter for safety, which calls requests unsafe and other questions safe."""
        self.load_hallucination(bare, tmp_path, "Y", "N")
        labels = []
        for question in (UNSAFE, DESIGNED):
            result = rag.answer(bare, passages, question, n_threads=1)
            rag.show(result)
            printed = capsys.readouterr().out
            for check in result.sentences:
                label = check.verdicts["hallucination"].label
                assert (check.sentence in result.flagged) == (label == "Y")
                shown = "FLAGGED " if label == "Y" else "sentence"
                assert f"  {shown}       {check.sentence} (hallucination {label} " in printed
                labels.append(label)
        assert set(labels) == {"Y", "N"}


class TestCommandLine:
    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(FOLDER / "rag.py"), "-t", "1", *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    def test_its_own_questions(self) -> None:
        result = self.run()
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
        first, *answers = result.stdout.split("\n\n")
        assert first == "16 passages; alora-tiny"
        questions = [question for conversation in rag.QUESTIONS for question in conversation]
        assert [one.splitlines()[0] for one in answers] == questions
        for question, one in zip(questions, answers, strict=True):
            assert "computed once" in one
            assert ("  reply    " in one) == ("  certainty " in one) == ("  stopped " not in one)
            # The one question that refers to another.
            assert ("  rewritten " in one) == (question == "When is it closed?")
        assert "reply          The Lantern Museum was designed by Clara Whitfield." in answers[0]
        assert "stopped        unsafe" in answers[-1]

    def test_a_conversation_is_one_where_it_is_said_to_be(self) -> None:
        """What was stopped is no part of it."""
        questions = [UNSAFE, DESIGNED, "When did it open?"]
        for option, rewritten in ([], 0), (["--conversation"], 1):
            result = self.run(*option, *questions)
            assert result.returncode == 0, result.stderr
            assert result.stdout.count("  rewritten ") == rewritten
            assert result.stdout.count("  stopped        unsafe") == 1

    def test_other_documents_model_and_adapters(self, tmp_path: Path) -> None:
        (tmp_path / "note.md").write_text("# The Old Oak\n\nThe Old Oak Hotel has 12 rooms.")
        adapter = BUNDLED.with_name("alora-tiny.hallucination.gguf")
        arguments = ["--documents", str(tmp_path), "--model", str(BUNDLED), "--adapter", f"hallucination={adapter}"]
        result = self.run(*arguments, "How many rooms does the Old Oak Hotel have?")
        assert result.returncode == 0, result.stderr
        assert (
            "1 passages; alora-tiny; no intrinsic for safety, query_rewrite, answerability, certainty\n"
            in result.stdout
        )
        assert "12 rooms" in result.stdout
        assert "(hallucination " in result.stdout
        assert "safety" not in result.stdout.partition("\n")[2]

    @pytest.mark.parametrize(
        ("arguments", "code", "found"),
        [
            (["--documents", "none", "What?"], 1, "none is no folder"),
            (["--model", "none.gguf", "What?"], 1, "none.gguf"),
            (["--adapter", "safety=none.gguf", "What?"], 1, "none.gguf"),
            (["--passages", "0", "What?"], 1, "0 passages"),
            (["--adapter", "safety", "What?"], 2, "NAME=PATH"),
            (["--documents", "none"], 2, "no QUESTION"),
        ],
    )
    def test_what_is_wrong_is_said_in_a_line(self, arguments: list[str], code: int, found: str) -> None:
        result = self.run(*arguments)
        assert result.returncode == code
        assert "What?" not in result.stdout
        assert found in result.stderr.splitlines()[-1]
        assert code == 2 or result.stderr.count("\n") == 1


def prompt_length(model: Model, question: str, passages: Any, history: Sequence[dict[str, str]] = ()) -> int:
    messages = [*history, {"role": "user", "content": question}]
    documents = [{"title": passage.title, "text": passage.text} for passage in passages]
    return len(model.template.tokenize(messages, documents=documents))
