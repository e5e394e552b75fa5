"""Which modules a configuration targets, against PEFT's own answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from alora_cpp.convert.families import FAMILIES
from alora_cpp.convert.peft_targets import read_targets

if TYPE_CHECKING:
    from peft import LoraConfig, get_peft_model
    from peft.tuners.tuners_utils import _ExcludedModule, check_target_module_exists

    from oracle import peft_oracle
else:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    pytest.importorskip("peft")
    from peft import LoraConfig, get_peft_model
    from peft.tuners.tuners_utils import _ExcludedModule, check_target_module_exists

    from oracle import peft_oracle

from oracle.tiny_models import ALL_FAMILIES, ALL_LINEAR, STATE_SPACE, AdapterSpec, make_model, target_modules, write_hf

pytestmark = pytest.mark.oracle

MODULES = sorted({module for family in FAMILIES for modules in family.model_types.values() for module in modules})
PREFIXES = ("model.layers.", "model.language_model.layers.", "language_model.model.layers.", "layers.")

SETTINGS: dict[str, dict[str, Any]] = {
    "names": {"target_modules": ["q_proj", "down_proj"]},
    "longer names": {"target_modules": ["self_attn.q_proj", "mlp.up_proj", "layers.1.mlp.gate_proj"]},
    "whole name": {"target_modules": ["model.layers.11.self_attn.v_proj"]},
    "part of a name": {"target_modules": ["proj", "attn.q_proj"]},
    "expression": {"target_modules": r".*\.(1|11)\.self_attn\.[qk]_proj"},
    "anchored expression": {"target_modules": r"model\.layers\.\d\..*"},
    "language model only": {"target_modules": r".*language_model.*(q|k|v)_proj"},
    "excluded names": {
        "target_modules": ["q_proj", "k_proj"],
        "exclude_modules": ["k_proj", "layers.1.self_attn.q_proj"],
    },
    "excluded expression": {"target_modules": ["q_proj", "up_proj"], "exclude_modules": r".*\.0\..*"},
    "one layer": {"target_modules": ["q_proj"], "layers_to_transform": 1},
    "layers": {"target_modules": ["q_proj", "mlp.up_proj"], "layers_to_transform": [0, 11]},
    "layers and pattern": {"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": "layers"},
    "another pattern": {"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": ["h", "blocks"]},
    "two patterns": {"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": ["h", "layers"]},
    "no layers": {"target_modules": ["q_proj"], "layers_to_transform": []},
    "whole name and layers": {
        "target_modules": ["model.layers.0.self_attn.q_proj", "v_proj"],
        "layers_to_transform": [1],
    },
}


@pytest.mark.parametrize("case", SETTINGS)
def test_same_as_peft(case: str) -> None:
    """For modules of every family, in blocks of one and of two digits, under every prefix."""
    settings = SETTINGS[case]
    config = LoraConfig(**settings)
    ours = read_targets(settings, Path("adapter_config.json"))
    found = 0
    for prefix in PREFIXES:
        for layer in (0, 1, 11):
            for module in MODULES:
                name = f"{prefix}{layer}.{module}"
                theirs = check_target_module_exists(config, name)
                theirs = bool(theirs) and not isinstance(theirs, _ExcludedModule)
                assert ours.include(name) == theirs, name
                found += theirs
    assert found or case in ("part of a name", "another pattern")


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_all_linear(family: str, tmp_path: Path) -> None:
    """What PEFT finds in a model by itself is what the families' table lists."""
    tiny = make_model(family)
    model = peft_oracle.load_base(write_hf(tiny, tmp_path))
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear"))
    theirs = {name for name, module in adapted.get_base_model().named_modules() if hasattr(module, "lora_A")}
    assert theirs == set(target_modules(tiny, AdapterSpec(targets=(*ALL_LINEAR, *STATE_SPACE))))
    model_type = json.loads((tmp_path / "config.json").read_text())["model_type"]
    tables = [family.model_types[model_type] for family in FAMILIES if model_type in family.model_types]
    used = {name.split(".", 3)[3] for name in theirs}
    assert any(used == set(table) for table in tables)
    targets = read_targets({"target_modules": "all-linear"}, tmp_path)
    assert all(map(targets.include, theirs))
