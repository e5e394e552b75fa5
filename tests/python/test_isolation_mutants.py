"""Broken models and adapters end no host; `isolation_mutants.py` tries more of them."""

from __future__ import annotations

from pathlib import Path
from random import Random

from isolation_mutants import load_adapters, load_models, use

from alora_cpp import Model


def test_broken_models_are_refused_or_work(model_path: Path, tmp_path: Path) -> None:
    outcomes = load_models(model_path.read_bytes(), tmp_path, 25, Random(1))
    assert outcomes.total() == 25
    assert outcomes["ModelLoadError"] > 0


def test_broken_adapters_are_refused_or_work(model_path: Path, adapter_paths: list[Path], tmp_path: Path) -> None:
    with Model(model_path, isolation="process") as model:
        outcomes = load_adapters(model, adapter_paths[0].read_bytes(), tmp_path, 200, Random(2))
        assert outcomes.total() == 200
        assert outcomes["AdapterError"] > 0
        assert outcomes["works"] > 0
        use(model)
