"""The documents that the conversation is grounded in, each to be taken away with a click."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPushButton, QScrollArea, QWidget


class DocumentStrip(QScrollArea):
    """A row of documents; hidden while there are none.

    Attributes:
        removed: Emitted with a document's place when the user takes it away.
    """

    removed = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.titles: tuple[str, ...] = ()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setStyleSheet("DocumentStrip, #strip { background: transparent; }")
        self.setAccessibleName("Documents")
        self.hide()

    def show_titles(self, titles: Sequence[str]) -> None:
        """Shows documents by their titles, in place of those before."""
        self.titles = tuple(titles)
        row = QWidget()
        row.setObjectName("strip")
        layout = QHBoxLayout(row)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        for index, title in enumerate(titles):
            shown = title if len(title) <= 40 else f"{title[:39]}…"
            button = QPushButton(f"{shown.replace('&', '&&')}  ×")  # noqa: RUF001 - it looks as it should
            button.setObjectName("document")
            button.setToolTip(f"Remove {title}")
            button.setAccessibleName(f"Remove the document {title}")
            button.setCursor(Qt.CursorShape.PointingHandCursor)
            button.clicked.connect(partial(self._remove, index))
            layout.addWidget(button)
        layout.addStretch(1)
        self.setWidget(row)
        self.setFixedHeight(row.sizeHint().height() + 2)
        self.setVisible(bool(titles))
        self.setEnabled(True)

    def _remove(self, index: int) -> None:
        # Places count again when the documents that are left are shown.
        self.setEnabled(False)
        self.removed.emit(index)
