"""What is shipped is what was recorded when it was made, and small; certainty can be measured again without a GPU."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from alora_cpp.bundled_model import BUNDLED, bundled_adapters
from training.tasks import certainty
from training.tasks.example import Sources
from training.tasks.intrinsics import INTRINSICS

RECORD = Path(__file__).parents[2] / "training/shipped.json"
MOST_BYTES = 16_000_000


def test_shipped_files_are_those_of_the_record() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    files = [BUNDLED, *bundled_adapters().values()]
    assert {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files} == record["sha256"]
    assert record["command"].startswith("python -m training ")


def test_every_intrinsic_is_shipped_and_all_are_small() -> None:
    assert bundled_adapters().keys() == INTRINSICS.keys()
    assert sum(file.stat().st_size for file in (BUNDLED, *bundled_adapters().values())) <= MOST_BYTES


def test_kept_answers_are_those_of_todays_questions() -> None:
    examples = certainty.measured_examples("test", Sources(), 1000)
    assert len(examples) == 1000
    assert len({example.label for example in examples}) > 5
    assert {example.right for example in examples} == {True, False}
