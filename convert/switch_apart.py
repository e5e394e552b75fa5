"""Takes a Granite Switch model apart: into its base and an adapter's GGUF for each built-in adapter.

On the base alone no row pays for adapters that it does not use, and whichever are wanted are loaded
beside it. Nothing is rounded: numbers are copied in the types they are stored in.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from alora_cpp.errors import AloraError, ConversionError

from .switch_adapter import write_adapter
from .switch_base import write_base
from .switch_model import read_switch_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alora_cpp.built_in import BuiltInIntrinsic


def take_apart(
    model_gguf: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    names: Sequence[str] | None = None,
) -> list[Path]:
    """Takes a Granite Switch model apart.

    Args:
        model_gguf: The composed model. What is known of its adapters' names, invocations and
            io.yaml is found as `alora_cpp.built_in` says.
        folder: Where the base is written, `<stem>.gguf`, and each adapter, `<stem>.<name>.gguf`. It
            is made if need be. The files appear only when all of them are complete.
        names: The adapters wanted; all of them, if not given.

    Returns:
        The files written, the base first.

    Raises:
        ConversionError: It is no such model or damaged, it has no adapter of one of the names, or
            nothing says what invokes one; no file is left behind.
    """
    path, folder = Path(model_gguf), Path(folder)
    model = read_switch_model(path)
    wanted = _wanted(path, names)
    base = folder / f"{path.stem}.gguf"
    if base.exists() and base.samefile(path):
        raise ConversionError(f"the base would be written over {path} itself; name another folder")
    with _made(folder):
        try:
            # In a folder beside the targets: replacing is atomic there, and nothing can stay behind.
            with tempfile.TemporaryDirectory(prefix=".alora-", dir=folder) as scratch:
                unfinished = Path(scratch) / base.name
                write_base(model, unfinished)
                files = [base]
                for one in wanted:
                    files.append(folder / f"{path.stem}.{one.name}.gguf")
                    write_adapter(model, one, Path(scratch) / files[-1].name, base=unfinished)
                for file in files:
                    (Path(scratch) / file.name).replace(file)
        except OSError as error:
            raise ConversionError(
                f"cannot write to {folder} ({error.strerror}); expected a writable folder with room for the model"
            ) from error
    return files


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Makes the folder, and takes it away again where what was to be in it is not."""
    existed = folder.is_dir()
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise ConversionError(f"cannot make the folder {folder} ({error.strerror}); name another one") from error
    try:
        yield
    except BaseException:
        if not existed:
            folder.rmdir()
        raise


def _wanted(path: Path, names: Sequence[str] | None) -> list[BuiltInIntrinsic]:
    from alora_cpp.built_in import built_in_intrinsics
    from alora_cpp.model import Model

    try:
        with Model(path, vocabulary_only=True) as model:
            known = {one.name: one for one in built_in_intrinsics(model)}
    except AloraError as error:
        raise ConversionError(f"{path} cannot be taken apart: {error}") from error
    for name in names or ():
        if name not in known:
            raise ConversionError(f"{path} has no built-in adapter '{name}'; it has {', '.join(known)}")
    return [one for one in known.values() if names is None or one.name in names]
