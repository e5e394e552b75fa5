"""Our adapter files in stock llama.cpp, against our engine (and that one against PEFT in test_live_peft.py).

Stock llama.cpp has one rule for ordinary LoRAs, ours, so these must agree everywhere. An aLoRA it activates one token
too early: the token before the invocation is adapted, too. So the two are comparable

- where the invocation begins the prompt, for there is no token before it;
- where that token's own rows are all that changes: an adapter of the last layer's q, o and feed-forward alters neither
  its key nor its value, and nothing else of it reaches the tokens after it;
- anywhere, if our engine is told to activate one token earlier: then it is the files' numbers that are compared, and
  not the engines' ideas of when they count.

Everywhere else the answers differ, and a test says so: it is what tells the cases above from blindness.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from alora_cpp import Model
from alora_cpp.convert import OUTTYPES, convert_adapter
from oracle.adapter_files import Array, edit_config, edit_weights
from oracle.cases import ADAPTERS, PROMPT_LENGTH, activation, prompt_ids
from oracle.engine import make_context
from oracle.stock_server import Answer, Question, ask
from oracle.tiny_models import (
    ALL_FAMILIES,
    ALL_LINEAR,
    INVOCATION,
    N_VOCAB,
    AdapterSpec,
    TinyModel,
    make_model,
    write_adapter,
    write_gguf,
)

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="needs xllamacpp"),
]

N_TOKENS = 12
# Of log-probabilities. Builds round differently, and some operations make more of it: Gemma's GELU goes through a table
# of float16, and matrices of float16 are multiplied with inputs rounded to float16.
TOLERANCE = 1e-4
GEMMA_TOLERANCE = 1e-3
HALF_TOLERANCE = 1e-2
# Under it, which token wins is a matter of rounding.
CLEAR_LEAD = 2e-3


@dataclass(frozen=True)
class Case:
    """An adapter's file, a prompt, and the position from which our engine is to let it govern."""

    file: Path
    prompt: list[int]
    at: int


@dataclass(frozen=True)
class Found:
    """How far the engines are apart: in log-probabilities, and in a token that was clearly the best."""

    case: Case
    difference: float
    same_tokens: bool


def compare(base: Path, cases: Sequence[Case]) -> list[Found]:
    """Asks both engines.

    Both go on with the token that stock llama.cpp chose, so that one answer says something about each step.
    """
    questions = [Question(str(case.file), case.prompt) for case in cases]
    answers = ask(base, questions, n_tokens=N_TOKENS, n_vocab=N_VOCAB)
    with Model(base) as model:
        return [_compare(model, case, answer) for case, answer in zip(cases, answers, strict=True)]


def _compare(model: Model, case: Case, answer: Answer) -> Found:
    assert len(answer.tokens) == N_TOKENS
    allowed = [token for token in range(N_VOCAB) if not model.is_end_of_generation(token)]
    differences, same = [], True
    with make_context(model, n_ubatch=512) as context:
        branch = context.branch()
        branch.append(case.prompt[: case.at])
        branch.activate(model.load_adapter(case.file))
        branch.append(case.prompt[case.at :])
        for token, theirs in zip(answer.tokens, answer.log_probabilities, strict=True):
            context.decode()
            ours = log_softmax(branch.logits())
            differences.append(float(np.abs(ours - np.array(theirs)).max()))
            second, first = np.sort(ours[allowed])[-2:]
            same = same and (first - second < CLEAR_LEAD or ours[token] == first)
            branch.append([token])
    return Found(case, max(differences), same)


def assert_equal(found: Sequence[Found], tolerance: float) -> None:
    for one in found:
        assert one.difference < tolerance, one.case
        assert one.same_tokens, one.case


def tolerance_of(family: str) -> float:
    return GEMMA_TOLERANCE if family.startswith("gemma") else TOLERANCE


def log_softmax(logits: Array) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max()
    result: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum())
    return result


class Workshop:
    """A family's model, and adapters for it."""

    def __init__(self, family: str, folder: Path) -> None:
        self.folder = folder
        self.model: TinyModel = make_model(family)
        self.base = write_gguf(self.model, folder / "base.gguf")

    def adapter(self, spec: AdapterSpec, name: str, *, outtype: str = "f32") -> Path:
        """Makes an adapter's file."""
        folder = write_adapter(self.model, spec, self.folder / name, base="org/tiny")
        return convert_adapter(folder, self.folder / f"{name}.gguf", base=self.base, outtype=outtype)


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_ordinary_loras_are_equal_everywhere(family: str, tmp_path: Path) -> None:
    """Every shape of adapter, rsLoRA and patterns among them: one alpha in the file stands for all their scales."""
    shop = Workshop(family, tmp_path)
    cases = []
    for seed, (name, spec) in enumerate(ADAPTERS.items()):
        plain = AdapterSpec(**{**vars(spec), "invocation": None})
        cases.append(Case(shop.adapter(plain, name), prompt_ids("middle", None, seed=seed), at=0))
    assert_equal(compare(shop.base, cases), tolerance_of(family))


@pytest.mark.parametrize("outtype", OUTTYPES)
def test_every_number_type_is_read_alike(outtype: str, tmp_path: Path) -> None:
    shop = Workshop("granite", tmp_path)
    file = shop.adapter(AdapterSpec(targets=ALL_LINEAR, rank=32, invocation=None), "lora", outtype=outtype)
    found = compare(shop.base, [Case(file, prompt_ids("middle", None, seed=0), at=0)])
    assert_equal(found, HALF_TOLERANCE if outtype == "f16" else TOLERANCE)


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_an_invocation_that_begins_the_prompt(family: str, tmp_path: Path) -> None:
    shop = Workshop(family, tmp_path)
    cases = [
        Case(shop.adapter(spec, name), prompt_ids("start", spec.invocation, seed=seed), at=0)
        for seed, (name, spec) in enumerate(ADAPTERS.items())
        if spec.invocation is not None
    ]
    assert_equal(compare(shop.base, cases), tolerance_of(family))


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_elsewhere_one_token_early(family: str, tmp_path: Path) -> None:
    """Equal if we activate one token before the invocation, and not if we activate where it begins."""
    shop = Workshop(family, tmp_path)
    cases = []
    for seed, (name, spec) in enumerate(ADAPTERS.items()):
        if spec.invocation is not None:
            # Without a false start before it, for stock llama.cpp may take that for the invocation.
            prompt = prompt_ids("start", None, seed=seed)
            at = PROMPT_LENGTH - len(spec.invocation) - seed % 4
            prompt[at : at + len(spec.invocation)] = spec.invocation
            assert activation(prompt, spec.invocation) == at
            file = shop.adapter(spec, name)
            cases += [Case(file, prompt, at - 1), Case(file, prompt, at)]
    found = compare(shop.base, cases)
    assert_equal(found[::2], tolerance_of(family))
    assert all(one.difference > 0.01 for one in found[1::2])


# In the other families the last layer's feed-forward is not all that follows attention, or nothing precedes it.
@pytest.mark.parametrize(
    "family", ["llama", "mistral", "granite", "qwen2", "qwen3", "gemma2", "gemma3", "olmo2", "smollm3"]
)
def test_an_adapter_to_which_the_token_before_means_nothing(family: str, tmp_path: Path) -> None:
    """Equal where the invocation begins: what is adapted too early is seen by no later token."""
    shop = Workshop(family, tmp_path)
    last = shop.model.n_layers - 1
    targets = ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    folder = write_adapter(shop.model, AdapterSpec(targets=targets), tmp_path / "last", base="org/tiny")

    def drop_others(tensors: dict[str, Array]) -> None:
        for name in [name for name in tensors if f".layers.{last}." not in name]:
            del tensors[name]

    edit_weights(folder, drop_others)
    edit_config(folder, layers_to_transform=[last])
    file = convert_adapter(folder, tmp_path / "last.gguf", base=shop.base, outtype="f32")
    prompt = prompt_ids("middle", None, seed=1)
    prompt[6 : 6 + len(INVOCATION)] = INVOCATION
    # For the same reason the invocation itself means nothing to it: only the prompt's last token does.
    cases = [Case(file, prompt, at) for at in (5, 6, len(prompt) - 1)]
    assert_equal(compare(shop.base, cases), tolerance_of(family))
