"""Where the user writes."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal, Slot
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QPlainTextEdit, QWidget

_MOST_LINES = 7


class Composer(QPlainTextEdit):
    """A text field that grows with its text. Enter sends, with Shift it begins a new line.

    Attributes:
        sent: Emitted when the user presses Enter.
    """

    sent = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("composer")
        self.setPlaceholderText("Ask something. Enter sends, Shift+Enter begins a new line")
        self.setAccessibleName("Your message")
        self.setTabChangesFocus(True)
        # What is dropped here is for the window, which takes documents.
        self.setAcceptDrops(False)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        self.document().documentLayout().documentSizeChanged.connect(self._fit)
        self._fit()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Sends on Enter."""
        is_enter = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if is_enter and not event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            self.sent.emit()
        else:
            super().keyPressEvent(event)

    @Slot()
    def _fit(self) -> None:
        # A plain text document counts its height in lines.
        n_lines = min(max(1, round(self.document().size().height())), _MOST_LINES)
        self.setFixedHeight(
            n_lines * self.fontMetrics().lineSpacing() + 2 * round(self.document().documentMargin()) + 4
        )
