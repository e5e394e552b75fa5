"""The app's command line, from the first line to the last thread."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import shiboken6
from PySide6.QtWidgets import QApplication

from alora_cpp.bundled_model import BUNDLED
from alora_desktop.engine import Engine
from alora_desktop.window import Window


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the app.

    Returns:
        The exit code: 0, or 1 where a self-test failed.
    """
    arguments = _parser().parse_args(argv)
    if arguments.self_test:
        # Nobody watches: no screen is needed.
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    application = QApplication.instance() or QApplication(sys.argv[:1])
    application.setApplicationName("alora desktop")
    engine = Engine(isolation=arguments.isolation, n_threads=arguments.threads)
    window = Window(engine)
    engine.start()
    try:
        window.show()
        window.open_model(arguments.model)
        if arguments.self_test:
            # Brings Qt's test module along.
            from alora_desktop.self_test import run

            return run(window, engine, screenshot=arguments.screenshot)
        return application.exec()
    finally:
        close(window, engine)


def close(window: Window, engine: Engine) -> None:
    """Ends the engine, whatever it does, and deletes both.

    Python's collector would do that some time later and on any thread, which Qt's objects do not survive.
    """
    engine.stop()
    engine.wait()
    shiboken6.delete(window)
    shiboken6.delete(engine)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="alora-desktop", description="Talk with a model about documents.")
    parser.add_argument(
        "--model", metavar="FILE", type=Path, default=BUNDLED, help="a GGUF file (default: the bundled model)"
    )
    parser.add_argument(
        "--isolation",
        choices=["process", "none"],
        default="process",
        help="where the model computes: in a process of its own (default), so that the app outlives its crash",
    )
    parser.add_argument("-t", "--threads", metavar="N", type=int, default=0, help="threads (default: physical cores)")
    parser.add_argument("--self-test", action="store_true", help="drive the app without a screen, print what it took")
    parser.add_argument("--screenshot", metavar="FILE", type=Path, help="with --self-test: a picture of the window")
    return parser
