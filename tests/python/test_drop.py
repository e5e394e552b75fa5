"""Rows dropped from a branch.

What is left after a drop cannot equal a fresh context in general: deeper layers have read the rows that are gone. Keys
and values of the first layer depend on their token and position alone, though, so they must be those of a context
that never had the dropped rows; and with one layer nothing else is kept, so the logits must be, too.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alora_cpp import (
    Adapter,
    AdapterError,
    BackendError,
    Branch,
    ClosedError,
    Context,
    Model,
    PositionError,
)
from oracle import tiny_models
from oracle.tiny_models import FAMILIES
from tiny import (
    INVOCATION,
    Array,
    Key,
    Kind,
    adapter_file,
    begin,
    fresh_logits,
    go_on,
    make_model,
    open_exact,
    random_tokens,
    rewrite_gguf,
    write_gguf,
)

PROMPT = random_tokens(80, 24)
F32, F16, Q8_0 = 0, 1, 8  # ggml's numbers of types
RANGES = [(0, 5), (7, 8), (4, 19), (18, 24), (0, 24), (11, 11)]


# What llama.cpp writes: state_write and what it calls, in llama-kv-cache.cpp.


@dataclass
class Cells:
    """Cells of one sequence in the order of their positions; keys and values of each layer, [cells, width]."""

    positions: list[int]
    keys: list[Array]
    values: list[Array]


def numbers(raw: bytes, kind: int) -> Array:
    """Numbers of a ggml type."""
    if kind == Q8_0:  # blocks of 32: a scale, then int8
        blocks = np.frombuffer(raw, np.dtype([("scale", "<f2"), ("steps", "i1", 32)]))
        return (blocks["scale"].astype(np.float32)[:, None] * blocks["steps"]).ravel()
    return np.frombuffer(raw, {F32: "<f4", F16: "<f2"}[kind]).astype(np.float32)


def read_cells(state: bytes) -> Cells:
    at = 8  # magic and sequence

    def take(form: str) -> int:
        nonlocal at
        [value] = struct.unpack_from("<" + form, state, at)
        at += struct.calcsize("<" + form)
        return int(value)

    def rows(count: int, size: int, kind: int) -> Array:
        nonlocal at
        at += count * size
        return numbers(state[at - count * size : at], kind).reshape(count, -1)

    assert take("I") == 1  # streams
    n = take("I")
    positions = []
    for _ in range(n):
        positions.append(take("i"))
        n_sequences = take("I")
        at += 4 * n_sequences
    if n == 0:
        return Cells([], [], [])
    transposed, n_layers = take("I"), take("I")
    order = np.argsort(positions)
    keys, values = [], []
    for _ in range(n_layers):
        kind = take("i")
        keys.append(rows(n, take("Q"), kind)[order])
    for _ in range(n_layers):
        kind = take("i")
        if transposed:
            size, width = take("I"), take("I")
            values.append(rows(width, size * n, kind).T[order])
        else:
            values.append(rows(n, take("Q"), kind)[order])
    assert at == len(state)
    return Cells(sorted(positions), keys, values)


def without(begin: int, end: int, tokens: list[int] = PROMPT) -> list[int]:
    return tokens[:begin] + tokens[end:]


def check_first_layer(dropped: Branch, fresh: Branch, tolerance: float) -> None:
    ours, expected = read_cells(dropped.kv_bytes()), read_cells(fresh.kv_bytes())
    assert ours.positions == expected.positions == list(range(len(fresh)))
    # Values know no position: they are the same to the bit where rows are computed alike.
    for name in ("keys", "values"):
        difference = np.abs(getattr(ours, name)[0] - getattr(expected, name)[0])
        assert difference.max() < tolerance, name


@pytest.mark.parametrize("kv_type", ["f32", "f16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_first_layer_after_a_drop_is_that_of_a_fresh_context(family: str, kv_type: str, folder: Path) -> None:
    """Every family, range and cache. Tried with: no shift, one position too far, rows taken one too late."""
    path = write_gguf(make_model(family), folder / f"drop-{family}.gguf")
    with Model(path) as model:
        for flash_attention in (False, True):
            for first, last in RANGES:
                options = {"n_threads": 1, "kv_type": kv_type, "flash_attention": flash_attention}
                with model.context(n_ctx=256, **options) as context, model.context(n_ctx=256, **options) as quiet:
                    branch = begin(context, PROMPT)
                    rows = context.counters.rows_decoded
                    branch.drop(first, last)
                    assert branch.tokens == without(first, last)
                    assert (branch.n_queued, context.n_cells_used) == (0, 24 - (last - first))
                    assert context.counters.rows_decoded == rows
                    fresh = begin(quiet, branch.tokens)
                    go_on(branch, context, [9])
                    go_on(fresh, quiet, [9])
                    check_first_layer(branch, fresh, 1e-5 if kv_type == "f32" else 1e-2)


def test_first_layer_in_a_quantized_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turning keys quantizes every cell anew, those of other branches too: they come out as they were."""
    monkeypatch.setitem(tiny_models.COMMON, "hidden_size", 256)  # heads 64 wide
    path = write_gguf(make_model("llama"), folder / "wide.gguf")
    options: dict[str, Any] = {"n_ctx": 256, "n_threads": 1, "kv_type": "q8_0"}
    with Model(path) as model, model.context(**options) as context, model.context(**options) as quiet:
        other = begin(context, random_tokens(85, 30))
        kv = other.kv_bytes()
        for first, last in RANGES[:4]:
            branch = begin(context, PROMPT)
            branch.drop(first, last)
            fresh = begin(quiet, branch.tokens)
            go_on(branch, context, [9])
            go_on(fresh, quiet, [9])
            largest = float(np.abs(read_cells(fresh.kv_bytes()).keys[0]).max())
            check_first_layer(branch, fresh, 0.02 * largest)
            branch.close()
            fresh.close()
        assert other.kv_bytes() == kv


@pytest.fixture(scope="module", params=FAMILIES)
def shallow(request: pytest.FixtureRequest, folder: Path) -> tuple[Model, Adapter]:
    """A model of one layer, with an adapter."""
    whole = make_model(request.param)
    cut = replace(whole, weights={name: w for name, w in whole.weights.items() if ".layers.1." not in name})
    path = write_gguf(cut, folder / f"two-{request.param}.gguf")
    architecture = "llama" if request.param == "mistral" else request.param
    blocks = {f"{architecture}__block_count": Key(1, Kind.UINT32)}
    model = Model(rewrite_gguf(path, folder / f"one-{request.param}.gguf", **blocks))
    file = adapter_file(whole)
    file.tensors = {name: tensor for name, tensor in file.tensors.items() if "blk.1." not in name}
    return model, model.load_adapter(file.write(folder / f"adapter-one-{request.param}.gguf"))


@pytest.mark.parametrize(("first", "last"), RANGES)
def test_one_layer_goes_on_as_if_the_rows_had_never_been(shallow: tuple[Model, Adapter], first: int, last: int) -> None:
    """Logits of what is left, appends, forks, checks, and a second drop."""
    model, adapter = shallow
    with open_exact(model) as context:
        branch = begin(context, PROMPT)
        branch.drop(first, last)
        if branch.length:
            alone = fresh_logits(model, without(first, last))
            assert np.abs(branch.logits(rows=branch.length) - alone).max() < 1e-4
            assert np.abs(branch.logits() - alone[-1]).max() < 1e-4
        assert np.abs(go_on(branch, context, [9, 10]) - fresh_logits(model, branch.tokens)[-1]).max() < 1e-4
        check = branch.fork(at=branch.length - 1)
        check.activate(adapter)
        check.append(INVOCATION)
        context.decode()
        alone = fresh_logits(model, check.tokens, adapter=adapter, at=branch.length - 1)[-1]
        assert np.abs(check.logits() - alone).max() < 1e-4
        check.close()
        branch.append(random_tokens(83, 12))
        context.decode()
        branch.drop(branch.length - 5, branch.length - 2)
        branch.drop(1, 4)  # twice before anything is computed
        assert np.abs(go_on(branch, context, [12]) - fresh_logits(model, branch.tokens)[-1]).max() < 1e-4
        for one in (branch, context.restore(branch.save())):
            assert np.abs(go_on(one, context, [11]) - fresh_logits(model, one.tokens)[-1]).max() < 1e-4


def test_dropping_from_one_branch_leaves_the_others_alone(shallow: tuple[Model, Adapter]) -> None:
    model, _ = shallow
    with open_exact(model) as context:
        others = [begin(context, random_tokens(84 + i, 9)) for i in range(2)]
        fork = others[0].fork(at=4)
        fork.append([9, 10, 11, 12])
        branch = begin(context, PROMPT)
        kv = [one.kv_bytes() for one in (*others, fork)]
        branch.drop(2, 9)
        fork.drop(5, 7)  # rows of its own, behind shared ones
        go_on(branch, context, [9])
        assert [one.kv_bytes() for one in others] == kv[:2]
        assert fork.tokens == [*others[0].tokens[:4], 9, 12]
        for one in (*others, fork, branch):
            assert np.abs(go_on(one, context, [13]) - fresh_logits(model, one.tokens)[-1]).max() < 1e-4


def test_what_cannot_be_dropped(model: Model, context: Context, adapters: list[Adapter]) -> None:
    trunk, single, queued = (begin(context, PROMPT) for _ in range(3))
    queued.append([9])
    fork = trunk.fork(at=10)
    fork.append([9, 10])
    governed = trunk.fork(at=20)
    governed.activate(adapters[2])
    refused: list[tuple[type[Exception], str, Callable[[], None]]] = [
        (PositionError, "forks", lambda: trunk.drop(0, 5)),
        (PositionError, "forks", lambda: trunk.drop(21, 24)),
        (PositionError, "queued", lambda: fork.drop(10, 11)),
        (PositionError, "queued", lambda: queued.drop(0, 5)),
        (AdapterError, "random-2", lambda: governed.drop(20, 20)),
        (PositionError, "rows -1 to 3", lambda: single.drop(-1, 3)),
        (PositionError, "rows 5 to 4", lambda: single.drop(5, 4)),
        (PositionError, "rows 0 to 25", lambda: single.drop(0, 25)),
    ]
    for error, named, call in refused:
        with pytest.raises(error, match=named):
            call()
    context.decode()
    with pytest.raises(PositionError, match="holds rows 10 to 12 alone"):
        fork.drop(9, 11)
    assert [one.length for one in (trunk, fork, governed, single)] == [24, 12, 20, 24]
    for one in (trunk, fork, single):
        assert np.abs(one.logits() - fresh_logits(model, one.tokens)[-1]).max() < 1e-5
    governed.close()
    trunk.close()
    fork.drop(9, 11)  # it holds them alone now
    assert (fork.tokens, fork.length) == ([*PROMPT[:9], 10], 10)
    fork.close()
    with pytest.raises(ClosedError):
        fork.drop(0, 1)


@pytest.mark.parametrize("kv_type", ["bf16", "q8_0"])
def test_keys_that_cannot_be_turned(bundled: Model, kv_type: str) -> None:
    """Heads are 32 wide. Tried with: not minded, which ends the process."""
    with bundled.context(n_ctx=64, n_threads=1, kv_type=kv_type) as context:
        branch = begin(context, PROMPT)
        with pytest.raises(BackendError, match=f"{kv_type} cache of heads 32 wide"):
            branch.drop(0, 5)
        branch.drop(20, 24)  # moves none
        assert branch.tokens == PROMPT[:20]
        assert np.isfinite(go_on(branch, context, [9])).all()


@pytest.mark.parametrize("name", ["yarn", "attn_factor"])
def test_rotations_that_scale_cannot_be_done_again(folder: Path, model_path: Path, name: str) -> None:
    """llama.cpp turns the keys of the whole cache. Tried with: not minded, which changes every other branch."""
    keys = {
        "llama__rope__scaling__type": Key("yarn" if name == "yarn" else "linear", Kind.STRING),
        "llama__rope__scaling__factor": Key(4.0, Kind.FLOAT32),
        "llama__rope__scaling__attn_factor": Key(1.0 if name == "yarn" else 1.3, Kind.FLOAT32),
        "llama__rope__scaling__original_context_length": Key(128, Kind.UINT32),
    }
    with Model(rewrite_gguf(model_path, folder / f"{name}.gguf", **keys)) as model, open_exact(model) as context:
        other, branch = begin(context, PROMPT), begin(context, PROMPT)
        kv = other.kv_bytes()
        with pytest.raises(BackendError, match="scales"):
            branch.drop(3, 9)
        branch.drop(20, 24)  # moves none
        logits = go_on(branch, context, [9])
        assert np.abs(logits - fresh_logits(model, [*PROMPT[:20], 9])[-1]).max() < 1e-5
        assert other.kv_bytes() == kv


def test_a_linear_scaling_only_turns(folder: Path, model_path: Path) -> None:
    keys = {
        "llama__rope__scaling__type": Key("linear", Kind.STRING),
        "llama__rope__scaling__factor": Key(4.0, Kind.FLOAT32),
    }
    with Model(rewrite_gguf(model_path, folder / "linear.gguf", **keys)) as model, open_exact(model) as context:
        other, branch = begin(context, PROMPT), begin(context, PROMPT)
        kv = other.kv_bytes()
        branch.drop(3, 9)
        fresh = begin(context, branch.tokens)
        check_first_layer(branch, fresh, 1e-5)
        assert other.kv_bytes() == kv
