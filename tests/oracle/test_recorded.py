"""The engine against recorded logits and tokens of PEFT; needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from alora_cpp import Model
from alora_cpp.convert import convert_adapter
from oracle.cases import ADAPTERS, TOLERANCE, adapter_names, adapter_seed, prompt_kinds
from oracle.engine import (
    UBATCHES,
    greedy_lag,
    largest_difference,
    make_context,
    queue_prompt,
)
from oracle.tiny_models import ALL_FAMILIES, make_model, write_adapter, write_gguf

RECORDED = Path(__file__).with_name("recorded.npz")


@dataclass(frozen=True)
class Recording:
    """What PEFT did with one prompt."""

    ids: list[int]
    logits: npt.NDArray[np.float32]
    generated: list[int]


@lru_cache(maxsize=1)
def recordings() -> dict[str, Recording]:
    """Reads all recordings, by `family/adapter/prompt`."""
    with np.load(RECORDED) as file:
        cases, ids, logits, generated = (file[key] for key in ("cases", "ids", "logits", "generated"))
    return {str(case): Recording(ids[i].tolist(), logits[i], generated[i].tolist()) for i, case in enumerate(cases)}


class Bench:
    """A family's model and its adapters, converted when first asked for."""

    def __init__(self, family: str, folder: Path) -> None:
        """Writes the model."""
        self.family = family
        self._folder = folder
        self._tiny = make_model(family)
        self._path = write_gguf(self._tiny, folder / "base.gguf")
        self.model = Model(self._path)

    def adapter_file(self, name: str) -> Path:
        """Writes an adapter as PEFT does and converts it."""
        folder = self._folder / name
        write_adapter(self._tiny, ADAPTERS[name], folder, seed=adapter_seed(name))
        return convert_adapter(folder, f"{folder}.gguf", base=self._path, outtype="f32")


@pytest.fixture(scope="module", params=ALL_FAMILIES)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One model a family, for all tests of the family."""
    bench = Bench(request.param, tmp_path_factory.mktemp(request.param))
    with bench.model:
        yield bench


def test_this_machine_draws_the_recorded_weights(bench: Bench) -> None:
    """Otherwise the recordings are about another model, and nothing below means anything."""
    with np.load(RECORDED) as file:
        probe = file[f"probe_{bench.family}"]
    np.testing.assert_allclose(make_model(bench.family).weights["model.norm.weight"], probe, 1e-5)


CASES = [(family, name) for family in ALL_FAMILIES for name in adapter_names(family)]


@pytest.mark.parametrize(("bench", "name"), CASES, indirect=["bench"], scope="module")
def test_logits_of_every_position(bench: Bench, name: str) -> None:
    """Rows before and after the activation, whole or cut into several passes."""
    adapter = bench.model.load_adapter(bench.adapter_file(name))
    for n_ubatch in UBATCHES:
        context = make_context(bench.model, n_ubatch=n_ubatch)
        for kind in prompt_kinds(bench.family, name):
            recording = recordings()[f"{bench.family}/{name}/{kind}"]
            branch = queue_prompt(context, adapter, recording.ids)
            context.decode()
            ours = branch.logits(rows=len(recording.ids))
            assert largest_difference(ours, recording.logits) < TOLERANCE, (kind, n_ubatch)
            branch.close()


@pytest.mark.parametrize(("bench", "name"), CASES, indirect=["bench"], scope="module")
def test_greedy_tokens(bench: Bench, name: str) -> None:
    """What is generated after the prompt is adapted, too."""
    adapter = bench.model.load_adapter(bench.adapter_file(name))
    context = make_context(bench.model, n_ubatch=512)
    for kind in prompt_kinds(bench.family, name):
        recording = recordings()[f"{bench.family}/{name}/{kind}"]
        branch = queue_prompt(context, adapter, recording.ids)
        context.decode()
        assert greedy_lag(context, branch, recording.generated) < 2 * TOLERANCE, kind
        branch.close()


@pytest.mark.parametrize("n_ubatch", UBATCHES)
@pytest.mark.parametrize("stacked", [False, True])
def test_different_adapters_in_one_batch(
    bench: Bench, n_ubatch: int, stacked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every adapter governs its own branch of one fused batch, and nothing else; so in the form for GPUs, too."""
    if stacked:
        monkeypatch.setenv("ALORA_STACK_ADAPTERS", "1")
    context = make_context(bench.model, n_ubatch=n_ubatch)
    queued = []
    for index, name in enumerate(adapter_names(bench.family)):
        kinds = prompt_kinds(bench.family, name)
        recording = recordings()[f"{bench.family}/{name}/{kinds[index % len(kinds)]}"]
        adapter = bench.model.load_adapter(bench.adapter_file(name))
        queued.append((name, recording, queue_prompt(context, adapter, recording.ids)))
    context.decode()
    for name, recording, branch in queued:
        ours = branch.logits(rows=len(recording.ids))
        assert largest_difference(ours, recording.logits) < TOLERANCE, name
