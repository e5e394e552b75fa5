"""The interpreter ends cleanly whatever is alive: exit code 0, nothing on stderr, no hanging."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

# Each is the end of a script that has a model of the bundled weights and a chat in which something was said.
SETUP = """
import asyncio, atexit, gc, os, sys, threading, time
import alora_cpp
from alora_cpp import Model
model = Model.bundled()
chat = model.chat([{"role": "user", "content": "Tell me all about rivers."}], n_ctx=1024, n_threads=1)
def long_work(model=model):
    try:
        while True:
            context = model.context(n_ctx=512, n_threads=1)
            branch = context.branch()
            branch.append([20] * 500)
            context.decode()
    except (alora_cpp.AloraError, RuntimeError):
        pass
"""

CASES = {
    "everything is open": "",
    "a reply is half read": "reply = chat.reply(max_tokens=50)\nnext(iter(reply))",
    "a reply is half read, in a cycle": """
        reply = iter(chat.reply(max_tokens=50))
        next(reply)
        class Ring: pass
        ring = Ring()
        ring.self, ring.reply, ring.model = ring, reply, model
        del reply, chat, model, ring
    """,
    "a generation is half done": """
        context = model.context(n_ctx=256, n_threads=1)
        branch = context.branch()
        branch.append([20, 21, 22])
        steps = context.generate([branch], max_tokens=20)
        next(steps)
    """,
    "the context outlives the model": """
        context = model.context(n_ctx=256, n_threads=1)
        branch = context.branch()
        branch.append([20])
        del model, chat
        gc.collect()
        context.decode()
    """,
    "a branch outlives its context": """
        context = model.context(n_ctx=256, n_threads=1)
        branch = context.branch()
        branch.append([20])
        fork = branch.fork()
        del context, model, chat, branch
        gc.collect()
    """,
    "everything was closed, model first": """
        context = model.context(n_ctx=256, n_threads=1)
        branch = context.branch()
        model.close()
        context.close()
        branch.close()
    """,
    "held by a module": "sys.held = (model, chat, model.context(n_ctx=256, n_threads=1))",
    "held by builtins": """
        import builtins
        builtins.held = (model, chat, iter(chat.reply(max_tokens=9)))
        next(builtins.held[2])
    """,
    "a daemon thread computes": """
        threading.Thread(target=long_work, daemon=True).start()
        time.sleep(0.3)
    """,
    "four daemon threads compute": """
        for _ in range(4):
            threading.Thread(target=long_work, daemon=True).start()
        time.sleep(0.5)
    """,
    "a daemon thread reads a reply": """
        threading.Thread(target=lambda: list(chat.reply(max_tokens=900)), daemon=True).start()
        time.sleep(0.3)
    """,
    "a daemon thread waits for the lock of a context": """
        context = model.context(n_ctx=2048, n_threads=1)
        def work():
            try:
                branch = context.branch()
                branch.append([20] * 1000)
                context.decode()
            except alora_cpp.AloraError:
                pass
        for _ in range(2):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.2)
    """,
    "a thread that is no daemon finishes": """
        def work():
            time.sleep(0.2)
            assert chat.check("safety").label
            print("finished")
        threading.Thread(target=work).start()
    """,
    "an asyncio task is in flight": """
        async def main():
            asyncio.create_task(chat.acheck("safety"))
            await asyncio.sleep(0)
        asyncio.run(main())
    """,
    "asyncio tasks stream": """
        async def stream():
            async for piece in chat.areply(max_tokens=100):
                pass
        async def main():
            tasks = [asyncio.create_task(stream())]
            await asyncio.sleep(0.2)
        asyncio.run(main())
    """,
    "an asynchronous reply is half read": """
        async def main():
            global pieces
            pieces = chat.areply(max_tokens=100).__aiter__()
            await pieces.__anext__()
        asyncio.run(main())
    """,
    "sys.exit in the log's sink": """
        from alora_cpp.log import set_log_sink
        set_log_sink(lambda level, text: sys.exit(3))
        sys.unraisablehook = lambda unraisable: None
        Model.bundled()
    """,
    "sys.exit while a reply is read": "for piece in chat.reply(max_tokens=50):\n    sys.exit(0)",
    "atexit asks once more": "atexit.register(lambda: print(chat.check('safety').label))",
    "atexit reads on": """
        reply = iter(chat.reply(max_tokens=5))
        next(reply)
        atexit.register(lambda: list(reply))
    """,
    "atexit closes": "atexit.register(model.close)\natexit.register(chat.close)",
    "os._exit": "next(iter(chat.reply(max_tokens=9)))\nsys.stdout.flush()\nos._exit(0)",
}
FORK_CASES = {
    "a child that does nothing": """
        pid = os.fork()
        if pid == 0:
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    """,
    "a child that frees": """
        pid = os.fork()
        if pid == 0:
            chat.close(); model.close()
            del chat, model
            gc.collect()
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert chat.check("safety").label
    """,
    "a child that computes": """
        label = chat.check("safety").label
        pid = os.fork()
        if pid == 0:
            sys.exit(0 if chat.check("safety").label == label else 3)
        assert os.waitpid(pid, 0)[1] == 0
    """,
    "a child of a context with threads": """
        context = model.context(n_ctx=256, n_threads=2)
        branch = context.branch()
        branch.append([20] * 40)
        context.decode()
        pid = os.fork()
        if pid == 0:
            try:
                branch.append([21] * 40)
                context.decode()
            except alora_cpp.AloraError as error:
                assert "fork" in str(error), error
                context.close()
                sys.exit(0)
            sys.exit(3)
        assert os.waitpid(pid, 0)[1] == 0
        branch.append([21] * 40)
        context.decode()
    """,
    "a child while a thread computes": """
        threading.Thread(target=long_work, daemon=True).start()
        time.sleep(0.3)
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert time.monotonic() - began < 9, "the child waited for a thread that it does not have"
    """,
}


def run(body: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", SETUP + textwrap.dedent(body)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | environment,
    )


@pytest.mark.parametrize("case", CASES)
def test_exit(case: str) -> None:
    done = run(CASES[case])
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("case", FORK_CASES)
def test_fork(case: str) -> None:
    done = run(FORK_CASES[case])
    assert (done.returncode, done.stderr) == (0, "")
