"""Spellings and aliases of one intrinsic have one canonical name."""

from __future__ import annotations

import pytest

from alora_cpp.io import canonical_name


@pytest.mark.parametrize(
    "names",
    [
        ("certainty", "Uncertainty", " CERTAINTY "),
        ("hallucination", "hallucination_detection", "hallucination-detection", "Hallucination Detection"),
        ("query_rewrite", "query-rewrite", "Query  Rewrite", "query_-rewrite"),
        ("safety", "Safety"),
    ],
)
def test_alike(names: tuple[str, ...]) -> None:
    assert len({canonical_name(name) for name in names}) == 1


def test_different() -> None:
    names = (
        "certainty",
        "hallucination",
        "safety",
        "query_rewrite",
        "query_clarification",
        "queryrewrite",
        "guardian-core",
        "",
    )
    assert len({canonical_name(name) for name in names}) == len(names)


@pytest.mark.parametrize("name", ["certainty", "hallucination-detection", "my own"])
def test_canonical_is_its_own_canonical(name: str) -> None:
    assert canonical_name(canonical_name(name)) == canonical_name(name)
