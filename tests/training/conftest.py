"""Lets the tests import `training`, `benchmarks` and their own helpers, however pytest was started."""

from __future__ import annotations

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent

sys.path[:0] = [str(folder) for folder in (_HERE, _HERE.parents[1])]
