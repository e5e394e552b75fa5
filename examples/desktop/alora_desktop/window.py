"""The window: it gives work to the engine and shows what the engine tells."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path

from PySide6.QtCore import QEvent, QMimeData, Qt, Slot
from PySide6.QtGui import QCloseEvent, QDragEnterEvent, QDragLeaveEvent, QDropEvent, QKeySequence, QShortcut
from PySide6.QtWidgets import QApplication, QFileDialog, QFrame, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from alora_desktop import events
from alora_desktop.banner import Banner
from alora_desktop.composer import Composer
from alora_desktop.conversation_view import COLUMN_WIDTH, ConversationView
from alora_desktop.document_strip import DocumentStrip
from alora_desktop.engine import Engine
from alora_desktop.header import Header
from alora_desktop.theme import style_sheet

_MODELS = "Models (*.gguf);;All files (*)"
_TEXTS = "Texts (*.txt *.md);;All files (*)"


class Phase(Enum):
    """What the window waits for."""

    NO_MODEL = "no model"
    LOADING = "loading"
    READY = "ready"
    REPLYING = "replying"
    STOPPING = "stopping"


class Window(QWidget):
    """The app's only window.

    Attributes:
        phase: What it waits for.
    """

    def __init__(self, engine: Engine) -> None:
        """Makes the window.

        Args:
            engine: Its engine, which it ends when it is closed.
        """
        super().__init__()
        self.phase = Phase.NO_MODEL
        self._engine = engine
        self._has_model = False
        self.setWindowTitle("alora desktop")
        self.setAcceptDrops(True)
        self.resize(900, 720)
        self._build()
        self._add_shortcuts()
        self._restyle()
        self._enter(Phase.NO_MODEL)
        engine.happened.connect(self._take)

    def _build(self) -> None:
        self.header = Header()
        self.header.open_asked.connect(self.choose_model)
        self.header.new_asked.connect(self.begin_anew)
        self.header.cancel_asked.connect(self.cancel)
        self.banner = Banner()
        self.conversation = ConversationView()
        self.documents = DocumentStrip()
        self.documents.removed.connect(self._engine.remove_document)
        self.composer = Composer()
        self.composer.sent.connect(self.send)
        self.composer.textChanged.connect(self._enable)
        self.add_button = QPushButton("Add documents…")
        self.add_button.setObjectName("plain")
        self.add_button.setToolTip("Choose text files, or drop them on the window (Ctrl+D)")
        self.add_button.clicked.connect(self.choose_documents)
        self.send_button = QPushButton("Send")
        self.send_button.setObjectName("primary")
        self.send_button.clicked.connect(self._send_or_cancel)

        buttons = QHBoxLayout()
        buttons.addWidget(self.add_button)
        buttons.addStretch(1)
        buttons.addWidget(self.send_button)
        self._card = QFrame()
        self._card.setObjectName("card")
        self._card.setMaximumWidth(COLUMN_WIDTH)
        inside = QVBoxLayout(self._card)
        inside.setContentsMargins(12, 10, 12, 10)
        inside.addWidget(self.documents)
        inside.addWidget(self.composer)
        inside.addLayout(buttons)

        below = QHBoxLayout()
        below.setContentsMargins(20, 4, 20, 20)
        below.addStretch(1)
        below.addWidget(self._card, 1000)
        below.addStretch(1)
        notice = QHBoxLayout()
        notice.setContentsMargins(20, 4, 20, 4)
        notice.addWidget(self.banner)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.header)
        layout.addLayout(notice)
        layout.addWidget(self.conversation, 1)
        layout.addLayout(below)
        self.composer.setFocus()

    def _add_shortcuts(self) -> None:
        QShortcut(Qt.Key.Key_Escape, self, self.cancel)
        QShortcut(QKeySequence.StandardKey.Open, self, self.choose_model)
        QShortcut(QKeySequence.StandardKey.New, self, self.begin_anew)
        QShortcut(QKeySequence("Ctrl+D"), self, self.choose_documents)

    @Slot()
    def choose_model(self) -> None:
        """Lets the user choose a model's file."""
        if self.phase in (Phase.NO_MODEL, Phase.READY):
            path, _ = QFileDialog.getOpenFileName(self, "Open a model", "", _MODELS)
            if path:
                self.open_model(Path(path))

    @Slot()
    def choose_documents(self) -> None:
        """Lets the user choose documents."""
        paths, _ = QFileDialog.getOpenFileNames(self, "Add documents", "", _TEXTS)
        if paths:
            self._engine.add_documents([Path(path) for path in paths])

    def open_model(self, path: Path) -> None:
        """Loads a model; the one before it answers until that is done."""
        if self.phase in (Phase.NO_MODEL, Phase.READY):
            self.banner.hide()
            self._enter(Phase.LOADING)
            self._engine.load(path)

    @Slot()
    def begin_anew(self) -> None:
        """Begins another conversation."""
        if self.phase is Phase.READY:
            self.banner.hide()
            self.conversation.clear()
            self._engine.begin_anew()
            self.composer.setFocus()

    @Slot()
    def send(self) -> None:
        """Asks what the user wrote."""
        text = self.composer.toPlainText().strip()
        if text and self.phase is Phase.READY:
            self.banner.hide()
            self.composer.clear()
            self.conversation.add("question", text)
            self._enter(Phase.REPLYING)
            self._engine.ask(text)

    @Slot()
    def cancel(self) -> None:
        """Ends what is being loaded or replied."""
        if self.phase in (Phase.LOADING, Phase.REPLYING) and self._engine.cancel():
            self._enter(Phase.STOPPING if self.phase is Phase.REPLYING else self._rest())

    @Slot()
    def _send_or_cancel(self) -> None:
        if self.phase is Phase.READY:
            self.send()
        else:
            self.cancel()

    @Slot(object)
    def _take(self, event: events.Event) -> None:
        """Shows what the engine tells."""
        match event:
            case events.Loading(fraction):
                if self.phase is Phase.LOADING:
                    self.header.show_loading(fraction)
            case events.Loaded(name, description, asked):
                self._has_model = True
                judges = ", ".join(asked) if asked else "no intrinsics found for it"
                self.header.show_model(name, f"{description} · {judges}")
                self.conversation.clear()
                self._enter(Phase.READY)
            case events.LoadFailed(problem):
                self.banner.say(f"The model was not loaded. {problem}")
                self._enter(self._rest())
            case events.Grounded(titles):
                self.documents.show_titles(titles)
            case events.Rejected(problems):
                self.banner.say("\n".join(problems))
            case events.Judged() | events.Wrote() | events.Marked():
                self._show(event)
            case events.Ended():
                self._end(event)

    def _show(self, event: events.Judged | events.Wrote | events.Marked) -> None:
        """Shows a part of a turn."""
        match event:
            case events.Judged(turn, verdicts):
                next(one for one in reversed(self.conversation.turns) if one.kind == turn).judge(verdicts)
            case events.Wrote(piece):
                last = self.conversation.turns[-1]
                (last if last.kind == "reply" else self.conversation.add("reply")).append(piece)
            case events.Marked(begin, end):
                self.conversation.turns[-1].mark(begin, end)

    def _end(self, event: events.Ended) -> None:
        """Shows that a turn is over."""
        if event.problem is not None:
            self.banner.say(event.problem)
        last = self.conversation.turns[-1]
        if event.answered and (event.cancelled or event.problem):
            last.note("Stopped", "The turn was ended before it was complete.")
        elif not event.answered:
            # The question is the user's again.
            if last.kind == "reply":
                self.conversation.remove_last()
            question = self.conversation.turns[-1].text
            self.conversation.remove_last()
            if not self.composer.toPlainText().strip():
                self.composer.setPlainText(question)
            if not event.cancelled and event.problem is None:
                self.banner.say("The model had nothing to say to that.")
        self._enter(Phase.READY)

    def _rest(self) -> Phase:
        """The phase in which nothing is waited for."""
        return Phase.READY if self._has_model else Phase.NO_MODEL

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self.header.show_loading(0.0 if phase is Phase.LOADING else None)
        self._enable()

    @Slot()
    def _enable(self) -> None:
        """Lets the buttons offer what can be done now."""
        is_busy = self.phase in (Phase.REPLYING, Phase.STOPPING)
        self.send_button.setText({Phase.REPLYING: "Stop", Phase.STOPPING: "Stopping…"}.get(self.phase, "Send"))
        self.send_button.setToolTip("Stop the reply (Esc)" if is_busy else "Send (Enter)")
        can_send = self.phase is Phase.READY and bool(self.composer.toPlainText().strip())
        self.send_button.setEnabled(can_send or self.phase is Phase.REPLYING)
        self.header.open_button.setEnabled(not is_busy)
        self.header.new_button.setEnabled(self.phase is Phase.READY)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Takes files."""
        if _files(event.mimeData()):
            event.acceptProposedAction()
            self._show_dropping(True)

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        """Shows that nothing would be dropped here."""
        self._show_dropping(False)

    def dropEvent(self, event: QDropEvent) -> None:
        """Opens a model that was dropped; takes all else as documents."""
        self._show_dropping(False)
        event.acceptProposedAction()
        paths = _files(event.mimeData())
        if models := [path for path in paths if path.suffix.casefold() == ".gguf"]:
            self.open_model(models[0])
        if documents := [path for path in paths if path not in models]:
            self.add_documents(documents)

    def add_documents(self, paths: Sequence[Path]) -> None:
        """Grounds what follows in these files too."""
        self.banner.hide()
        self._engine.add_documents(paths)

    def _show_dropping(self, dropping: bool) -> None:
        self._card.setProperty("dropping", dropping)
        self._card.style().unpolish(self._card)
        self._card.style().polish(self._card)

    def changeEvent(self, event: QEvent) -> None:
        """Follows the system from light to dark and back."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.ApplicationPaletteChange, QEvent.Type.PaletteChange):
            self._restyle()

    def _restyle(self) -> None:
        sheet = style_sheet(QApplication.palette())
        # A new style sheet is a new palette, too, and comes back here.
        if sheet != self.styleSheet():
            self.setStyleSheet(sheet)
            for turn in self.conversation.turns:
                turn.render_text()

    def closeEvent(self, event: QCloseEvent) -> None:
        """Ends the engine, whatever it does."""
        self._engine.stop()
        super().closeEvent(event)


def _files(data: QMimeData) -> list[Path]:
    """The files of this machine that are dragged."""
    return [Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile()]
