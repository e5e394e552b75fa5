"""A Granite Switch model computes with a built-in adapter what its base does with the same adapter from a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest

from alora_cpp import (
    Adapter,
    AdapterMismatchError,
    ArgumentError,
    Branch,
    Context,
    Model,
    ModelLoadError,
    TokenError,
)
from tiny import N_VOCAB, Key, Kind, begin, fresh_logits, go_on, open_exact, random_tokens, rewrite_gguf
from tiny_switch import ASSISTANT_PROMPT, NAMES, Composed, compose, control_token

PROMPT = random_tokens(1, 40)
ANSWER = random_tokens(2, 5)


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Composed:
    return compose(tmp_path_factory.mktemp("switch"))


@pytest.fixture(scope="module")
def switch(composed: Composed) -> Iterator[Model]:
    with Model(composed.path) as model:
        yield model


@pytest.fixture(scope="module")
def base(composed: Composed) -> Iterator[Model]:
    with Model(composed.base) as model:
        yield model


@pytest.fixture(scope="module")
def built_in(switch: Model) -> dict[str, Adapter]:
    return {name: switch.load_adapter(name) for name in NAMES}


@pytest.fixture(scope="module")
def separate(composed: Composed, base: Model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Adapter]:
    files = composed.write_adapters(tmp_path_factory.mktemp("adapters"))
    return {name: base.load_adapter(path) for name, path in files.items()}


def checks(context: Context, trunk: Branch, adapters: dict[str, Adapter]) -> list[Branch]:
    """A fork under each adapter and one under none, queued together."""
    forks = [trunk.fork() for _ in range(len(NAMES) + 1)]
    for fork, name in zip(forks, NAMES, strict=False):
        fork.activate(adapters[name])
        fork.append(adapters[name].invocation_tokens)
    forks[-1].append(ASSISTANT_PROMPT)
    for fork in forks:
        fork.append(ANSWER)
    return forks


def test_rows_of_no_adapter_are_the_bases(switch: Model, base: Model) -> None:
    assert np.abs(fresh_logits(switch, PROMPT)[:, :N_VOCAB] - fresh_logits(base, PROMPT)).max() < 1e-5


@pytest.mark.parametrize("n_ubatch", [512, 7])
def test_fused_rows_of_built_in_adapters_are_those_of_the_same_adapters_from_files(
    switch: Model, base: Model, built_in: dict[str, Adapter], separate: dict[str, Adapter], n_ubatch: int
) -> None:
    """Tried with: the next adapter's index and control token."""
    with open_exact(switch, n_ubatch=n_ubatch) as one, open_exact(base, n_ubatch=n_ubatch) as other:
        composed = checks(one, begin(one, PROMPT), built_in)
        apart = checks(other, begin(other, PROMPT), separate)
        one.decode()
        other.decode()
        rows = len(ASSISTANT_PROMPT) + len(ANSWER)
        for left, right in zip(composed, apart, strict=True):
            assert np.abs(left.logits(rows)[:, :N_VOCAB] - right.logits(rows)).max() < 1e-4
        for left in composed[:-1]:
            assert np.abs(left.logits() - composed[-1].logits()).max() > 1e-1


@pytest.mark.parametrize("kv_type", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("flash_attention", [False, True])
def test_the_router_reads_its_control_tokens_from_any_cache(
    switch: Model,
    base: Model,
    built_in: dict[str, Adapter],
    separate: dict[str, Adapter],
    kv_type: str,
    flash_attention: bool,
) -> None:
    """A slot read wrong is another adapter, or none: far more than rounding."""
    options = {"n_ctx": 512, "n_threads": 1, "kv_type": kv_type, "flash_attention": flash_attention}
    with switch.context(**options) as one, base.context(**options) as other:
        composed = checks(one, begin(one, PROMPT), built_in)
        apart = checks(other, begin(other, PROMPT), separate)
        one.decode()
        other.decode()
        for left, right in zip(composed, apart, strict=True):
            assert np.abs(left.logits()[:N_VOCAB] - right.logits()).max() < 5e-3


def test_a_control_token_acts_on_its_own_branch_alone(switch: Model, built_in: dict[str, Adapter]) -> None:
    with open_exact(switch) as context:
        trunk = begin(context, PROMPT)
        kv, logits = trunk.kv_bytes(), trunk.logits()
        early = trunk.fork(20)
        forks = checks(context, trunk, built_in)
        context.decode()
        assert trunk.kv_bytes() == kv
        assert np.array_equal(trunk.logits(), logits)
        # A fork from before the invocation is a base branch, one from behind it is governed.
        beneath = forks[0].fork(len(PROMPT))
        within = forks[0].fork(len(PROMPT) + len(ASSISTANT_PROMPT))
        for branch in (trunk, early, beneath):
            branch.append(ANSWER)
        within.append(ANSWER)
        context.decode()
        plain = fresh_logits(switch, [*PROMPT, *ANSWER])
        for branch in (trunk, beneath):
            assert np.abs(branch.logits() - plain[-1]).max() < 1e-5
        assert np.abs(early.logits() - fresh_logits(switch, [*PROMPT[:20], *ANSWER])[-1]).max() < 1e-5
        assert np.abs(within.logits() - forks[0].logits()).max() < 1e-5


def test_going_back_to_the_base_computes_what_is_new_alone(switch: Model, built_in: dict[str, Adapter]) -> None:
    with open_exact(switch) as context:
        trunk = begin(context, PROMPT)
        for fork in checks(context, trunk, built_in):
            context.decode()
            fork.close()
        before = context.counters.rows_decoded
        go_on(trunk, context, [9])
        assert context.counters.rows_decoded == before + 1
        assert context.n_cells_used == len(PROMPT) + 1


def test_checks_after_rows_were_dropped_or_restored(
    switch: Model, base: Model, built_in: dict[str, Adapter], separate: dict[str, Adapter]
) -> None:
    """The router's own layer of the cache moves and comes back with the others."""
    with open_exact(switch) as one, open_exact(base) as other:
        logits = []
        for context, adapters in ((one, built_in), (other, separate)):
            trunk = begin(context, PROMPT)
            trunk.drop(5, 17)
            again = context.restore(trunk.save())
            forks = checks(context, again, adapters)
            context.decode()
            logits.append(np.stack([fork.logits()[:N_VOCAB] for fork in forks]))
        assert np.abs(logits[0] - logits[1]).max() < 1e-4


def test_a_model_without_built_in_adapters_has_none(model: Model, folder: Path) -> None:
    from alora_cpp.built_in import built_in_intrinsics

    assert built_in_intrinsics(model) == []


def test_a_control_token_stands_only_where_its_adapter_begins(switch: Model, built_in: dict[str, Adapter]) -> None:
    first, second = NAMES[:2]
    token, other = control_token(first), control_token(second)
    with open_exact(switch) as context:
        trunk = begin(context, PROMPT)
        kv = trunk.kv_bytes()
        with pytest.raises(TokenError, match=rf"token {token} .*calls a built-in adapter; activate that adapter"):
            trunk.append([7, token])
        fork = trunk.fork()
        with pytest.raises(ArgumentError, match="built into the model, which has no scale"):
            fork.activate(built_in[first], scale=0.5)
        fork.activate(built_in[first])
        for wrong in (ASSISTANT_PROMPT, [other], [token, other], [token, token]):
            with pytest.raises(TokenError, match=r"control token|calls a built-in adapter"):
                fork.append(wrong)
        assert (fork.length, trunk.kv_bytes()) == (len(PROMPT), kv)
        fork.append(built_in[first].invocation_tokens)
        context.decode()


def test_nothing_that_is_generated_calls_an_adapter(composed: Composed, tmp_path: Path) -> None:
    """Tried with: the control tokens' logits left as they are."""
    head = np.array(next(t.data for t in gguf.GGUFReader(composed.path).tensors if t.name == "output.weight"))
    head[[control_token(name) for name in NAMES]] = 50 * head[:N_VOCAB].max(axis=0)
    path = rewrite_gguf(composed.path, tmp_path / "eager.gguf", tensors={"output.weight": head})
    with Model(path) as model, open_exact(model) as context:
        trunk = begin(context, PROMPT)
        calls = {control_token(name) for name in NAMES}
        assert int(trunk.logits().argmax()) in calls
        steps = list(context.generate([trunk], max_tokens=24, temperature=5.0, seed=1))
        assert len(steps) >= 1
        assert not {step.token for step in steps} & calls


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"graniteswitch__rope__dimension_count": Key(8, Kind.UINT32)}, "differ in width"),
        ({"graniteswitch__attention__value_length": Key(8, Kind.UINT32)}, "differ in width"),
        ({"graniteswitch__attention__head_count": Key([4, 4], Kind.ARRAY, Kind.UINT32)}, "each one number"),
        ({"graniteswitch__block_count": Key(0, Kind.UINT32)}, "each one number"),
        ({"graniteswitch__adapters__router_gain": Key(float("nan"), Kind.FLOAT32)}, "router_gain is nan"),
        ({"graniteswitch__adapters__router_gain": Key(0.0, Kind.FLOAT32)}, "router_gain is 0"),
        ({"graniteswitch__adapters__router_gain": Key(1e5, Kind.FLOAT32)}, "router_gain is 100000"),
        ({"graniteswitch__logit_scale": Key(0.0, Kind.FLOAT32)}, "logit_scale is 0"),
        (
            {"graniteswitch__adapters__token_ids_activate": Key([104, 104, 105], Kind.ARRAY, Kind.INT32)},
            "calls two of its built-in adapters",
        ),
        (
            {"graniteswitch__adapters__token_ids_activate": Key([104, 105, 9999], Kind.ARRAY, Kind.INT32)},
            "adapter 2 has the token 9999",
        ),
    ],
)
def test_a_broken_file_is_refused(composed: Composed, changed: dict[str, Key], message: str, tmp_path: Path) -> None:
    """llama.cpp would end the process, or compute something else without a word."""
    with pytest.raises(ModelLoadError, match=message):
        Model(rewrite_gguf(composed.path, tmp_path / "broken.gguf", **changed))


def test_adapters_from_files_are_refused(switch: Model, composed: Composed, tmp_path: Path) -> None:
    path = next(iter(composed.write_adapters(tmp_path).values()))
    with pytest.raises(AdapterMismatchError, match="adapters built in and takes none from files; take it apart"):
        switch.load_adapter(path)
