"""Real prose, read for the language."""

from __future__ import annotations

from training.reading.writer import Writer
from training.real_documents import passages


def prose_page(writer: Writer) -> str | None:
    """A page of a novel, or of the documents that others are asked about."""
    pages = passages(writer.data, writer.split)
    if not pages:
        return None
    document, _ = writer.random.choice(pages)
    return f"{document.title}\n{document.text}".strip()
