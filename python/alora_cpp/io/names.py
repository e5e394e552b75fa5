"""Names of intrinsics: spellings and aliases that mean the same one."""

from __future__ import annotations

import re

# What publishers, papers and users also call them.
_ALIASES = {
    "certainty": "uncertainty",
    "hallucination": "hallucination_detection",
}


def canonical_name(name: str) -> str:
    """One spelling for all names of an intrinsic, for looking it up.

    Upper and lower case, and `-`, `_` and spaces, are alike; `certainty` and `uncertainty` are one intrinsic, and so
    are `hallucination` and `hallucination_detection`.
    """
    spelled = re.sub(r"[-_\s]+", "_", name.strip()).casefold()
    return _ALIASES.get(spelled, spelled)
