"""Real prose."""

from __future__ import annotations

from training.reading.writer import Writer
from training.real_text import prose


def prose_page(writer: Writer) -> str | None:
    """A page of real text, where there is any."""
    pages = prose(writer.data) if writer.data else []
    return writer.random.choice(pages) if pages else None
