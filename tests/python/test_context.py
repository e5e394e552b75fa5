"""Contexts: options, buffers that stay as they are, cancellation, threads, closing."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from alora_cpp import (
    Adapter,
    ArgumentError,
    BackendError,
    Branch,
    Cancelled,
    ClosedError,
    Context,
    ContextFullError,
    Model,
    set_log_sink,
)
from tiny import INVOCATION, Array, fresh_logits, open_exact, random_tokens


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"n_ctx": 0}, "n_ctx"),
        ({"n_ctx": -5}, "n_ctx"),
        ({"n_ctx": 1 << 30}, "n_ctx"),
        ({"n_branches": 0}, "n_branches"),
        ({"n_branches": 256}, "n_branches"),
        ({"n_ubatch": 0}, "n_ubatch"),
        ({"n_threads": -1}, "n_threads"),
        ({"n_threads": 100_000}, "n_threads"),
        ({"kv_type": "f8"}, "kv_type"),
        ({"flash_attention": "on"}, "flash_attention"),
    ],
)
def test_an_option_outside_its_range_is_named(model: Model, options: dict[str, int], named: str) -> None:
    with pytest.raises(ArgumentError, match=named):
        model.context(**options)  # type: ignore[arg-type]


def test_a_context_of_one_cell_holds_one_row(model: Model) -> None:
    with open_exact(model, n_ctx=1) as context:
        branch = context.branch()
        with pytest.raises(ContextFullError, match="2 more rows"):
            branch.append([9, 10])
        branch.append([9])
        context.decode()
        assert context.n_cells_free == 0
        assert np.allclose(branch.logits(), fresh_logits(model, [9])[0], atol=1e-5)


@pytest.mark.parametrize("kv_type", ["f32", "f16", "bf16", "q8_0"])
@pytest.mark.parametrize("flash_attention", [True, False, None])
def test_every_kv_type_comes_near_float32_or_is_refused(
    model: Model, kv_type: str, flash_attention: bool | None
) -> None:
    tokens = random_tokens(3, 30)
    if kv_type == "q8_0":  # this model's heads are narrower than q8_0's blocks
        with pytest.raises(BackendError, match=r"q8_0|quantized"):
            model.context(n_ctx=256, kv_type=kv_type, flash_attention=flash_attention)
        return
    with model.context(n_ctx=256, kv_type=kv_type, flash_attention=flash_attention) as context:
        trunk = context.branch()
        trunk.append(tokens)
        context.decode()
        fork = trunk.fork(at=20)
        fork.append(tokens[20:])
        context.decode()
        exact = fresh_logits(model, tokens)[-1]
        for branch in (trunk, fork):
            assert np.abs(branch.logits() - exact).max() < {"f32": 0.05, "f16": 0.05, "bf16": 0.3}[kv_type]


def test_cells_are_counted_and_given_back(context: Context) -> None:
    trunk = context.branch()
    trunk.append(random_tokens(4, 10))
    assert (context.n_cells_used, context.n_cells_free) == (10, context.n_ctx - 10)
    fork = trunk.fork(at=4)
    fork.append([9, 9, 9])
    assert context.n_cells_used == 13
    trunk.close()
    assert context.n_cells_used == 7  # the fork still shares four
    fork.close()
    assert (context.n_cells_used, context.n_branches) == (0, 0)


def test_graphs_are_reused_while_an_adapter_generates(context: Context, adapters: list[Adapter]) -> None:
    """Tried with: allow_reuse false wherever the plan has spans."""
    branch = context.branch()
    branch.append(random_tokens(5, 20))
    branch.activate(adapters[0])
    branch.append(INVOCATION)
    list(context.generate([branch], max_tokens=40))
    assert context.counters.graphs_reused >= 35


def test_other_rows_under_other_adapters_at_every_decode_reserve_nothing(model: Model, adapters: list[Adapter]) -> None:
    """A hundred decodes, ten of each shape in a row under ever other adapters. Tried with: `rows` left out of
    allow_reuse, so that a graph serves the adapters of the decode before."""
    lines: list[str] = []
    wanted: list[tuple[Array, list[int], Adapter | None, float]] = []
    with open_exact(model, n_ctx=2048) as context:
        trunk = context.branch()
        trunk.append(random_tokens(6, 50))
        context.decode()
        sizes = {context.counters.compute_bytes}
        set_log_sink(lambda _, line: lines.append(line))
        try:
            for i in range(100):
                asked: list[tuple[Branch, Adapter | None, float]] = []
                for k in range(1 + i // 10 % 4):
                    branch, adapter, scale = trunk.fork(), None, 1.0 + i % 3 / 2
                    if (i + k) % 5:
                        adapter = adapters[(i + k) % 4]
                        branch.activate(adapter, scale=scale)
                    branch.append(random_tokens(100 * i + k, 1 + k))
                    asked.append((branch, adapter, scale))
                context.decode()
                sizes.add(context.counters.compute_bytes)
                for branch, adapter, scale in asked:
                    wanted.append((branch.logits(), branch.tokens, adapter, scale))
                    branch.close()
        finally:
            set_log_sink(None)
    assert len(sizes) == 1
    assert not [line for line in lines if "reserving" in line or "reallocating" in line]
    for logits, tokens, adapter, scale in wanted[::7]:
        assert np.abs(logits - fresh_logits(model, tokens, adapter=adapter, at=50, scale=scale)[-1]).max() < 1e-5


def test_a_whole_batch_under_an_adapter_fits_into_the_buffers_made_first(model: Model, adapters: list[Adapter]) -> None:
    """Tried with: the worst case standing for no adapter."""
    # Few cells and no scores of attention in memory: what an adapter takes is not hidden behind those.
    with model.context(n_ctx=512, n_ubatch=512, n_threads=1, flash_attention=True) as context:
        before = context.counters.compute_bytes
        branch = context.branch()
        branch.activate(adapters[3])
        branch.append(random_tokens(12, 512))
        context.decode()
        assert context.counters.compute_bytes == before
        assert context.counters.batches == 1


def cancel_soon(context: Context, after: float) -> threading.Thread:
    def wait_and_cancel() -> None:
        time.sleep(after)
        context.cancel()

    thread = threading.Thread(target=wait_and_cancel)
    thread.start()
    return thread


@pytest.mark.parametrize("n_ubatch", [4096, 16])
def test_cancelling_from_another_thread_ends_a_decode_within_a_batch(model: Model, n_ubatch: int) -> None:
    """Tried with: the abort callback always false (one batch of 4,096 rows then goes to its end)."""
    tokens = random_tokens(7, 4000)
    with open_exact(model, n_ctx=4096, n_ubatch=n_ubatch) as context:
        branch = context.branch()
        branch.append(tokens)
        thread = cancel_soon(context, 0.02)
        with pytest.raises(Cancelled, match="rows queued"):
            context.decode()
        thread.join()
        assert 0 < branch.n_queued <= 4000
        assert branch.length == 4000
        context.decode()
        assert branch.n_queued == 0
        again = open_exact(model, n_ctx=4096, n_ubatch=n_ubatch)
        whole = again.branch()
        whole.append(tokens)
        again.decode()
        assert np.abs(branch.logits() - whole.logits()).max() < 1e-5


def test_cancelling_an_idle_context_cancels_the_next_decode_only(context: Context) -> None:
    branch = context.branch()
    branch.append([9, 10])
    context.cancel()
    with pytest.raises(Cancelled):
        context.decode()
    context.decode()
    assert branch.n_queued == 0


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Python's own handler; a shell starts background jobs with the signal ignored."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("call", ["decode", "score", "generate", "logits"])
def test_ctrl_c_ends_any_long_call_as_keyboard_interrupt(model: Model, call: str) -> None:
    """Tried with: `interruptible` left out of the binding (RuntimeError comes instead)."""
    with open_exact(model, n_ctx=12_288) as context:
        branch = context.branch()
        branch.append(random_tokens(8, 8000))
        if call == "logits":
            context.decode()
        calls: dict[str, Callable[[], object]] = {
            "decode": context.decode,
            "score": lambda: context.score([(branch, [[9], [10]])]),
            "generate": lambda: list(context.generate([branch], max_tokens=2)),
            "logits": lambda: branch.logits(rows=4000),
        }
        timer = threading.Timer(0.01, signal.raise_signal, (signal.SIGINT,))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            wait_after(calls[call])
        timer.join()


def wait_after(call: Callable[[], object]) -> None:
    call()
    time.sleep(1)  # where the call was too short, the signal comes here


def test_contexts_of_one_model_compute_at_the_same_time(model: Model, adapters: list[Adapter]) -> None:
    wanted = [fresh_logits(model, random_tokens(i, 60), adapter=adapters[i], at=30)[-1] for i in range(4)]
    errors: list[float] = []

    def work(i: int) -> None:
        for _ in range(5):
            logits = fresh_logits(model, random_tokens(i, 60), adapter=adapters[i], at=30)[-1]
            errors.append(float(np.abs(logits - wanted[i]).max()))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 20
    assert max(errors) < 1e-5


def test_threads_on_one_context_wait_for_one_another(model: Model, context: Context, adapters: list[Adapter]) -> None:
    trunk = context.branch()
    trunk.append(random_tokens(9, 40))
    context.decode()
    wanted = [fresh_logits(model, [*trunk.tokens, *INVOCATION], adapter=one, at=40)[-1] for one in adapters]
    differences: list[float] = []

    def work(i: int) -> None:
        for _ in range(20):
            with trunk.fork() as check:
                check.activate(adapters[i])
                check.append(INVOCATION)
                context.decode()
                differences.append(float(np.abs(check.logits() - wanted[i]).max()))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(differences) == 80
    assert max(differences) < 1e-5
    assert (context.n_cells_used, context.n_branches) == (40, 1)


def test_a_closed_context_says_so(model: Model, adapters: list[Adapter]) -> None:
    context = open_exact(model)
    branch = context.branch()
    branch.append([9, 10, 11])
    context.decode()
    waiting = context.generate([branch], max_tokens=3)
    context.close()
    context.close()
    assert context.closed
    assert branch.closed
    calls: list[Callable[[], object]] = [
        context.branch,
        context.decode,
        lambda: context.score([(branch, [[9]])]),
        lambda: context.generate([branch]),
        lambda: next(waiting),
        lambda: branch.append([9]),
        branch.fork,
        lambda: branch.activate(adapters[0]),
        branch.logits,
        lambda: branch.length,
        lambda: branch.tokens,
        branch.kv_bytes,
    ]
    for call in calls:
        with pytest.raises(ClosedError, match="closed"):
            call()
    branch.close()
    context.cancel()
    assert context.counters.compute_bytes == 0


def test_closing_the_model_closes_its_contexts(model_path: str) -> None:
    with Model(model_path) as other:
        context = other.context(n_ctx=64)
        branch = context.branch()
    assert context.closed
    with pytest.raises(ClosedError):
        branch.append([9])
    with pytest.raises(ClosedError):
        other.context()


def test_a_context_outlives_the_last_reference_to_its_model(model_path: str) -> None:
    branch = Model(model_path).context(n_ctx=64).branch()
    branch.append([9])
    assert branch.length == 1
