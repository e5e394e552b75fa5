"""One model in one worker process; in another one, where that has crashed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from alora_cpp.errors import ClosedError
from alora_cpp.isolation.process import Worker


class Supervisor:
    """Has a worker that holds the model, whenever one is asked for.

    Attributes:
        path: The model's file.
    """

    def __init__(self, path: str, options: Mapping[str, Any]) -> None:
        """Begins without a worker.

        Args:
            path: The model's file.
            options: How to load it, as `_core.Model.load` has it.
        """
        self.path = path
        self._options = options
        self._lock = threading.Lock()
        self._is_closed = False
        self._worker: Worker | None = None
        self._model = 0

    def worker(self, progress: Callable[[float], bool] | None = None) -> tuple[Worker, int]:
        """The worker, and the model's number there.

        Args:
            progress: Told the fraction loaded, where it is loaded now; returning False cancels.

        Raises:
            ModelLoadError: The file cannot be loaded, or not any more.
            WorkerCrashed: The worker cannot be started, or crashed at that.
            Cancelled: `progress` said so.
            ClosedError: The model is closed.
        """
        with self._lock:
            if self._is_closed:
                raise ClosedError("the model is closed; load it again")
            if self._worker is None or not self._worker.is_alive:
                worker = Worker(self.path)
                try:
                    load = "Model.load"
                    self._model = worker.run(load, self.path, options=self._options, keep=True, progress=progress)
                except BaseException:
                    worker.close()
                    raise
                self._worker = worker
            return self._worker, self._model

    def close(self) -> None:
        """Ends the worker for good."""
        with self._lock:
            self._is_closed = True
            if self._worker is not None:
                self._worker.close()
