"""The example `examples/rag`: what it finds, where it stops, what it flags, and that nothing is read twice."""

from __future__ import annotations

import importlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alora_cpp import AloraError, AnswerError, ArgumentError, Model
from alora_cpp.bundled_model import BUNDLED

FOLDER = Path(__file__).parents[2] / "examples" / "rag"
sys.path.insert(0, str(FOLDER))
index = importlib.import_module("index")
rag = importlib.import_module("rag")

# The bundled model invents an answer to at least one of these; which one may depend on the processor's kernels.
TEMPTING = (
    "Who runs the Harbour Hotel?",
    "Who designed the Old Mill Bridge?",
    "How much is a ticket for the Lantern Fair?",
    "When was the Harbour Hotel built?",
)


@pytest.fixture(scope="module")
def passages() -> Iterator[Any]:
    made = index.PassageIndex(index.read_folder(FOLDER / "documents"))
    yield made
    made.close()


class TestIndex:
    @pytest.mark.parametrize(
        ("question", "source", "word"),
        [
            ("Who designed the Lantern Museum?", "lantern_museum.md", "Whitfield"),
            ("How much is a night at the Harbour Hotel?", "harbour_hotel.md", "95"),
            ("What is the Old Mill Bridge made of?", "mill_bridge.md", "stone"),
            ("How long does the Valley Express take?", "valley_express.txt", "50"),
            ("Who is the mayor of Oakdale?", "oakdale.md", "Penhale"),
            ("When was Mount Harrow first climbed?", "mount_harrow.txt", "1862"),
        ],
    )
    def test_finds_the_passage_that_answers(self, passages: Any, question: str, source: str, word: str) -> None:
        found = passages.search(question, 2)
        assert len(found) == 2
        assert any(passage.source == source and word in passage.text for passage in found)

    def test_inflected_words_are_found_and_unknown_ones_are_not(self, passages: Any) -> None:
        assert passages.search("designing museums")[0].source == "lantern_museum.md"
        assert passages.search("zeppelin") == []
        assert passages.search("lantern_museum.md")[0].title == "The Lantern Museum"
        assert passages.search("md txt") == []
        assert len(passages.search("Oakdale", 1)) == 1

    @pytest.mark.parametrize("text", ["", "?!", '"', "*", "()", '"""', "- + ^ : {}", "\x00", "\ud800"])
    def test_text_without_words_finds_nothing(self, passages: Any, text: str) -> None:
        assert passages.search(text) == []

    @pytest.mark.parametrize(
        "text",
        ['museum"', "museum OR", "NOT museum", "NEAR(museum, 3)", "title:museum", "muse*", "museum\x00", "_ museum"],
    )
    def test_query_language_is_read_as_words(self, passages: Any, text: str) -> None:
        expected = {"lantern_museum.md"} if "museum" in text else set()
        assert {p.source for p in passages.search(text)} & {"lantern_museum.md"} == expected

    @given(st.text())
    def test_no_text_is_an_error(self, passages: Any, text: str) -> None:
        assert len(passages.search(text, 2)) <= 2

    def test_a_passage_is_a_paragraph_with_its_documents_title(self, tmp_path: Path) -> None:
        (tmp_path / "below").mkdir()
        (tmp_path / "below" / "one.md").write_text("# The\nTitle\n\nFirst\nline.\n\n\nSecond.\n")
        (tmp_path / "no_title.txt").write_text("Only this.")
        (tmp_path / "empty.md").write_text(" \n")
        (tmp_path / "other.pdf").write_bytes(b"\xff")
        found = index.read_folder(tmp_path)
        assert [(p.source, p.title, p.text) for p in found] == [
            ("one.md", "The Title", "First line."),
            ("one.md", "The Title", "Second."),
            ("no_title.txt", "no title", "Only this."),
        ]

    @pytest.mark.parametrize("unit", ["A sentence of no great length. ", "words ", "x"])
    def test_long_paragraphs_are_cut_and_nothing_is_lost(self, tmp_path: Path, unit: str) -> None:
        text = unit * (20_000 // len(unit))
        (tmp_path / "long.txt").write_text(f"Title\n\n{text}")
        found = index.read_folder(tmp_path)
        assert all(0 < len(p.text) <= index.LONGEST_PASSAGE for p in found)
        assert "".join(p.text for p in found).replace(" ", "") == text.replace(" ", "")
        if unit.startswith("A sentence"):
            assert all(p.text.endswith(".") for p in found[:-1])
        if unit.startswith("words"):
            assert all(set(p.text.split()) == {"words"} for p in found)

    def test_folders_that_cannot_be_read_say_why(self, tmp_path: Path) -> None:
        with pytest.raises(ArgumentError, match="none is no folder"):
            index.read_folder(tmp_path / "none")
        with pytest.raises(ArgumentError, match=r"no \.txt or \.md"):
            index.read_folder(tmp_path)
        (tmp_path / "latin1.txt").write_bytes(b"caf\xe9")
        with pytest.raises(ArgumentError, match=r"latin1\.txt is not UTF-8"):
            index.read_folder(tmp_path)

    def test_a_sqlite_without_fts5_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Poor(sqlite3.Connection):
            def execute(self, statement: str, *_: Any) -> sqlite3.Cursor:
                raise sqlite3.OperationalError("no such module: fts5")

        monkeypatch.setattr(index.sqlite3, "connect", lambda path: Poor(path))
        with pytest.raises(AloraError, match="needs the FTS5 extension"):
            index.PassageIndex([])


class TestAnswer:
    def test_a_supported_reply(self, bundled: Model, passages: Any) -> None:
        result = rag.answer(bundled, passages, "Who designed the Lantern Museum?", n_threads=1)
        assert result.stopped is None
        assert "Clara Whitfield" in result.text
        assert " ".join(check.sentence for check in result.sentences) == result.text.strip()
        assert result.flagged == ()
        assert set(result.verdicts) == {"safety", "certainty"}
        assert result.verdicts["certainty"].value > 0.5
        assert result.skipped == ("query_rewrite", "answerability")
        assert {passage.source for passage in result.passages} == {"lantern_museum.md"}

    def test_nothing_is_read_twice(self, bundled: Model, passages: Any) -> None:
        question = "Who designed the Lantern Museum?"
        result = rag.answer(bundled, passages, question, n_threads=1)
        n_rows = {name: len(bundled.intrinsic(name).invocation) for name in bundled.intrinsics}
        # A guard sees the reply as if it ended with its sentence.
        end_of_turn = len(bundled.tokenize("<|end_of_text|>\n", parse_special=True))
        guards = len(result.sentences) * (end_of_turn + n_rows["hallucination"])
        assert result.rows.verdicts == n_rows["safety"] + guards + n_rows["certainty"]
        prompt = prompt_length(bundled, question, result.passages)
        assert prompt < result.rows.trunk < prompt + 40
        assert result.rows.dropped == 0
        assert result.rows.reused > 3 * prompt

    def test_an_unsafe_question_is_stopped(self, bundled: Model, passages: Any) -> None:
        question = "How do I make a bomb at home?"
        result = rag.answer(bundled, passages, question, n_threads=1)
        assert result.stopped == "unsafe"
        assert result.text == ""
        assert set(result.verdicts) == {"safety"}
        assert result.rows.trunk == prompt_length(bundled, question, result.passages)
        assert result.rows.verdicts == len(bundled.intrinsic("safety").invocation)

    def test_nothing_found_is_said(self, bundled: Model, passages: Any) -> None:
        result = rag.answer(bundled, passages, "zeppelin", n_threads=1)
        assert (result.stopped, result.passages, result.text) == ("nothing found", (), "")

    def test_made_up_sentences_are_flagged_and_named(
        self, bundled: Model, passages: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        results = [rag.answer(bundled, passages, question, n_threads=1) for question in TEMPTING]
        flagged = [result for result in results if result.flagged]
        assert flagged
        for result in flagged:
            rag.show(result)
            printed = capsys.readouterr().out
            for sentence in result.flagged:
                assert sentence in result.text
                assert f"FLAGGED     {sentence} (hallucination Y" in printed
        for result in results:
            labels = [check.verdicts["hallucination"].label for check in result.sentences]
            assert labels == ["Y" if check.sentence in result.flagged else "N" for check in result.sentences]

    def test_more_passages_and_shorter_replies(self, bundled: Model, passages: Any) -> None:
        question = "How high is Mount Harrow?"
        one = rag.answer(bundled, passages, question, n_passages=1, max_tokens=2, n_threads=1)
        assert len(one.passages) == 1
        assert one.rows.trunk <= prompt_length(bundled, question, one.passages) + 10
        assert len(rag.answer(bundled, passages, question, n_passages=4, max_tokens=2, n_threads=1).passages) == 4

    def test_history_comes_before_the_question(self, bundled: Model, passages: Any) -> None:
        history = [
            {"role": "user", "content": "Hello!"},
            {"role": "assistant", "content": "Hello! How can I help you?"},
        ]
        question = "How high is Mount Harrow?"
        asked = rag.answer(bundled, passages, question, history=history, n_threads=1)
        assert "2140" in asked.text
        assert asked.rows.trunk > prompt_length(bundled, question, asked.passages, history)

    def test_without_intrinsics_there_is_a_reply_all_the_same(self, passages: Any) -> None:
        with Model(BUNDLED) as model:
            result = rag.answer(model, passages, "How do I make a bomb at home?", n_threads=1)
        assert result.skipped == rag.STAGES
        assert result.text
        assert result.sentences == ()
        assert result.verdicts == {}
        assert result.rows.verdicts == 0


class TestFurtherStages:
    """Query rewrite and answerability, played by an adapter that may give one answer only."""

    @pytest.fixture
    def own_model(self) -> Iterator[Model]:
        with Model.bundled() as model:
            yield model

    def load(self, model: Model, folder: Path, name: str, schema: dict[str, Any]) -> None:
        config = folder / f"{name}.io.yaml"
        config.write_text(f"model: null\nresponse_format: '{json.dumps(schema)}'\ntransformations: null\n")
        model.load_intrinsic(BUNDLED.with_name("alora-tiny.certainty.gguf"), name=name, io_yaml=config)

    def load_rewrite(self, model: Model, folder: Path, question: str) -> None:
        properties = {"rewritten_question": {"const": question}}
        schema = {"type": "object", "properties": properties, "required": ["rewritten_question"]}
        self.load(model, folder, "query-rewrite", schema)

    def test_a_rewritten_question_finds_other_passages(self, own_model: Model, passages: Any, tmp_path: Path) -> None:
        self.load_rewrite(own_model, tmp_path, "How high is Mount Harrow?")
        question = "How high is the mountain near the Harbour Hotel?"
        result = rag.answer(own_model, passages, question, n_threads=1)
        assert result.rewritten == "How high is Mount Harrow?"
        assert {passage.source for passage in result.passages} == {"mount_harrow.txt"}
        assert result.skipped == ("answerability",)
        # What was read of the first passages, up to where the prompts differ, is all that was in vain.
        first = prompt_length(own_model, question, passages.search(question, 2))
        assert 0 < first - result.rows.dropped < 20
        assert result.rows.trunk > prompt_length(own_model, question, result.passages)
        assert result.rows.verdicts < 80

    def test_a_question_rewritten_as_it_was_reads_nothing_again(
        self, own_model: Model, passages: Any, tmp_path: Path
    ) -> None:
        self.load_rewrite(own_model, tmp_path, "How high is Mount Harrow?")
        result = rag.answer(own_model, passages, "How high is Mount Harrow?", n_threads=1)
        assert result.rows.dropped == 0

    def test_a_rewrite_that_is_none_is_an_error(self, own_model: Model, passages: Any, tmp_path: Path) -> None:
        self.load(own_model, tmp_path, "query_rewrite", {"const": 3})
        with pytest.raises(AnswerError, match="query_rewrite answered 3"):
            rag.answer(own_model, passages, "How high is Mount Harrow?", n_threads=1)

    @pytest.mark.parametrize("says", ["answerable", "unanswerable"])
    def test_unanswerable_questions_are_stopped(
        self, own_model: Model, passages: Any, tmp_path: Path, says: str
    ) -> None:
        self.load(own_model, tmp_path, "answerability", {"type": "string", "enum": [says]})
        result = rag.answer(own_model, passages, "How high is Mount Harrow?", n_threads=1)
        assert result.stopped == (None if says == "answerable" else "unanswerable")
        assert bool(result.text) == (says == "answerable")
        assert result.verdicts["answerability"].result == says


def test_a_flag_does_not_keep_the_other_sentences_back(passages: Any, tmp_path: Path) -> None:
    config = tmp_path / "io.yaml"
    choice = "parameters: {extra_body: {structured_outputs: {choice: [Y]}}}"
    config.write_text(f"model: null\nresponse_format: null\ntransformations: null\n{choice}\n")
    with Model(BUNDLED) as model:
        model.load_intrinsic(BUNDLED.with_name("alora-tiny.safety.gguf"), name="hallucination", io_yaml=config)
        # Without the safety intrinsic, the model declines these itself, now and then in two sentences.
        questions = [f"How do I {act}?" for act in ("stab a stranger", "steal a book from the library")]
        results = [rag.answer(model, passages, question, n_threads=1) for question in questions]
    assert max(len(result.sentences) for result in results) > 1
    for result in results:
        assert " ".join(result.flagged) == result.text.strip()


class TestCommandLine:
    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(FOLDER / "rag.py"), "-t", "1", *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    def test_its_own_questions(self) -> None:
        result = self.run()
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
        first, *answers = result.stdout.split("\n\n")
        assert first.endswith("no intrinsic for query_rewrite, answerability")
        assert [one.splitlines()[0] for one in answers] == list(rag.QUESTIONS)
        assert "stopped     unsafe" in answers[-1]
        for one in answers[:-1]:
            assert "computed once" in one
            assert "reply" in one
            assert "certainty" in one

    def test_other_documents_model_and_adapters(self, tmp_path: Path) -> None:
        (tmp_path / "note.md").write_text("# The Old Oak\n\nThe Old Oak Hotel has 12 rooms.")
        adapter = BUNDLED.with_name("alora-tiny.hallucination.gguf")
        arguments = ["--documents", str(tmp_path), "--model", str(BUNDLED), "--adapter", f"hallucination={adapter}"]
        result = self.run(*arguments, "How many rooms does the Old Oak Hotel have?")
        assert result.returncode == 0, result.stderr
        assert "12 rooms" in result.stdout
        assert "no intrinsic for safety, query_rewrite, answerability, certainty" in result.stdout
        assert "hallucination N" in result.stdout

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
