"""PEFT folders as GGUF files: converted once for a base, and kept by a digest of all that went into them.

An entry is two files in `converted/` of the cache folder: `<key>.gguf`, and `<key>.json` with the digest that the GGUF
had when it was written, and what it was made from. The key covers the adapter's files, what the base is, and the
converter itself, so an entry never grows old: whatever changes gives another key. Where only the files of a folder have
changed, its earlier entry goes. One of another converter stays, for a program with that version of the package.

Entries are in f16. Adapters are trained in bf16 or f32: f16 keeps every digit of the one (in the range that weights
have) and 11 bits of the other, more than a quantized base has, at half the memory of f32.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from alora_cpp.conversion_entries import (
    UNFINISHED,
    entries_folder,
    hold,
    record_of,
    remove_earlier,
    remove_leftovers,
)
from alora_cpp.errors import ConversionError
from alora_cpp.file_digest import FileDigest, digest_of, read_digest, write_digest
from alora_cpp.loaded_model import LoadedModel
from alora_cpp.whole_file import write_whole

_OUTTYPE = "f16"
# What a converter may read of a folder besides the weights: configuration, model card, chat template, tokenizer.
_WEIGHTS, _TEXTS = "adapter_model.safetensors", (".json", ".yaml", ".md", ".jinja")


@contextmanager
def held_gguf(path: Path, base: LoadedModel, *, name: str | None = None, force: bool = False) -> Iterator[Path]:
    """An adapter as GGUF, as `as_gguf` has it, that stays while the context is open, whatever others convert."""
    if not path.is_dir():
        yield path
        return
    while True:
        gguf = as_gguf(path, base, name=name, force=force)
        try:
            file = hold(gguf)
        except FileNotFoundError:
            continue  # The folder has changed, and another process has just converted it anew.
        with file:
            yield gguf
        return


def as_gguf(path: Path, base: LoadedModel, *, name: str | None = None, force: bool = False) -> Path:
    """An adapter as GGUF: a file as it is, a PEFT folder converted, unless that was done before.

    The digests of the folder's files are kept, too, and taken as they are while a file's size, time and inode stay, so
    that a second call reads none of the weights. Several processes may do this at the same time; once the folder has
    changed, one of them may remove the file, unless it is held (`held_gguf`).

    Args:
        path: A GGUF file or a PEFT folder.
        base: The model that it is to run on.
        name: The adapter's name in the file; the folder's, if not given.
        force: Whether to convert an adapter that names another base, too.

    Raises:
        AdapterMismatchError: The folder names another base.
        ConversionError: The folder cannot be converted, or the cache cannot be written.
    """
    if not path.is_dir():
        return path
    from alora_cpp.convert import convert_adapter
    from alora_cpp.convert.base_name import check_base_name
    from alora_cpp.convert.peft_config import read_config

    if not force:
        # Before the cache is looked at, where it may lie since it was forced.
        check_base_name(path, read_config(path).base, base.path, base.metadata.get("general.name"))
    cache = entries_folder()
    name = name or path.resolve().name
    try:
        cache.mkdir(parents=True, exist_ok=True)
        facts = {"base": _base_identity(base), "name": name, "outtype": _OUTTYPE, "converter": _converter_digest()}
        files = {file.name: _known_digest(file, cache) for file in _inputs(path)}
        entry = cache / f"{_digest_of_facts({'files': files, **facts})}.gguf"
        if _is_whole(entry, read_digest(record_of(entry))):
            return entry
        remove_leftovers(cache)
        with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=cache) as scratch:
            scratch_file = Path(scratch) / "adapter.gguf"
            written = convert_adapter(path, scratch_file, base=base.path, outtype=_OUTTYPE, name=name, force=True)
            digest = _moved(written, entry)
        # A folder of the hub's cache is called by repository and commit.
        source = str(path.resolve())
        series = _digest_of_facts({"source": source, **facts})
        made_from = {"source": source, "base": str(base.path.resolve()), "name": name, "series": series}
        write_whole(record_of(entry), json.dumps({**asdict(digest), **made_from}))
        remove_earlier(entry, series)
    except OSError as error:
        raise ConversionError(
            f"{path} is to be kept as GGUF in {cache}, which failed: {error}; make room or name another cache folder"
            f" with HF_HOME, or convert it yourself: alora-cli convert {path} --outfile FILE --base {base.path}"
        ) from error
    return entry


def _is_whole(entry: Path, written: FileDigest | None) -> bool:
    """Whether an entry is what was written; read only where its size, time or inode are others."""
    if written is None or not entry.is_file():
        return False
    return digest_of(entry, known=written).sha256 == written.sha256


def _moved(written: Path, entry: Path) -> FileDigest:
    """Gives a file to an entry, and its digest to the caller."""
    digest = digest_of(written)
    try:
        written.replace(entry)
    except PermissionError:
        # On Windows, where another process made the same at the same time and has it open.
        there = digest_of(entry)
        if there.sha256 != digest.sha256:
            raise
        return there
    return digest


def _digest_of_facts(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _inputs(folder: Path) -> Iterator[Path]:
    return (file for file in folder.iterdir() if file.is_file() and (file.name == _WEIGHTS or file.suffix in _TEXTS))


def _known_digest(file: Path, cache: Path) -> str:
    """The digest of a file, from the record of an earlier call where that still holds."""
    record = cache / "read" / f"{hashlib.sha256(str(file.absolute()).encode()).hexdigest()}.json"
    known = read_digest(record)
    digest = digest_of(file, known=known)
    if digest != known:
        write_digest(record, digest)
    return digest.sha256


def _base_identity(base: LoadedModel) -> list[str | int | None]:
    """What the base is, and of what else it is that goes into an adapter's file, its template."""
    prints = base._core.fingerprints
    if prints.weights is not None:
        return [prints.vocabulary, prints.weights, base.chat_template]
    # One file of several has no fingerprint of the weights: then the entry belongs to this very file.
    status = base.path.stat()
    return [prints.vocabulary, str(base.path.resolve()), status.st_size, status.st_mtime_ns]


@functools.cache
def _converter_digest() -> str:
    """A digest of the converter's source: another converter may write another file."""
    spec = importlib.util.find_spec("alora_cpp.convert")
    assert spec is not None
    assert spec.origin is not None
    digest = hashlib.sha256()
    for file in sorted(Path(spec.origin).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
