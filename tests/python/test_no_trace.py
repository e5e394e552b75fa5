"""Checks leave no trace: on the trunk's KV bytes and logits, on other branches, on the process."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alora_cpp import (
    Adapter,
    AdapterError,
    AdapterMismatchError,
    AloraError,
    ArgumentError,
    BackendError,
    Branch,
    Cancelled,
    ClosedError,
    Context,
    ContextFullError,
    InvocationNotFoundError,
    Model,
    PositionError,
    TokenError,
)
from tiny import INVOCATION, fresh_logits, open_exact, random_tokens

PROMPT = random_tokens(1, 40)


class Meddler:
    """Does to a context, in a random order, everything that must leave no trace on its trunk."""

    def __init__(self, context: Context, trunk: Branch, adapters: list[Adapter], stranger: Adapter, seed: int) -> None:
        self.context, self.trunk, self.adapters, self.stranger = context, trunk, adapters, stranger
        self.random = np.random.Generator(np.random.PCG64([seed, 5000]))
        self.seen: Counter[str] = Counter()

    def check(self) -> Branch:
        branch = self.trunk.fork(at=int(self.random.integers(self.trunk.length + 1)))
        if self.random.random() < 0.8:
            branch.activate(self.adapters[int(self.random.integers(4))], scale=float(self.random.choice([0.5, 1, 2])))
        branch.append(random_tokens(int(self.random.integers(1 << 30)), int(self.random.integers(1, 30))))
        return branch

    def act(self) -> None:
        action = str(self.random.choice(["score", "generate", "logits", "leave", "cancel", "error"]))
        with self.check() as branch, contextlib.ExitStack() as more:
            if self.random.random() < 0.5:
                more.enter_context(self.check())
            if action == "score":
                self.context.score([(branch, [[10, 11], [10, 12], [13]])])
            elif action == "generate":
                list(self.context.generate([branch], max_tokens=5, temperature=1.0))
            elif action == "logits":
                self.context.decode()
                branch.logits(rows=min(branch.length, 9))
            elif action == "cancel":
                action = self.cancel(branch)
            elif action == "error":
                action = self.fail(branch)
        self.seen[action] += 1

    def cancel(self, branch: Branch) -> str:
        """Cancels a decode from another thread, before it, in it, or too late."""
        branch.append(random_tokens(8, 300))
        thread = threading.Thread(target=lambda: (time.sleep(self.random.random() * 0.03), self.context.cancel()))
        thread.start()
        try:
            self.context.decode()
        except Cancelled:
            thread.join()
            return "cancelled within" if 0 < branch.n_queued < 300 else "cancelled"
        thread.join()
        branch.append([9])
        with pytest.raises(Cancelled):
            self.context.decode()
        return "cancelled late"

    def fail(self, branch: Branch) -> str:
        context, one = self.context, self.context.branch()
        bad: list[tuple[type[AloraError], Callable[[], object]]] = [
            (ContextFullError, lambda: branch.append([9] * 5000)),
            (ContextFullError, lambda: [context.branch() for _ in range(100)]),
            (PositionError, lambda: branch.fork(at=branch.length + 1)),
            (PositionError, lambda: one.logits()),
            (TokenError, lambda: branch.append([10, 999])),
            (TokenError, lambda: context.score([(branch, [[10], [999]])])),
            (ArgumentError, lambda: context.score([(branch, [[10], [10]])])),
            (ArgumentError, lambda: branch.activate(self.adapters[0], scale=float("nan"))),
            (ArgumentError, lambda: context.generate([branch], max_tokens=0)),
            (AdapterMismatchError, lambda: one.activate(self.stranger)),
            (InvocationNotFoundError, lambda: self.adapters[0].find_invocation([1, 2])),
            (ClosedError, lambda: (one.close(), one.append([9]))),
            (ContextFullError, lambda: context.score([(branch, [[9] * 5000])])),
            (AdapterError, lambda: self.activate_twice(branch)),
        ]
        error, call = bad[int(self.random.integers(len(bad)))]
        with pytest.raises(error):
            call()
        one.close()
        return error.__name__

    def activate_twice(self, branch: Branch) -> None:
        for adapter in self.adapters[:2]:
            branch.activate(adapter)
            branch.append([9])


def test_two_hundred_checks_errors_and_cancellations_leave_no_trace(
    model: Model, model_path: Path, adapters: list[Adapter], adapter_paths: list[Path]
) -> None:
    """The trunk grows all the while, and is compared to the bit with one in a context that never forked.

    Tried with: forks that take their parent's cells for themselves.
    """
    stranger = Model(model_path).load_adapter(adapter_paths[0])
    with open_exact(model, n_ctx=2048, n_ubatch=64) as context, open_exact(model, n_ctx=2048, n_ubatch=64) as quiet:
        trunk, alone = context.branch(), quiet.branch()
        for branch in (trunk, alone):
            branch.append(PROMPT)
        context.decode()
        quiet.decode()
        meddler = Meddler(context, trunk, adapters, stranger, seed=1)
        for turn in range(200):
            meddler.act()
            if turn % 10 == 9:
                for branch in (trunk, alone):
                    branch.append(random_tokens(turn, 1 + turn % 7))
                context.decode()
                quiet.decode()
                assert np.array_equal(trunk.logits(), alone.logits())
        assert trunk.kv_bytes() == alone.kv_bytes()
        assert trunk.tokens == alone.tokens
        assert (context.n_cells_used, context.n_branches) == (quiet.n_cells_used, 1)
        assert trunk.n_queued == 0
    assert {"score", "generate", "logits", "leave", "cancelled late"} <= set(meddler.seen)
    assert meddler.seen["cancelled"] + meddler.seen["cancelled within"] > 3


def test_an_adapter_that_overflows_spoils_no_other_branch(model: Model, adapters: list[Adapter]) -> None:
    """A finite but absurd scale. Tried with: keys and values not kept finite (the trunk is NaN ever after)."""
    for kv_type, flash_attention in itertools.product(("f32", "f16"), (False, True)):
        options: dict[str, Any] = {"n_ctx": 256, "kv_type": kv_type, "flash_attention": flash_attention}
        with model.context(**options) as context, model.context(**options) as quiet:
            trunk, alone = context.branch(), quiet.branch()
            for branch in (trunk, alone):
                branch.append(PROMPT)
            context.decode()
            quiet.decode()
            for scale in (1e6, 1e20, 1e38):
                for adapter in adapters:
                    with trunk.fork() as check, trunk.fork() as beside:
                        check.activate(adapter, scale=scale)
                        check.append([*INVOCATION, 9])
                        beside.append(INVOCATION)
                        context.decode()
                        assert np.isfinite(beside.logits()).all()
                        with contextlib.suppress(BackendError):
                            context.score([(check, [[10], [11]])])
                for branch in (trunk, alone):
                    branch.append([9])
                context.decode()
                quiet.decode()
                assert np.array_equal(trunk.logits(), alone.logits()), (kv_type, flash_attention, scale)


def test_a_trunk_that_grows_beside_open_checks_only_rounds_differently(
    model: Model, context: Context, adapters: list[Adapter]
) -> None:
    """Its new rows lie in other cells then, so sums are taken in another order."""
    trunk = context.branch()
    trunk.append(PROMPT)
    context.decode()
    checks = []
    for i in range(12):
        check = trunk.fork()
        check.activate(adapters[i % 4])
        check.append([*INVOCATION, 10 + i])
        trunk.append([20 + i, 30 + i])
        context.decode()
        checks.append(check)
        if i % 3 == 2:
            checks.pop(0).close()
    assert np.abs(trunk.logits() - fresh_logits(model, trunk.tokens)[-1]).max() < 1e-5


# Python's signal handlers, the process's, and what C++ calls where an exception is not caught.
HANDLERS = """
import ctypes, signal, sys
from pathlib import Path

def handlers():
    found = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGABRT)]
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    # The C library's own, from 32 on, come with the first thread.
    found += [int(line.split()[1], 16) & 0x7FFFFFFF for line in lines if line[:6] in ("SigBlk", "SigIgn", "SigCgt")]
    if sys.platform.startswith("linux"):
        get_terminate = ctypes.CDLL("libstdc++.so.6")._ZSt13get_terminatev
        get_terminate.restype = ctypes.c_void_p
        found.append(get_terminate())
    return found
"""


def test_the_library_prints_nothing_and_installs_no_handlers(model_path: Path, adapter_paths: list[Path]) -> None:
    """In a process of its own, errors and all."""
    script = f"""
import numpy
{HANDLERS}
before = handlers()
from alora_cpp import AloraError, Model
model = Model({str(model_path)!r})
adapter = model.load_adapter({str(adapter_paths[0])!r})
context = model.context(n_ctx=256)
branch = context.branch()
branch.activate(adapter)
branch.append([9, 10, 11])
list(context.generate([branch], max_tokens=3))
no_gguf = {__file__!r}
for call in (lambda: Model(no_gguf), lambda: model.load_adapter(no_gguf), lambda: branch.append([9999])):
    try:
        call()
    except AloraError as error:
        assert str(error)
    else:
        sys.exit("no error")
if handlers() != before:
    sys.exit(f"handlers changed: {{before}} {{handlers()}}")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
