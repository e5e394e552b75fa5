"""Text files as documents."""

from __future__ import annotations

from pathlib import Path

# More than any context holds; keeps a film that was dropped by mistake out of memory.
MAX_BYTES = 4 * 1024 * 1024


def read_document(path: Path) -> dict[str, str]:
    """A text file as a document.

    Args:
        path: The file.

    Returns:
        A mapping with `title`, the file's name, and `text`.

    Raises:
        ValueError: It is not UTF-8 text, empty or too large.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path.name} has more than {MAX_BYTES // 1024**2} MiB; drop a shorter text")
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ValueError(f"{path.name} is no plain text; drop a text in UTF-8, such as a .txt or .md file")
    if not text:
        raise ValueError(f"{path.name} is empty; drop a file with text")
    return {"title": path.name, "text": text}
