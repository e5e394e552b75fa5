"""The engine against PEFT itself, on other random models than the recorded ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from alora_cpp import Model
from alora_cpp.convert import convert_adapter
from oracle.cases import ADAPTERS, TOLERANCE, adapter_names, prompt_kinds
from oracle.engine import (
    UBATCHES,
    greedy_lag,
    largest_difference,
    make_context,
    queue_prompt,
)
from oracle.tiny_models import (
    ALL_FAMILIES,
    AdapterSpec,
    TinyModel,
    make_model,
    write_adapter,
    write_gguf,
    write_hf,
)

if TYPE_CHECKING:
    from oracle import peft_oracle
else:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    pytest.importorskip("peft")
    from oracle import peft_oracle

pytestmark = pytest.mark.oracle

SEED = 7


class Bench:
    """One family's model for both sides."""

    def __init__(self, family: str, folder: Path) -> None:
        """Writes the model."""
        self.family = family
        self.tiny: TinyModel = make_model(family, seed=SEED)
        self.gguf = write_gguf(self.tiny, folder / "base.gguf")
        self.hf_folder = write_hf(self.tiny, folder / "base")

    def adapt(self, spec: AdapterSpec, folder: Path) -> tuple[Any, Path]:
        """Gives PEFT's model with a new adapter, and the same adapter as GGUF."""
        write_adapter(self.tiny, spec, folder, seed=SEED, base=str(self.hf_folder))
        adapted = peft_oracle.load_adapter(peft_oracle.load_base(self.hf_folder), folder)
        return adapted, convert_adapter(folder, f"{folder}.gguf", outtype="f32")


@pytest.fixture(scope="module", params=ALL_FAMILIES)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One model a family, for all tests of the family."""
    return Bench(request.param, tmp_path_factory.mktemp(request.param))


CASES = [(family, name) for family in ALL_FAMILIES for name in adapter_names(family)]


@pytest.mark.parametrize(("bench", "name"), CASES, indirect=["bench"], scope="module")
def test_logits_and_tokens(bench: Bench, name: str, tmp_path: Path) -> None:
    """Every position's logits, and the greedy continuation."""
    spec = ADAPTERS[name]
    adapted, file = bench.adapt(spec, tmp_path / "adapter")
    asked = []
    for seed, kind in enumerate(prompt_kinds(bench.family, name)):
        ids, tokens = peft_oracle.clear_prompt(adapted, kind, spec.invocation, seed=SEED + seed)
        asked.append((kind, ids, peft_oracle.logits(adapted, ids), tokens))
    with Model(bench.gguf) as model:
        adapter = model.load_adapter(file)
        for n_ubatch in UBATCHES:
            context = make_context(model, n_ubatch=n_ubatch)
            for kind, ids, logits, tokens in asked:
                branch = queue_prompt(context, adapter, ids)
                context.decode()
                ours = branch.logits(rows=len(ids))
                assert largest_difference(ours, logits) < TOLERANCE, (kind, n_ubatch)
                assert greedy_lag(context, branch, tokens) < 2 * TOLERANCE, (kind, n_ubatch)
                branch.close()
