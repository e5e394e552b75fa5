"""Our own contenders do the work that they are measured at.

What they write is held against whole texts, read from scratch with nothing shared or batched. Kernels round differently
by the number of rows: a token passes that is as good as the best one, and most are the best by far.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from alora_cpp import Model
from alora_cpp.convert import convert_adapter
from benchmarks.peers.contender import Files, Guarding, Setting
from benchmarks.peers.ours import Fused, OneByOne, OrdinaryLora, Ours
from oracle.tiny_models import ALL_LINEAR, INVOCATION, N_VOCAB, AdapterSpec, make_model, write_adapter

N_ADAPTERS = 3
SETTING = Setting(n_ctx=300, threads=1, invocation=INVOCATION, kv_token_bytes=256)
# In logits.
TOLERANCE = 0.02


@pytest.fixture(scope="module")
def files(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("adapters")
    spec = AdapterSpec(targets=ALL_LINEAR)
    peft = [
        write_adapter(make_model("llama"), spec, folder / f"{n}", seed=n, base="org/tiny") for n in range(N_ADAPTERS)
    ]
    return Files(tiny_gguf, tuple(convert_adapter(one, folder / f"{one.name}.gguf", base=tiny_gguf) for one in peft))


@pytest.fixture(params=[Fused, OneByOne, OrdinaryLora])
def ours(request: pytest.FixtureRequest, files: Files) -> Iterator[Ours]:
    contender: Ours = request.param()
    loaded = contender.load(files, SETTING)
    assert loaded.weights == sum(path.stat().st_size for path in (files.model, *files.adapters))
    yield contender
    contender.close()


@dataclass
class Oracle:
    """Reads whole texts and looks at what was written behind them."""

    files: Files
    lost: list[float] = field(default_factory=list)
    """How much less likely than the best one each token was."""
    led: list[float] = field(default_factory=list)
    """How much likelier the best one was than the second best."""

    def look(self, text: list[int], tokens: list[int], adapter: int | None = None, at: int = 0) -> None:
        """Notes how good tokens behind a text are; from position `at` on an adapter governs it."""
        with Model(self.files.model) as model, model.context(n_ctx=512, n_threads=1, kv_type="f32") as context:
            branch = context.branch()
            branch.append(text[:at])
            if adapter is not None:
                branch.activate(model.load_adapter(self.files.adapters[adapter]))
            branch.append([*text[at:], *tokens])
            context.decode()
            logits = branch.logits(len(tokens) + 1)[:-1]
        best = np.sort(logits, axis=1)
        self.lost += (best[:, -1] - logits[range(len(tokens)), tokens]).tolist()
        self.led += (best[:, -1] - best[:, -2]).tolist()

    def check(self) -> None:
        """All tokens are good, and few could have been others."""
        assert max(self.lost) < TOLERANCE
        assert np.mean(np.array(self.led) > 2 * TOLERANCE) > 0.8


def drawn(seed: int, count: int) -> list[int]:
    # Below is the invocation.
    tokens: list[int] = np.random.default_rng(seed).integers(10, N_VOCAB, count).tolist()
    return tokens


def test_says_what_whole_texts_say(ours: Ours, files: Files) -> None:
    oracle = Oracle(files)
    text = drawn(1, 30)
    ours.begin(text)
    for round_of_talk in range(2):
        turn = drawn(2 + round_of_talk, 5)
        ours.extend(turn)
        text = [*text, *turn]
        written = ours.write(6).tokens
        oracle.look(text, written)
        text = [*text, *written]
        answers = ours.ask([2, 0], 4).tokens
        for place, adapter in enumerate((2, 0)):
            at = 0 if isinstance(ours, OrdinaryLora) else len(text)
            oracle.look([*text, *INVOCATION], answers[4 * place : 4 * place + 4], adapter, at)
    assert len(written) == 6
    assert len(answers) == 8
    oracle.check()


def test_adapters_say_something_else_than_the_base(ours: Ours, files: Files) -> None:
    """Or the test above could not tell them apart."""
    oracle = Oracle(files)
    text = drawn(1, 30)
    ours.begin(text)
    oracle.look([*text, *INVOCATION], ours.ask([0], 8).tokens)
    assert max(oracle.lost) > 10 * TOLERANCE


def test_counts_rows(ours: Ours) -> None:
    """A token is read when the conversation goes on behind it, once; LoRA reads all of it for each adapter."""
    n = len(INVOCATION)
    steps = [ours.begin(drawn(1, 30)), ours.write(6), ours.ask([0, 1, 2], 4)]
    steps += [ours.extend(drawn(2, 5)), ours.write(3), ours.ask([1], 1)]
    if isinstance(ours, OrdinaryLora):
        asked = [(1 + 3 * (36 + n + 3), 0), (1 + 44 + n, 0)]
    else:
        asked = [(1 + 3 * (n + 3), 3 * 35), (1 + n, 43)]
    expected = [(30, 0), (5, 30), asked[0], (0, 0), (5 + 2, 36), asked[1]]
    assert [(step.evaluated, step.reused) for step in steps] == expected
    assert all(0 <= step.first <= step.seconds for step in steps)


def test_a_new_prompt_forgets_the_old_one(ours: Ours, files: Files) -> None:
    oracle = Oracle(files)
    for seed in range(4):
        # Together they would not fit.
        text = drawn(seed, 200)
        assert ours.begin(text).evaluated == 200
        oracle.look(text, ours.write(3).tokens)
    oracle.check()


def prompt_with_an_end(files: Files) -> tuple[list[int], int]:
    """A prompt after which the model ends its text early, and after how many tokens."""
    with Model(files.model) as model, model.context(n_ctx=512, n_threads=1) as context:
        for seed in range(40):
            with context.branch() as branch:
                branch.append(drawn(seed, 30))
                *written, last = context.generate([branch], max_tokens=100)
                if last.finish == "stop":
                    return drawn(seed, 30), len(written)
    raise AssertionError("the tiny model never ends a text")


def test_tokens_that_end_a_text_do_not(ours: Ours, files: Files) -> None:
    text, end = prompt_with_an_end(files)
    oracle = Oracle(files)
    ours.begin(text)
    written = ours.write(end + 5).tokens
    oracle.look(text, written)
    oracle.check()


def test_rows_of_a_batch_leave_the_conversation_as_it_is(files: Files) -> None:
    fused = Fused()
    fused.load(files, SETTING)
    oracle = Oracle(files)
    text = drawn(1, 30)
    fused.begin(text)
    step = fused.compute(3, [])
    assert (step.evaluated, step.reused, step.tokens) == (3, 3 * 30, [])
    assert fused.compute(3, [0, 2]).evaluated == 3
    oracle.look(text, fused.write(10).tokens)
    oracle.check()
    fused.close()


def test_guards_read_with_the_reply_leave_it_as_it_is(files: Files) -> None:
    fused, alone = Fused(), OneByOne()
    assert isinstance(fused, Guarding)
    assert not isinstance(alone, Guarding)
    fused.load(files, SETTING)
    oracle = Oracle(files)
    text = drawn(1, 30)
    fused.begin(text)
    step = fused.guard([0, 1, 2], 20, 8)
    oracle.look(text, step.tokens)
    oracle.check()
    n = 3 * len(INVOCATION)
    # Asked behind 8, 16 and 20 tokens; the last token is read along with the last guards.
    assert step.evaluated == 20 + 3 * n
    assert step.reused == 30 + 3 * (37 + 45 + 49)
    assert fused.write(1).reused == 50
    fused.close()
