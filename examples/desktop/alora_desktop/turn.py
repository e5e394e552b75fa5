"""A turn of the conversation: what was said, and the verdicts on it."""

from __future__ import annotations

import html
from collections.abc import Mapping

from PySide6.QtCore import Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from alora_cpp import Verdict
from alora_desktop import events
from alora_desktop.chip import Chip, Told, told
from alora_desktop.theme import Tone, tone_colours

# The part of the column's width that a question may take.
_QUESTION_SHARE = 0.8
_PADDING = 14


class Turn(QWidget):
    """A question or a reply, with a row of chips below.

    Attributes:
        kind: Which of the two.
        text: What was said so far.
        marks: The parts of it that are marked, as (begin, end) in characters.
        chips: The chips shown.
    """

    def __init__(self, kind: events.Turn, text: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.kind = kind
        self.text = text
        self.marks: list[tuple[int, int]] = []
        self.chips: list[Chip] = []
        self._label = QLabel()
        self._label.setObjectName("said")
        self._label.setTextFormat(Qt.TextFormat.RichText)
        self._label.setWordWrap(True)
        self._label.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self._label.setAccessibleName("You said" if kind == "question" else "The model replied")
        font = self._label.font()
        font.setPixelSize(15)
        self._label.setFont(font)
        self._bubble = QFrame()
        self._bubble.setObjectName(kind)
        inside = QVBoxLayout(self._bubble)
        padding = _PADDING if kind == "question" else 0
        inside.setContentsMargins(padding, padding * 2 // 3, padding, padding * 2 // 3)
        inside.addWidget(self._label)
        across = QHBoxLayout()
        if kind == "question":
            across.addStretch(1)
        across.addWidget(self._bubble)
        self._row = QHBoxLayout()
        self._row.setSpacing(6)
        self._row.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addLayout(across)
        layout.addLayout(self._row)
        self.render_text()

    def append(self, piece: str) -> None:
        """Adds to what was said."""
        self.text += piece
        self.render_text()

    def mark(self, begin: int, end: int) -> None:
        """Marks a part of what was said as unsupported."""
        if (begin, end) not in self.marks:
            self.marks = sorted([*self.marks, (begin, end)])
            self.render_text()

    def judge(self, verdicts: Mapping[str, Verdict]) -> None:
        """Shows verdicts."""
        for name, verdict in verdicts.items():
            self.add_chip(told(name, verdict))

    def note(self, text: str, detail: str) -> None:
        """Shows a remark beside the verdicts."""
        self.add_chip(Told(text, Tone.NEUTRAL, detail))

    def add_chip(self, shown: Told) -> None:
        """Shows a chip."""
        chip = Chip(shown)
        self.chips.append(chip)
        # Chips stand where the turn stands: what stretches is at the other side.
        self._row.insertWidget(self._row.count() - (self.kind == "reply"), chip)

    def render_text(self) -> None:
        """Draws the text anew, in the palette's colours."""
        colours = tone_colours(Tone.BAD, self.palette())
        style = f"background-color: {colours.background}; color: {colours.text}; text-decoration: underline"
        parts, at = [], 0
        for begin, end in self.marks:
            begin = max(begin, at)
            parts += [
                html.escape(self.text[at:begin]),
                f'<span style="{style}">{html.escape(self.text[begin:end])}</span>',
            ]
            at = max(at, end)
        parts.append(html.escape(self.text[at:]))
        self._label.setText(f'<div style="white-space: pre-wrap">{"".join(parts)}</div>')
        unsupported = " ".join(self.text[begin:end] for begin, end in self.marks)
        self._label.setAccessibleDescription(f"Not supported by the documents: {unsupported}" if unsupported else "")
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keeps a question as wide as its words, within the column."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        if self.kind == "question":
            metrics = self._label.fontMetrics()
            longest = max(map(metrics.horizontalAdvance, self.text.splitlines() or [""]))
            limit = round(self.width() * _QUESTION_SHARE)
            self._bubble.setFixedWidth(max(1, min(longest + 2 * _PADDING + 8, limit)))
