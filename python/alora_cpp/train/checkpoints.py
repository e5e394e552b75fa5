"""The folder of an unfinished training, beside the one it will become.

`OUT.unfinished` holds the checkpoints and, in `training.json`, what is trained: settings, data and base. A training
goes on from the newest whole checkpoint, and only if all of these are the same. `Trainer` writes a checkpoint's
`trainer_state.json` last, so where that can be read, the checkpoint is whole.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from alora_cpp.errors import TrainingError
from alora_cpp.whole_file import write_whole

_ABOUT = "training.json"
_STATE = "trainer_state.json"


class UnfinishedTraining:
    """The folder of a training that is not done yet. As a context, it removes the folder of one without checkpoints.

    Attributes:
        folder: The folder.
        checkpoint: The checkpoint to go on from; None to begin.
    """

    def __init__(self, out: Path, about: Mapping[str, Any], *, resume: bool) -> None:
        """Begins or goes on with a training.

        Args:
            out: The folder that it will become.
            about: What is trained, as plain values.
            resume: Whether to go on with one that is there; where there is none, a new one begins.

        Raises:
            TrainingError: The folder is there already, or an unfinished training is that is not to be gone on with, or
                that is of something else.
        """
        self.folder = out.with_name(f"{out.name}.unfinished")
        self.checkpoint: Path | None = None
        if out.exists():
            raise TrainingError(f"{out} is there already; give another folder, or remove it")
        if self.folder.exists() and not resume:
            raise TrainingError(
                f"{self.folder} is an unfinished training; go on with it (--resume), or remove it to begin again"
            )
        if self.folder.exists():
            self._expect_same(json.loads(json.dumps(about)))
            self.checkpoint = self._newest()
        write_whole(self.folder / _ABOUT, json.dumps(about, indent=2) + "\n")

    def become(self, result: Path, out: Path) -> None:
        """Puts a whole result in its place, and removes the rest.

        Args:
            result: A folder within this one.
            out: Where it goes.
        """
        result.rename(out)
        shutil.rmtree(self.folder)

    def __enter__(self) -> UnfinishedTraining:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.folder.exists() and self._newest() is None:
            shutil.rmtree(self.folder)

    def _expect_same(self, about: Mapping[str, Any]) -> None:
        path = self.folder / _ABOUT
        try:
            before = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise TrainingError(f"{path} cannot be read ({error}); remove {self.folder} to begin again") from error
        for key in sorted(before.keys() | about.keys()):
            if before.get(key) != about.get(key):
                raise TrainingError(
                    f"the unfinished training in {self.folder} has {key} = {before.get(key)!r}, but now it is"
                    f" {about.get(key)!r}; go on with what it was, or remove the folder to begin again"
                )

    def _newest(self) -> Path | None:
        whole = []
        for folder in self.folder.glob("checkpoint-*"):
            try:
                whole.append((json.loads((folder / _STATE).read_bytes())["global_step"], folder))
            except (OSError, ValueError, KeyError):
                # It was being written when the training ended.
                shutil.rmtree(folder)
        return max(whole)[1] if whole else None
