"""Drives the window as a user would, and measures how long it does not listen."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtCore import QEventLoop, QMimeData, QObject, QPoint, QPointF, Qt, QTimer, QUrl, Slot
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget

from alora_desktop.turn import Turn
from alora_desktop.window import Phase, Window


class Heartbeat(QObject):
    """Ticks every ten milliseconds in the interface's thread.

    Attributes:
        longest: The longest time between two ticks, in seconds.
    """

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.longest = 0.0
        self._last = time.perf_counter()
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._timer.start(10)

    @Slot()
    def _tick(self) -> None:
        now = time.perf_counter()
        self.longest = max(self.longest, now - self._last)
        self._last = now

    def skip(self) -> None:
        """Leaves out the time since the last tick: what the driver did in it is none of the app's."""
        self._last = time.perf_counter()


class Driver:
    """A user at a window.

    Attributes:
        window: The window.
        heartbeat: Runs as long as the driver.
    """

    def __init__(self, window: Window) -> None:
        self.window = window
        self.heartbeat = Heartbeat(window)

    def wait_for(self, condition: Callable[[], bool], what: str, *, seconds: float = 60.0) -> float:
        """Lets the window work until something is so.

        Args:
            condition: What is waited for.
            what: The same in words.
            seconds: How long at most.

        Returns:
            Seconds that it took.

        Raises:
            TimeoutError: It is not so.
        """
        began = time.perf_counter()
        while not condition():
            if time.perf_counter() - began > seconds:
                raise TimeoutError(f"waited {seconds:.0f} s in vain: {what}")
            QApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 5)
            time.sleep(0.0005)
        return time.perf_counter() - began

    def wait_until_ready(self) -> float:
        """Lets the window work until a question can be asked; returns the seconds that it took."""
        return self.wait_for(lambda: self.window.phase is Phase.READY, "the window is ready")

    def work_for(self, seconds: float) -> None:
        """Lets the window work for some time."""
        began = time.perf_counter()
        self.wait_for(lambda: time.perf_counter() - began > seconds, "time passes")

    def drop(self, paths: Sequence[Path]) -> None:
        """Drags files onto the window and drops them."""
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
        button, keys = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        copy = Qt.DropAction.CopyAction
        entered = QDragEnterEvent(QPoint(100, 100), copy, data, button, keys)
        QApplication.sendEvent(self.window, entered)
        if entered.isAccepted():
            QApplication.sendEvent(self.window, QDropEvent(QPointF(100, 100), copy, data, button, keys))

    def send(self, text: str) -> None:
        """Types a question and presses Enter."""
        self.window.composer.clear()
        QTest.keyClicks(self.window.composer, text)
        QTest.keyClick(self.window.composer, Qt.Key.Key_Return)

    def ask(self, text: str) -> tuple[Turn, Turn]:
        """Asks, and waits for the reply and the verdicts; returns both turns.

        Raises:
            ValueError: There is no reply.
        """
        turns = self.window.conversation.turns
        n_before = len(turns)
        self.send(text)
        self.wait_until_ready()
        question, reply = turns[n_before:]
        return question, reply

    def click(self, button: QWidget) -> None:
        """Clicks a button."""
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)

    def press_escape(self) -> None:
        """Presses Esc."""
        QTest.keyClick(self.window, Qt.Key.Key_Escape)
