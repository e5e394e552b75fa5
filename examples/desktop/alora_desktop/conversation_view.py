"""The conversation: turns one below the other, the last one in sight."""

from __future__ import annotations

from PySide6.QtCore import Qt, Slot
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QScrollArea, QVBoxLayout, QWidget

from alora_desktop import events
from alora_desktop.turn import Turn

COLUMN_WIDTH = 760
_WELCOME = (
    "Drop documents here and ask about them.\n\n"
    "Each question is judged for safety, each reply for certainty,\n"
    "and what the documents do not support is marked."
)


class ConversationView(QScrollArea):
    """Scrolls through the turns; follows the last one unless the user has scrolled up.

    Attributes:
        turns: The turns, from the first.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.turns: list[Turn] = []
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setAccessibleName("Conversation")
        self._welcome = QLabel(_WELCOME)
        self._welcome.setObjectName("welcome")
        self._welcome.setAlignment(Qt.AlignmentFlag.AlignCenter)
        column = QWidget()
        column.setMaximumWidth(COLUMN_WIDTH)
        self._column = QVBoxLayout(column)
        self._column.setContentsMargins(0, 20, 0, 20)
        self._column.setSpacing(18)
        self._column.addWidget(self._welcome, 1)
        self._column.addStretch(0)
        page = QWidget()
        across = QHBoxLayout(page)
        across.setContentsMargins(20, 0, 20, 0)
        across.addStretch(1)
        across.addWidget(column, 1000)
        across.addStretch(1)
        self.setWidget(page)
        self._follows = True
        self.verticalScrollBar().valueChanged.connect(self._note_position)
        self.verticalScrollBar().rangeChanged.connect(self._follow)

    def add(self, kind: events.Turn, text: str = "") -> Turn:
        """Adds a turn at the end."""
        turn = Turn(kind, text)
        self._welcome.hide()
        self._column.insertWidget(self._column.count() - 1, turn)
        self._column.setStretch(self._column.count() - 1, 1)
        self.turns.append(turn)
        self._follows = True
        return turn

    def remove_last(self) -> None:
        """Takes the last turn away."""
        turn = self.turns.pop()
        self._column.removeWidget(turn)
        turn.hide()
        turn.deleteLater()
        if not self.turns:
            self._column.setStretch(self._column.count() - 1, 0)
            self._welcome.show()

    def clear(self) -> None:
        """Takes all turns away."""
        while self.turns:
            self.remove_last()

    @Slot(int)
    def _note_position(self, value: int) -> None:
        self._follows = value >= self.verticalScrollBar().maximum() - 8

    @Slot(int, int)
    def _follow(self, _minimum: int, maximum: int) -> None:
        if self._follows:
            self.verticalScrollBar().setValue(maximum)
