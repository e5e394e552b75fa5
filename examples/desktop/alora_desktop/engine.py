"""The thread that computes. The window gives it work and is told what happens by one signal."""

from __future__ import annotations

import gc
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PySide6.QtCore import QObject, QThread, Signal

from alora_cpp import AloraError
from alora_cpp.io import split_sentences
from alora_cpp.loaded_model import Isolation
from alora_desktop.document_files import read_document
from alora_desktop.events import Ended, Event, Grounded, Loaded, LoadFailed, Loading, Rejected
from alora_desktop.session import Session


@dataclass(eq=False)
class Job:
    """A piece of work.

    Attributes:
        work: What to do.
        cancelled: Whether the user wants it no more.
        is_settled: Whether it is too late for that.
    """

    work: Callable[[Job], None]
    cancelled: bool = False
    is_settled: bool = False


class Engine(QThread):
    """Loads models, reads documents and answers, one after another, on a thread of its own.

    Its methods are for the window's thread and return at once. Loading and asking can be cancelled; the window gives no
    other such job before it was told how the last one ended.

    Attributes:
        happened: Emitted with an `Event`.
    """

    happened = Signal(object)

    def __init__(self, *, isolation: Isolation = "none", n_threads: int = 0, parent: QObject | None = None) -> None:
        """Makes the thread; `start` starts it.

        Args:
            isolation: Where models compute: `none` is on this thread, `process` in a process of their own.
            n_threads: Threads that compute; 0: one for each physical core.
            parent: The object that owns it.
        """
        super().__init__(parent)
        self.setObjectName("alora engine")
        self._isolation = isolation
        self._n_threads = n_threads
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        # What `cancel` is about, and what runs: under the lock, like the session that is cancelled.
        self._cancellable: Job | None = None
        self._running: Job | None = None
        self._session: Session | None = None
        self._stopping = False
        self._documents: list[dict[str, str]] = []

    def load(self, path: Path) -> None:
        """Loads a model, in place of the one there is; ends with `Loaded` or `LoadFailed`, or silently if cancelled."""
        self._submit(lambda job: self._load(job, path), cancellable=True)

    def ask(self, text: str) -> None:
        """Asks the model; ends with `Ended`."""
        self._submit(lambda job: self._ask(job, text), cancellable=True)

    def add_documents(self, paths: Sequence[Path]) -> None:
        """Reads files and grounds what follows in them too."""
        self._submit(lambda _: self._add_documents(paths))

    def remove_document(self, index: int) -> None:
        """Grounds what follows in one document less."""
        self._submit(lambda _: self._remove_document(index))

    def begin_anew(self) -> None:
        """Begins another conversation with the same model and documents."""
        self._submit(lambda _: self._begin_anew())

    def cancel(self) -> bool:
        """Ends the loading or asking that was begun last.

        Returns:
            Whether it was not too late for that: a load that was cancelled is not heard of again.
        """
        with self._lock:
            job = self._cancellable
            if job is None or job.is_settled:
                return False
            job.cancelled = True
            if job is self._running and self._session is not None:
                self._session.cancel()
            return True

    def stop(self) -> None:
        """Ends the thread, with whatever it does, and frees everything; `wait` waits for that."""
        self._stopping = True
        self.cancel()
        self._jobs.put(None)

    def run(self) -> None:
        """What the thread does."""
        try:
            while (job := self._jobs.get()) is not None:
                if not self._stopping:
                    self._do(job)
        finally:
            self._replace_session(None)

    def _submit(self, work: Callable[[Job], None], *, cancellable: bool = False) -> None:
        job = Job(work)
        if cancellable:
            with self._lock:
                self._cancellable = job
        self._jobs.put(job)

    def _do(self, job: Job) -> None:
        with self._lock:
            self._running = job
            # The job before this one may have ended before it noticed that it was cancelled.
            if self._session is not None:
                self._session.resume()
        try:
            job.work(job)
        except AloraError as error:
            self._tell(Rejected((str(error),)))
        except Exception as error:
            # A mistake of ours must not end the thread.
            self._tell(Rejected((_unexpected(error),)))
        finally:
            with self._lock:
                job.is_settled = True
                self._running = None

    def _tell(self, event: Event) -> None:
        self.happened.emit(event)

    def _load(self, job: Job, path: Path) -> None:
        def told(fraction: float) -> bool:
            self._tell(Loading(fraction))
            return not job.cancelled

        session, problem = None, ""
        try:
            session = Session(
                path,
                documents=self._documents,
                isolation=self._isolation,
                n_threads=self._n_threads,
                progress=told,
            )
        except (AloraError, OSError) as error:
            problem = str(error)
        except Exception as error:
            problem = _unexpected(error)
        with self._lock:
            job.is_settled = True
        if job.cancelled:
            if session is not None:
                session.close()
        elif session is None:
            self._tell(LoadFailed(problem))
        else:
            self._replace_session(session)
            model = session.model
            self._tell(Loaded(model.name, f"{model.architecture}, {_counted(model.n_parameters)}", session.asked))
            _warm_up()

    def _ask(self, job: Job, text: str) -> None:
        session = self._session
        if job.cancelled or session is None:
            self._tell(Ended(answered=False, cancelled=True))
            return
        try:
            for event in session.ask(text):
                self._tell(event)
        except AloraError as error:
            self._tell(Ended(answered=False, problem=str(error)))
        except Exception as error:
            self._tell(Ended(answered=False, problem=_unexpected(error)))

    def _begin_anew(self) -> None:
        if self._session is not None:
            self._session.begin_anew(self._documents)

    def _add_documents(self, paths: Sequence[Path]) -> None:
        problems = []
        for path in paths:
            try:
                self._documents.append(read_document(path))
            except ValueError as error:
                problems.append(str(error))
            except OSError as error:
                problems.append(f"{path.name} cannot be read: {error.strerror}")
        self._ground()
        if problems:
            self._tell(Rejected(tuple(problems)))

    def _remove_document(self, index: int) -> None:
        del self._documents[index]
        self._ground()

    def _ground(self) -> None:
        if self._session is not None:
            self._session.ground(self._documents)
        self._tell(Grounded(tuple(document["title"] for document in self._documents)))

    def _replace_session(self, session: Session | None) -> None:
        with self._lock:
            before, self._session = self._session, session
        if before is not None:
            before.close()


@cache
def _warm_up() -> None:
    """Does what else the first reply would wait for."""
    # The sentence splitter takes a while to import.
    split_sentences("One. Two.")
    # Python's collector stops all threads while it looks through what was imported, which stays anyway.
    gc.freeze()


def _counted(n_parameters: int) -> str:
    if n_parameters < 1e9:
        return f"{n_parameters / 1e6:.1f} M parameters"
    return f"{n_parameters / 1e9:.1f} B parameters"


def _unexpected(error: Exception) -> str:
    return f"something unexpected went wrong: {type(error).__name__}: {error}"
