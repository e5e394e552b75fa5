"""Tables in Markdown, and where they go in a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table: what rows are called on the left, figures on the right."""
    rule = [":---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def with_tables(page: str, tables: Mapping[str, str]) -> str:
    """A page with what stands between `<!-- NAME -->` and `<!-- /NAME -->` replaced; it need not have all of the marks.

    Raises:
        ValueError: The page has a mark that is not closed, or none at all.
    """
    found = [name for name in tables if f"<!-- {name} -->\n" in page]
    if not found:
        raise ValueError(f"the page has no mark <!-- NAME --> with one of the names {', '.join(tables)}")
    for name in found:
        before, _, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        if not end:
            raise ValueError(f"the page has <!-- {name} --> without <!-- /{name} --> after it")
        page = f"{before}<!-- {name} -->\n{tables[name]}\n{end}{after}"
    return page
