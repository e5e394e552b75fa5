"""The peers do the work that they are measured at: they write what PEFT computes in float32, from whole texts.

Each is asked through the worker that the benchmark uses. Caches are float16 and kernels differ, so a token passes that
is as good as the best one; most are the best by far.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from alora_cpp.convert import convert_adapter
from benchmarks.composed import adapter_stacks, rank_of, write_composed
from benchmarks.peers.contender import CannotDoError, Files, Setting, Step
from benchmarks.peers.driver import Remote, started
from benchmarks.peers.huggingface import huggingface_folder
from oracle.tiny_models import (
    ALL_LINEAR,
    INVOCATION,
    N_VOCAB,
    AdapterSpec,
    make_model,
    write_adapter,
    write_gguf,
    write_hf,
)

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

    from benchmarks.peers import peft_alora
    from oracle.peft_oracle import load_adapter, load_base
else:
    torch = pytest.importorskip("torch")
    PeftModel = pytest.importorskip("peft").PeftModel
    from benchmarks.peers import peft_alora
    from oracle.peft_oracle import load_adapter, load_base

pytestmark = pytest.mark.oracle

N_ADAPTERS = 3
SETTING = Setting(n_ctx=256, threads=1, invocation=INVOCATION, kv_token_bytes=256)
# How much less likely than the best one a token may be, in logits.
TOLERANCE = 0.02

PACKAGES = {
    "llama-server": "xllamacpp",
    "llama-server-two-slots": "xllamacpp",
    "llama-server-switch": "xllamacpp",
    "llama-cpp-python": "llama_cpp",
    "peft": "peft",
}
# Rows computed and tokens reused. The last token of a reply has not been read when the next call comes.
COUNTS = {
    "llama-server": {
        "reply": (1 + 5, 39),
        # The token before the invocation is read again under each adapter. The reply's last one is that token.
        "checks": (3 * (1 + 3 + 3), 3 * 45),
        "second reply": (51 + 5, 0),
        "second checks": (2 * (1 + 3 + 3), 2 * 56),
        "new check": (1 + 3 + 4, 29),
        "new reply": (30 + 5, 0),
    },
    "llama-server-two-slots": {
        "reply": (1 + 5, 39),
        "checks": (46 + 3 + 3 + 2 * (1 + 3 + 3), 2 * 45),
        "second reply": (1 + 5 + 5, 45),
        "second checks": (5 + 6 + 3 + 3 + 1 + 3 + 3, 46 + 56),
        "new check": (30 + 3 + 4, 0),
        "new reply": (1 + 5, 29),
    },
    "llama-server-switch": {
        "reply": (1 + 5, 39),
        "checks": (1 + 3 * (3 + 3), 45 + 2 * 46),
        "second reply": (5 + 5, 46),
        "second checks": (1 + 2 * (3 + 3), 56 + 57),
        "new check": (3 + 4, 30),
        "new reply": (1 + 5, 29),
    },
    "llama-cpp-python": {
        "reply": (5, 40),
        "checks": (3 * (46 + 3 + 3), 0),
        "second reply": (1 + 5 + 5, 45),
        "second checks": (2 * (57 + 3 + 3), 0),
        "new check": (30 + 3 + 4, 0),
        "new reply": (5, 30),
    },
    "peft": {
        "reply": (5, 40),
        "checks": (1 + 3 * (3 + 3), 3 * 46),
        "second reply": (5 + 5, 46),
        "second checks": (1 + 2 * (3 + 3), 2 * 57),
        "new check": (3 + 4, 30),
        "new reply": (5, 30),
    },
}


@dataclass(frozen=True)
class Said:
    """Tokens that were written behind a text, which an adapter read from a position on; by the base without one."""

    text: list[int]
    tokens: list[int]
    adapter: int | None = None
    at: int = 0


@dataclass(frozen=True)
class Shop:
    """A model in all its forms."""

    files: Files
    whole: Path
    """As transformers loads it, written without our converters."""
    adapters: tuple[Path, ...]


@pytest.fixture(scope="module", params=["granite", "llama"])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp(request.param)
    model = make_model(request.param)
    # The last tokens are control tokens in the composed model alone: nobody shall write one.
    model.weights["lm_head.weight"][-N_ADAPTERS:] = 0
    base = write_gguf(model, folder / "base.gguf")
    spec = AdapterSpec(targets=ALL_LINEAR)
    adapters = [write_adapter(model, spec, folder / f"peft-{n}", seed=n, base="org/tiny") for n in range(N_ADAPTERS)]
    converted = tuple(convert_adapter(one, folder / f"{one.name}.gguf", base=base, outtype="f32") for one in adapters)
    names = [one.name for one in adapters]
    stacks = adapter_stacks(base, converted)
    switch = folder / "switch.gguf"
    write_composed(base, switch, names, stacks, rank=rank_of(converted[0]), first_token=INVOCATION[0])
    huggingface = huggingface_folder(base, converted, folder / "huggingface", dtype="float32")
    return Shop(Files(base, converted, switch, huggingface), write_hf(model, folder / "whole"), tuple(adapters))


class Talk:
    """A conversation with checks, and what was said in it."""

    def __init__(self, party: Remote) -> None:
        self.name = party.name
        self._party = party
        self._random = np.random.default_rng(5)
        self._text: list[int] = []
        self.said: list[Said] = []
        self.steps: dict[str, Step] = {}
        self._begin("prompt", self._tokens(40))
        self._write("reply", 6)
        self._ask("checks", [0, 1, 2], 4)
        self._extend("turn", 5)
        self._write("second reply", 6)
        self._ask("second checks", [2, 0], 4)
        self._begin("new prompt", self._tokens(30))
        self._ask("new check", [1], 5)
        self._begin("same prompt", self._text)
        self._ask("same check", [1], 5)
        self._write("new reply", 6)

    def _tokens(self, count: int) -> list[int]:
        # The invocation is below, and the control tokens of the composed model are above.
        tokens: list[int] = self._random.integers(10, N_VOCAB - N_ADAPTERS, count).tolist()
        return tokens

    def _begin(self, name: str, tokens: list[int]) -> None:
        self._text = tokens
        self.steps[name] = self._party.begin(tokens)

    def _extend(self, name: str, count: int) -> None:
        new = self._tokens(count)
        self.steps[name] = self._party.extend(new)
        self._text = [*self._text, *new]

    def _write(self, name: str, count: int) -> None:
        step = self.steps[name] = self._party.write(count)
        assert len(step.tokens) == count
        self.said.append(Said(self._text, step.tokens))
        self._text = [*self._text, *step.tokens]

    def _ask(self, name: str, adapters: list[int], count: int) -> None:
        step = self.steps[name] = self._party.ask(adapters, count)
        assert len(step.tokens) == count * len(adapters)
        if self.name == "llama-server-two-slots" and name == "second checks":
            # They read a token of the turn before that its last check computed.
            return
        text = [*self._text, *INVOCATION]
        # llama-server activates one token too early; an ordinary LoRA governs the whole text.
        early = {"llama-server": 1, "llama-server-two-slots": 1, "llama-cpp-python": len(self._text)}
        at = len(self._text) - early.get(self.name, 0)
        for place, adapter in enumerate(adapters):
            self.said.append(Said(text, step.tokens[place * count : (place + 1) * count], adapter, at))


@pytest.fixture(scope="module", params=PACKAGES)
def talk(request: pytest.FixtureRequest, shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Talk:
    name, package = request.param, PACKAGES[request.param]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}")
    with started([name], tmp_path_factory.mktemp("logs")) as remotes:
        loaded = remotes[name].load(shop.files, SETTING)
        assert loaded.weights > shop.files.model.stat().st_size // 2
        assert loaded.kv >= SETTING.n_ctx * SETTING.kv_token_bytes
        return Talk(remotes[name])


def leads(model: PeftModel, said: Said) -> list[tuple[float, float]]:
    """For each token how much better than it the best is, and how much better than the second best the best is."""
    text = [*said.text, *said.tokens]
    options = {} if said.adapter is None else {"alora_offsets": [len(text) - said.at]}
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([text]), use_cache=False, **options).logits[0, len(said.text) - 1 : -1]
    best = logits.topk(2, dim=-1).values
    taken = logits[range(len(said.tokens)), said.tokens]
    return list(zip((best[:, 0] - taken).tolist(), (best[:, 0] - best[:, 1]).tolist(), strict=True))


def test_says_what_peft_computes(shop: Shop, talk: Talk) -> None:
    found: list[tuple[float, float]] = []
    for adapter in (None, *range(N_ADAPTERS)):
        base = load_base(shop.whole)
        model = base if adapter is None else load_adapter(base, shop.adapters[adapter])
        for said in talk.said:
            if said.adapter == adapter:
                found += leads(model, said)
    assert max(loss for loss, _ in found) < TOLERANCE
    assert sum(lead > 2 * TOLERANCE for _, lead in found) > 0.9 * len(found)


def test_counts_rows_and_what_is_reused(talk: Talk) -> None:
    wanted = {"prompt": (40, 0), "turn": (0, 0), "new prompt": (30, 0), "same prompt": (30, 0)} | COUNTS[talk.name]
    wanted["same check"] = wanted["new check"]
    assert {name: (step.evaluated, step.reused) for name, step in talk.steps.items()} == wanted


def test_times_are_within_the_call(talk: Talk) -> None:
    assert all(0 <= step.first <= step.seconds for step in talk.steps.values())
    assert all(talk.steps[name].first < talk.steps[name].seconds for name in ("reply", "checks", "new check"))


@pytest.mark.parametrize(("faster", "size"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_peft_computes_with_the_faster_numbers(
    faster: torch.dtype, size: int, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peft_alora, "_matmul_seconds", lambda dtype: 1.0 if dtype is faster else 2.0)
    folder = huggingface_folder(shop.files.model, shop.files.adapters, tmp_path / "halves")
    peft = peft_alora.PeftAlora()
    loaded = peft.load(replace(shop.files, huggingface=folder), SETTING)
    assert loaded.kv == SETTING.n_ctx * SETTING.kv_token_bytes * size // 2
    peft.begin([10, 11, 12])
    assert len(peft.ask([1], 2).tokens) == 2
    with pytest.raises(CannotDoError, match="more than 8,192 tokens takes minutes"):
        peft.begin([10] * 8193)
    peft.close()


def test_the_server_needs_lists_of_adapters(shop: Shop, tmp_path: Path) -> None:
    """Without them the base reads nothing again after a check, and is not the base any more."""
    pytest.importorskip("xllamacpp")
    random = np.random.default_rng(1)
    prompt, turn = (random.integers(10, N_VOCAB - N_ADAPTERS, count).tolist() for count in (40, 5))
    job = {
        "model": str(shop.files.model),
        "adapters": [str(path) for path in shop.files.adapters],
        "invocation": INVOCATION,
        "prompt": prompt,
        "turn": turn,
    }
    root = Path(__file__).resolve().parents[2]
    said = {}
    for way in ("lists", "none"):
        command = [sys.executable, str(Path(__file__).with_name("probabilities.py")), way, json.dumps(job)]
        environment = os.environ | {"PYTHONPATH": str(root)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, cwd=root)
        assert done.returncode == 0, done.stderr[-2000:]
        line = next(line for line in done.stdout.splitlines() if line.startswith("SAID "))
        said[way] = json.loads(line.removeprefix("SAID "))
    assert said["lists"]["asked"] == pytest.approx(said["lists"]["unasked"], abs=1e-3)
    assert said["lists"]["evaluated"] == 45
    assert said["none"]["asked"] != pytest.approx(said["lists"]["asked"], abs=1e-2)
    assert said["none"]["evaluated"] == 5
