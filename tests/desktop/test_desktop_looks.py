"""What chips say, which spans are marked, and colours that can be read."""

from __future__ import annotations

from typing import Any

import pytest
from desktop_app import App
from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QApplication, QLabel, QPushButton

from alora_cpp import Verdict
from alora_desktop.chip import told
from alora_desktop.self_test import QUESTION
from alora_desktop.spans import unsupported_spans
from alora_desktop.theme import Tone, is_dark, style_sheet, tone_colours

LIGHT = QPalette(QColor("#f2f2f2"))
DARK = QPalette(QColor("#202124"))


def luminance(colour: str) -> float:
    """As WCAG 2 defines it."""
    parts = QColor(colour).getRgbF()[:3]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("palette", "dark"), [(LIGHT, False), (DARK, True)])
@pytest.mark.parametrize("tone", list(Tone))
def test_chips_can_be_read(palette: QPalette, dark: bool, tone: Tone) -> None:
    assert is_dark(palette) == dark
    colours = tone_colours(tone, palette)
    darker, lighter = sorted([luminance(colours.background), luminance(colours.text)])
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5
    assert (luminance(colours.background) < luminance(colours.text)) == dark


def test_the_window_follows_the_system_from_light_to_dark(app: App) -> None:
    app.ask(QUESTION)
    before = QApplication.palette()
    try:
        for palette in (DARK, LIGHT, DARK):
            QApplication.setPalette(palette)
            QApplication.processEvents()
            assert is_dark(QApplication.palette()) == (palette is DARK)
            assert app.window.styleSheet() == style_sheet(QApplication.palette())
    finally:
        QApplication.setPalette(before)
        QApplication.processEvents()


@pytest.mark.parametrize(
    ("name", "label", "probability", "value", "text", "tone"),
    [
        ("safety", "Y", 0.97, None, "Unsafe 97%", Tone.BAD),
        ("safety", "No", 0.6, None, "Safe 60%", Tone.GOOD),
        ("hallucination", "Y", None, None, "Not supported", Tone.BAD),
        ("hallucination", "N", 1.0, 0.0, "Supported 100%", Tone.GOOD),
        ("certainty", "9", 0.5, 0.92, "Certainty 92%", Tone.GOOD),
        ("certainty", "4", 0.5, 0.45, "Certainty 45%", Tone.NEUTRAL),
        ("certainty", "0", 0.5, 0.05, "Certainty 5%", Tone.WARNING),
    ],
)
def test_chips_say_verdicts_in_words(
    name: str, label: str, probability: float | None, value: float | None, text: str, tone: Tone
) -> None:
    shown = told(name, Verdict(name, label, probability, value=value, text=label))
    assert (shown.text, shown.tone) == (text, tone)
    assert "0 tokens reused" in shown.detail


def test_an_answer_of_another_kind_is_shown_as_it_is() -> None:
    shown = told("safety", Verdict("safety", None, None, text="I would rather not say what I think of it"))
    assert shown.text == "safety I would rather not say …"
    assert shown.tone is Tone.NEUTRAL


SPAN = {"response_begin": 3, "response_end": 9, "faithfulness_likelihood": 0.2}


@pytest.mark.parametrize(
    ("result", "spans"),
    [
        ([SPAN, {**SPAN, "faithfulness_likelihood": 0.8}], [(3, 9)]),
        ([SPAN, {**SPAN, "response_begin": 10, "response_end": 20}], [(3, 9), (10, 20)]),
        ([{}, 5, {**SPAN, "response_begin": None}], []),
        ("Y", []),
        (None, []),
        ({"response_begin": 1}, []),
    ],
)
def test_spans_of_a_written_answer(result: Any, spans: list[tuple[int, int]]) -> None:
    assert list(unsupported_spans(result)) == spans


@pytest.mark.parametrize("width", [420, 700, 1200])
def test_nothing_of_what_was_said_is_cut_off(app: App, width: int) -> None:
    app.window.resize(width, 600)
    add = app.window.conversation.add
    turns = [add(kind, "How can I help? " * n) for n in range(8, 20) for kind in ("question", "reply")]
    app.work_for(0.2)
    for turn in turns:
        said = turn.findChild(QLabel, "said")
        assert said is not None
        assert said.height() >= said.heightForWidth(said.width()) > 0
    app.window.composer.setPlainText("one\ntwo\nthree")
    app.wait_for(lambda: app.window.composer.verticalScrollBar().maximum() == 0, "three lines have their place")


def test_everything_has_a_name_for_those_who_do_not_see(app: App) -> None:
    app.ask(QUESTION)
    for button in app.window.findChildren(QPushButton):
        assert button.accessibleName() or button.text()
    for turn in app.window.conversation.turns:
        for chip in turn.chips:
            assert chip.accessibleName()
            assert chip.accessibleDescription()
            assert chip.toolTip()
    assert app.window.composer.accessibleName()
    assert app.window.header.progress.accessibleName()
