"""Records what PEFT computes, for those who test without torch.

Run in the folder `tests`, with torch, transformers and peft installed:

    python -m oracle.record

Writes `recorded.npz` beside this file:
    cases       names, `family/adapter/prompt`
    ids         [case, position], the prompts
    logits      [case, position, token], PEFT's logits of every position
    generated   [case, step], PEFT's greedy continuation
    probe_*     [64], a family's last norm, which shows whether this machine draws the same weights
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from oracle import peft_oracle
from oracle.cases import ADAPTERS, adapter_names, adapter_seed, prompt_kinds
from oracle.tiny_models import ALL_FAMILIES, make_model, write_adapter, write_hf

RECORDED = Path(__file__).with_name("recorded.npz")


def main() -> None:
    """Computes and writes everything."""
    arrays: dict[str, Any] = {"cases": [], "ids": [], "logits": [], "generated": []}
    with tempfile.TemporaryDirectory() as scratch:
        for family in ALL_FAMILIES:
            model = make_model(family)
            arrays[f"probe_{family}"] = model.weights["model.norm.weight"]
            hf_folder = write_hf(model, Path(scratch) / family)
            for name in adapter_names(family):
                spec = ADAPTERS[name]
                folder = Path(scratch) / f"{family}-{name}"
                write_adapter(model, spec, folder, seed=adapter_seed(name))
                adapted = peft_oracle.load_adapter(peft_oracle.load_base(hf_folder), folder)
                for kind in prompt_kinds(family, name):
                    ids, generated = peft_oracle.clear_prompt(adapted, kind, spec.invocation)
                    arrays["cases"].append(f"{family}/{name}/{kind}")
                    arrays["ids"].append(ids)
                    arrays["logits"].append(peft_oracle.logits(adapted, ids))
                    arrays["generated"].append(generated)
    arrays["ids"] = np.array(arrays["ids"], dtype=np.int16)
    arrays["generated"] = np.array(arrays["generated"], dtype=np.int16)
    arrays["logits"] = np.array(arrays["logits"], dtype=np.float32)
    np.savez_compressed(RECORDED, **arrays)


if __name__ == "__main__":
    main()
