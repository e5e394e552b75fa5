# ruff: noqa: RUF001 - texts in many scripts
"""Where a reply is judged: sentences are named right in a text that grows piece by piece."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from float_model import exact_chat
from hypothesis import given
from hypothesis import strategies as st

from alora_cpp import ArgumentError
from alora_cpp.chat.draft import Draft
from alora_cpp.chat.points import Point, Points, sentence_ends

if TYPE_CHECKING:
    from alora_cpp import Model

TEXTS = [
    (["It opened in 1894.", "It is closed on Monday!", "Is it?", "Yes"], " "),
    (["Pi is 3.14 and e is 2.718.", "Both are irrational."], " "),
    (["Dr. Smith met Mrs. J. K. Rowling at 10 a.m. on Friday.", "They spoke, e.g. about lamps."], " "),
    (["It cost 1,200.50 euros.", "Wow!!!", "Really?!", "Well... yes."], " "),
    (['He said "Stop."', "Then he left.", "(She stayed.)", "It was late."], " "),
    (["Three things:", "- a lamp", "- a book.", "- two maps"], "\n"),
    (["1. First we wait.", "2. Then we go."], "\n"),
    (["# Title", "Some words, which go on", "Another line"], "\n\n"),
    (["これは本です。", "あれは何ですか？", "「はい。」", "すごい！！", "終わり"], ""),
    (["今天是星期一。", "博物馆关门了！", "为什么？"], ""),
    (["यह एक किताब है।", "वह क्या है?", "हाँ।"], " "),
    (["هذا كتاب.", "هل هذا كتاب؟", "نعم."], " "),
    (["یہ کتاب ہے۔", "ہاں۔"], " "),
    (["¿Qué hora es?", "¡Son las tres!", "Gracias."], " "),
    (["Das Museum (z.B. am Montag) ist zu.", "Ja."], " "),
    (["No final stop"], " "),
    (["Είναι κλειστό.", "Ναι."], " "),
]


def split(text: str, step: int) -> list[str]:
    """The sentences found in a text that grows by so many characters at a time."""
    points, draft = Points("sentence"), Draft(_Letters())  # type: ignore[arg-type]
    found: list[Point] = []
    for begin in range(0, len(text), step):
        new = text[begin : begin + step]
        draft.write([ord(letter) for letter in new], new)
        found += points.take(draft)
    found += points.finish(draft)
    for point in found:
        assert point.text[point.begin : point.end] == text[point.begin : point.end]
        assert "".join(map(chr, point.tokens)) == point.text
    return [text[point.begin : point.end] for point in found]


class _Letters:
    """Stands for a model whose tokens are characters."""

    def detokenize(self, tokens: list[int]) -> str:
        return "".join(map(chr, tokens))


class _Bytes:
    """Stands for a model whose tokens are bytes."""

    def detokenize(self, tokens: list[int]) -> str:
        return bytes(tokens).decode("utf-8", errors="replace")


@pytest.mark.parametrize(("sentences", "between"), TEXTS)
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_sentences_are_found_as_they_are_written(sentences: list[str], between: str, step: int) -> None:
    """Tried with: Punkt alone (lists, abbreviations and scripts without spaces fail)."""
    assert split(between.join(sentences), step) == sentences
    assert split(" " + between.join(sentences) + " \n ", step) == sentences


@given(st.text(alphabet="ab .!?。\n\"')(1Ä-", max_size=60), st.integers(1, 7))
def test_every_character_is_in_one_sentence(text: str, step: int) -> None:
    """Whatever the text and the pieces: sentences follow one another, and only white space is between them."""
    assert "".join("".join(split(text, step)).split()) == "".join(text.split())


@given(st.text(alphabet="ab .!?。\n\"')(1Ä-", max_size=60))
def test_ends_are_no_white_space_and_grow(text: str) -> None:
    ends = sentence_ends(text)
    assert ends == sorted(set(ends))
    assert all(text[end - 1].strip() for end in ends)


def test_a_sentence_is_over_with_what_follows_it_and_a_line_with_its_end() -> None:
    assert sentence_ends("One.") == sentence_ends("One. ") == []
    assert sentence_ends("One. T") == [4]
    assert sentence_ends("One. two") == []
    assert sentence_ends("One\n") == [3]
    assert sentence_ends("一。") == []
    assert sentence_ends("一。二") == [2]
    assert sentence_ends("1. ") == sentence_ends("1. A") == []


def test_every_so_many_tokens() -> None:
    points, draft = Points(3), Draft(_Letters())  # type: ignore[arg-type]
    found: list[tuple[int, int]] = []
    for letter in "ab c  de fg":
        draft.write([ord(letter)], letter)
        found += [(point.begin, point.end) for point in points.take(draft)]
    assert found == [(0, 2), (3, 4), (6, 8)]
    assert [(point.begin, point.end) for point in points.finish(draft)] == [(9, 11)]
    assert list(points.finish(draft)) == []


def test_several_tokens_at_once_are_one_point() -> None:
    points, draft = Points(2), Draft(_Letters())  # type: ignore[arg-type]
    draft.write([ord(letter) for letter in "abcdefg"], "abcdefg")
    assert [(point.begin, point.end) for point in points.take(draft)] == [(0, 7)]


@pytest.mark.parametrize("every", [0, -1, True, "token", 2.0, None])
def test_a_wrong_step_is_told(every: Any) -> None:
    with pytest.raises(ArgumentError, match=r"every is .*expected 'sentence' or a number of tokens, at least 1"):
        Points(every)


def test_text_that_lags_behind_its_tokens_waits() -> None:
    """Characters of several tokens: a point has the tokens of its text, no fewer and no more."""
    draft, points = Draft(_Bytes()), Points(1)  # type: ignore[arg-type]
    found = []
    for token, shown in ((72, "H"), (0xC3, ""), (0xA9, "é"), (46, "."), (32, " "), (0xE3, ""), (0x80, "")):
        draft.write([token], shown)
        assert draft.agrees == bool(shown)
        found += [(bytes(point.tokens), point.text) for point in points.take(draft)]
    assert found == [(text.encode(), text) for text in ("H", "Hé", "Hé.")]
    draft.write([0x82], "。")
    assert [point.text for point in points.take(draft)] == ["Hé. 。"]


def test_bytes_that_are_no_characters_do_not_silence_guards() -> None:
    """However they are shown: by one U+FFFD or by several. Tried with: texts compared as they are."""
    draft, points = Draft(_Bytes()), Points(1)  # type: ignore[arg-type]
    found = []
    for token, shown in ((0xE2, ""), (0x80, ""), (97, "\ufffd\ufffda"), (98, "b")):
        draft.write([token], shown)
        found += [len(point.tokens) for point in points.take(draft)]
    assert found == [3, 4]


def test_what_is_held_back_can_be_shown() -> None:
    draft = Draft(_Letters())  # type: ignore[arg-type]
    draft.write([ord("a"), ord("b")], "a")
    assert not draft.agrees
    assert draft.agreed_tokens == []
    assert draft.until(2) == ([], "a")
    assert draft.flush() == "b"
    assert draft.text == "ab"
    assert draft.until(1) == ([97, 98], "ab")
    assert draft.flush() == ""


def test_replies_without_text_are_not_judged(bundled: Model) -> None:
    """The model ends its reply at once."""
    with exact_chat(bundled, [{"role": "user", "content": "Hello"}]) as chat:
        end = bundled.detokenize([bundled.eos or 0], special=True)
        first = next(chat.reply(max_tokens=4))
    with exact_chat(bundled, [{"role": "user", "content": "Hello"}]) as chat:
        reply = chat.reply(max_tokens=4, stop=[first], guards=["safety"])
        assert list(reply) == []
        assert (reply.text, reply.finish, reply.checks) == ("", "stop", [])
        assert len(chat.messages) == 1
        assert end
