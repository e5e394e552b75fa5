"""The line at the top: which model answers, or how far one is loaded."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QWidget


class Header(QWidget):
    """Names the model, and shows the progress of loading one.

    Attributes:
        open_asked: Emitted when the user wants to choose a model.
        new_asked: Emitted when the user wants another conversation.
        cancel_asked: Emitted when the user wants no more of the load.
    """

    open_asked = Signal()
    new_asked = Signal()
    cancel_asked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._name = QLabel("No model")
        self._name.setObjectName("name")
        self._details = QLabel()
        self._details.setObjectName("quiet")
        self.progress = QProgressBar()
        self.progress.setRange(0, 1000)
        self.progress.setMaximumWidth(220)
        self.progress.setAccessibleName("Loading the model")
        self.cancel_button = _button("Cancel", "Stop loading (Esc)")
        self.cancel_button.clicked.connect(self.cancel_asked)
        self.new_button = _button("New conversation", "Begin anew with the same documents (Ctrl+N)")
        self.new_button.clicked.connect(self.new_asked)
        self.open_button = _button("Open model…", "Choose a GGUF file (Ctrl+O)")
        self.open_button.clicked.connect(self.open_asked)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(20, 12, 20, 4)
        layout.setSpacing(10)
        layout.addWidget(self._name)
        layout.addWidget(self._details)
        layout.addStretch(1)
        for widget in (self.progress, self.cancel_button, self.new_button, self.open_button):
            layout.addWidget(widget)
        self.show_loading(None)

    def show_model(self, name: str, details: str) -> None:
        """Says which model answers."""
        self._name.setText(name)
        self._details.setText(details)

    def show_loading(self, fraction: float | None) -> None:
        """Shows how far a model is loaded, from 0 to 1; None where none is being loaded."""
        is_loading = fraction is not None
        self.progress.setVisible(is_loading)
        self.cancel_button.setVisible(is_loading)
        self.open_button.setVisible(not is_loading)
        self.new_button.setVisible(not is_loading)
        if fraction is not None:
            self.progress.setValue(round(fraction * 1000))


def _button(text: str, hint: str) -> QPushButton:
    button = QPushButton(text)
    button.setObjectName("plain")
    button.setToolTip(hint)
    return button
