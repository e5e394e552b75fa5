"""What the app goes through to show that it works: `alora-desktop --self-test`. Runs in the frozen app, too."""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from alora_cpp.bundled_model import BUNDLED
from alora_desktop.driver import Driver
from alora_desktop.engine import Engine
from alora_desktop.window import Phase, Window

DOCUMENT = (
    "The Lantern Museum opened in 1894. It was designed by Clara Whitfield. "
    "Old photographs show how much has changed.\n\n"
    "The Lantern Museum opens at 10 am. It is closed on Monday. A ticket for the Lantern Museum costs 12 euros.\n"
)
QUESTION = "When did the Lantern Museum open?"
# What the document does not say: not all of the replies need to be wrong.
BESIDE_IT = ("Who runs the Harbour Hotel?", "Who is the mayor of Oakdale?", "How long is the Old Mill Bridge?")

# Far above what it takes, so that a busy machine does not fail the test; the figures are printed.
_MOST_SECONDS = 2.0


class SelfTestError(Exception):
    """Something did not happen as it should."""


def run(window: Window, engine: Engine, *, screenshot: Path | None = None) -> int:
    """Drives a window that has just begun to load the bundled model.

    Args:
        window: The window.
        engine: Its engine.
        screenshot: Where to write a picture of it, if anywhere.

    Returns:
        The exit code.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            for line in _go_through(Driver(window), engine, Path(folder), screenshot):
                print(line, flush=True)
    except (SelfTestError, TimeoutError) as error:
        print(f"alora-desktop: self-test failed: {error}", file=sys.stderr)
        return 1
    return 0


def _go_through(driver: Driver, engine: Engine, folder: Path, screenshot: Path | None) -> Iterator[str]:
    window = driver.window
    yield f"load: {driver.wait_until_ready():.3f} s"

    museum = folder / "lantern_museum.md"
    museum.write_text(DOCUMENT, encoding="utf-8")
    driver.drop([museum])
    driver.wait_for(lambda: window.documents.titles == (museum.name,), "the document that was dropped is there")
    question, reply = driver.ask(QUESTION)
    verdicts = [chip.text() for chip in (*question.chips, *reply.chips)]
    _expect(len(question.chips) == 1 and len(reply.chips) == 2, f"three verdicts, not {verdicts}")
    _expect("1894" in reply.text and not reply.marks, f"a reply that the document supports, not {reply.text!r}")
    yield f"reply: {reply.text}"
    yield f"verdicts: {', '.join(verdicts)}"

    for text in BESIDE_IT:
        _, reply = driver.ask(text)
        if reply.marks:
            break
    _expect(bool(reply.marks), "a reply with a sentence that is marked")
    yield f"marked: {' '.join(reply.text[begin:end] for begin, end in reply.marks)}"
    if screenshot is not None:
        _picture(driver, screenshot)

    yield from _refuse(driver, folder)
    yield from _cancel(driver, folder)
    yield from _close(driver, engine)


def _refuse(driver: Driver, folder: Path) -> Iterator[str]:
    """A file that is no model, and a document that is no text."""
    window = driver.window
    broken = folder / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    driver.drop([broken])
    driver.wait_for(lambda: bool(window.banner.text) and window.phase is Phase.READY, "a broken model is refused")
    _expect(broken.name in window.banner.text, f"a word about {broken.name}, not {window.banner.text!r}")
    yield f"refused: {window.banner.text}".replace(str(folder), "…")
    driver.drop([BUNDLED.parent])
    driver.wait_for(lambda: BUNDLED.parent.name in window.banner.text, "a folder is refused")
    _, reply = driver.ask(QUESTION)
    _expect(bool(reply.text), "a reply of the model that was there before")


def _cancel(driver: Driver, folder: Path) -> Iterator[str]:
    """Loading, and reading a document that takes about a second."""
    window = driver.window
    window.open_model(BUNDLED)
    began = time.perf_counter()
    driver.click(window.header.cancel_button)
    driver.wait_until_ready()
    yield f"cancel of loading: {_milliseconds(began)}"

    driver.click(window.header.new_button)
    long = folder / "long.txt"
    long.write_text(DOCUMENT * 24, encoding="utf-8")
    driver.drop([long])
    driver.wait_for(lambda: len(window.documents.titles) == 2, "the second document is there")
    driver.send(QUESTION)
    driver.work_for(0.03)
    _expect(window.phase is Phase.REPLYING, "a reply that takes longer")
    began = time.perf_counter()
    driver.press_escape()
    driver.wait_until_ready()
    taken = time.perf_counter() - began
    _expect(taken < _MOST_SECONDS, f"an end within {_MOST_SECONDS} s of cancelling, not {taken:.1f} s")
    _expect(window.composer.toPlainText() == QUESTION, "the question is the user's again")
    yield f"cancel of a reply: {_milliseconds(began)}"


def _close(driver: Driver, engine: Engine) -> Iterator[str]:
    """While it replies."""
    driver.send(QUESTION)
    driver.work_for(0.03)
    _expect(driver.window.phase is Phase.REPLYING, "a reply to close the window in")
    longest = driver.heartbeat.longest
    _expect(longest < _MOST_SECONDS, f"a window that never freezes, not one that did for {longest:.1f} s")
    yield f"longest time the window did not listen: {longest * 1000:.0f} ms"
    began = time.perf_counter()
    driver.window.close()
    _expect(engine.wait(60_000), "the engine's thread ends")
    yield f"close while replying: {_milliseconds(began)}"
    others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    _expect(not [name for name in others if not name.startswith("Dummy")], f"no thread left, not {others}")


def _picture(driver: Driver, path: Path) -> None:
    driver.work_for(0.2)
    _expect(driver.window.grab().save(str(path)), f"a picture in {path}")
    driver.heartbeat.skip()


def _milliseconds(began: float) -> str:
    return f"{(time.perf_counter() - began) * 1000:.0f} ms"


def _expect(condition: bool, expected: str) -> None:
    if not condition:
        raise SelfTestError(f"expected {expected}")
