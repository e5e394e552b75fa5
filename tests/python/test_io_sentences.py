"""Sentences are found as adapters were trained with them, and tagged in order."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alora_cpp.io import sentence_spans, split_sentences
from alora_cpp.io.sentences import Sentence, tag_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        (" \n ", []),
        ("no end", ["no end"]),
        ("One. Two!  Three?\n\nFour", ["One.", "Two!", "Three?", "Four"]),
        ('"Go." He went. (Yes.) Pi is 3.14.', ['"Go."', "He went.", "(Yes.)", "Pi is 3.14."]),
        ("  led by space. ", ["  led by space."]),
        # Untrained, it knows no abbreviations.
        ("Dr. Smith left.", ["Dr.", "Smith left."]),
    ],
)
def test_split(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@settings(deadline=None)
@given(st.text(alphabet="ab A.!?\n\"')(1é。", max_size=80))
def test_spans_cover_all_but_white_space(text: str) -> None:
    at = 0
    for begin, end in sentence_spans(text):
        assert begin < end
        assert text[at:begin].strip() == ""
        assert text[begin:end].strip() != ""
        at = end
    assert text[at:].strip() == ""


def test_tags() -> None:
    tagged, sentences = tag_sentences("One.\n\n Two. ", "c", 7, document_id="d", message_index=3)
    assert tagged == "<c7> One. <c8> Two."
    assert sentences == [Sentence(7, "One. ", 0, 5, "d", 3), Sentence(8, "Two.", 5, 9, "d", 3)]
    assert tag_sentences("", "c") == ("", [])


def test_nltk_is_imported_when_needed() -> None:
    """It takes longer to import than the whole package."""
    code = (
        "import sys, alora_cpp.io as io; assert 'nltk' not in sys.modules; io.split_sentences('a'); sys.modules['nltk']"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
