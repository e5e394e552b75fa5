"""A worker process that crashes: what is told, what is lost, and that everything else goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from isolated import Workers, wait_until

from alora_cpp import AdapterError, Cancelled, ClosedError, Model, ModelLoadError, WorkerCrashed
from alora_cpp.bundled_model import BUNDLED
from alora_cpp.isolation import command
from oracle.tiny_models import AdapterSpec, write_adapter
from tiny import N_VOCAB, begin, fresh_logits, random_tokens
from tiny_chats import load_kinds, open_chat

if TYPE_CHECKING:
    from oracle.tiny_models import TinyModel

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

MESSAGES = [{"role": "user", "content": "Is the cat here? It purrs."}]


@pytest.fixture
def own_path(model_path: Path, tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(model_path.read_bytes())
    return path


@pytest.fixture
def isolated(workers: Workers, own_path: Path) -> Iterator[Model]:
    with Model(own_path, isolation="process") as model:
        yield model


@pytest.fixture
def chats(workers: Workers, chat_model: Model, adapter_paths: list[Path], tmp_path: Path) -> Iterator[Model]:
    with Model(chat_model.path, isolation="process") as model:
        load_kinds(model, adapter_paths, tmp_path)
        yield model


def crash(workers: Workers) -> None:
    """Ends the worker, and waits until this is known."""
    workers.kill()
    wait_until(lambda: workers.latest.returncode is not None)


def test_a_kill_in_the_middle_of_a_reply(chats: Model, chat_model: Model, workers: Workers) -> None:
    with open_chat(chats, MESSAGES) as chat, open_chat(chat_model, MESSAGES) as undisturbed:
        before = chat.check("labels", "free")
        reply = chat.reply(max_tokens=40, guards={"labels": "Y"}, on_flag="report", every=3)
        taken = [next(reply) for _ in range(5)]
        crash(workers)
        with pytest.raises(WorkerCrashed, match="was ended by SIGKILL"):
            next(reply)
        assert list(reply) == []
        assert chat.messages == [*MESSAGES, {"role": "assistant", "content": "".join(taken)}]
        del chat.messages[1:]
        after = chat.check("labels", "free")
        for name, verdict in after.items():
            assert (verdict.text, verdict.probabilities) == (before[name].text, before[name].probabilities)
        assert list(chat.reply(max_tokens=12)) == list(undisturbed.reply(max_tokens=12))
        assert chat.trunk.tokens == undisturbed.trunk.tokens
        assert len(workers) == 2


def test_a_converted_adapter_is_there_again_though_its_folder_was_converted_anew(
    isolated: Model, model: Model, workers: Workers, tiny_model: TinyModel, cache_home: Path, tmp_path: Path
) -> None:
    folder = write_adapter(tiny_model, AdapterSpec(), tmp_path / "safety")
    adapter = isolated.load_adapter(folder)
    (folder / "README.md").write_text("Another one.")
    assert model.load_adapter(folder).path != adapter.path
    crash(workers)
    assert adapter.find_invocation([5, *adapter.invocation_tokens]) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV, signal.SIGTERM])
def test_a_call_in_flight_is_told_how_it_ended(isolated: Model, workers: Workers, number: signal.Signals) -> None:
    """Stopped first, so that it is in flight for certain."""
    context = isolated.context(n_ctx=64)
    branch = context.branch()
    workers.kill(signal.SIGSTOP)
    os.waitid(os.P_PID, workers.latest.pid, os.WSTOPPED | os.WNOWAIT)
    pending = isolated._core.supervisor.worker()[0]._link.pending  # type: ignore[attr-defined]
    with ThreadPoolExecutor() as pool:
        running = [pool.submit(context.decode), pool.submit(isolated.tokenize, "a")]
        wait_until(lambda: len(pending) == 2)
        workers.kill(number)
        workers.kill(signal.SIGCONT)
        for one in running:
            with pytest.raises(WorkerCrashed, match=rf"{number.name}.* during decode\(\) and tokenize\(\)"):
                one.result()
    assert branch.closed
    assert begin(context, [5]).logits().shape == (N_VOCAB,)


def test_branches_are_lost_and_the_rest_is_made_again(
    model: Model, isolated: Model, workers: Workers, adapter_paths: list[Path]
) -> None:
    adapter = isolated.load_adapter(adapter_paths[0])
    context = isolated.context(n_ctx=256, n_threads=1, kv_type="f32", flash_attention=False)
    branch = begin(context, random_tokens(1, 20))
    generation = context.generation([branch])
    crash(workers)
    for work in (lambda: branch.append([5]), branch.fork, branch.logits, generation.next, lambda: len(branch)):
        with pytest.raises(WorkerCrashed, match=r"SIGKILL.*\n.*begin them anew"):
            work()
    with pytest.raises(WorkerCrashed):
        branch.activate(adapter)
    with pytest.raises(WorkerCrashed):
        context.generation([branch])
    assert branch.closed
    assert repr(branch) == "Branch(closed)"
    branch.close()
    assert not context.closed
    assert context.n_ctx == 256
    assert context.n_cells_used == 0
    tokens = random_tokens(2, 20)
    again = context.branch()
    again.append(tokens[:5])
    again.activate(adapter)
    again.append(tokens[5:])
    context.decode()
    expected = fresh_logits(model, tokens, adapter=model.load_adapter(adapter_paths[0]), at=5)
    assert np.abs(again.logits() - expected[-1]).max() < 1e-4
    assert context.n_branches == 1
    assert len(workers) == 2


def test_a_context_that_was_closed_stays_closed(isolated: Model, workers: Workers) -> None:
    context, other = isolated.context(n_ctx=64), isolated.context(n_ctx=64)
    context.close()
    crash(workers)
    other.close()
    for one in (context, other):
        one.close()
        one.cancel()
        assert one.closed
        for work in (one.branch, one.decode, lambda one=one: one.n_cells_used):
            with pytest.raises(ClosedError, match="the context is closed"):
                work()
    assert isolated.tokenize("a")


def test_what_was_cancelled_meanwhile_is_cancelled(isolated: Model, workers: Workers) -> None:
    context = isolated.context(n_ctx=64)
    crash(workers)
    context.cancel()
    branch = context.branch()
    branch.append([5])
    with pytest.raises(Cancelled):
        context.decode()
    context.decode()
    crash(workers)
    context.cancel()
    context.resume()
    begin(context, [5])


def test_many_threads_start_one_worker(isolated: Model, workers: Workers) -> None:
    for n_workers in (2, 3):
        crash(workers)
        with ThreadPoolExecutor(8) as pool:
            assert len(set(map(tuple, pool.map(isolated.tokenize, ["a b"] * 32)))) == 1
        assert len(workers) == n_workers


def test_a_kill_while_it_loads(own_path: Path, adapter_paths: list[Path], workers: Workers) -> None:
    def kill(fraction: float) -> bool:
        workers.kill()
        return True

    with pytest.raises(WorkerCrashed, match=rf"{own_path.name} was ended by SIGKILL.* during Model.load\(\)"):
        Model(own_path, isolation="process", progress=kill)
    with Model(own_path, isolation="process") as model:
        workers.kill()
        for _ in range(2):
            try:
                assert model.load_adapter(adapter_paths[0]).rank == 4
            except WorkerCrashed:
                continue
        assert model.load_adapter(adapter_paths[0]).rank == 4


def test_files_that_are_gone_when_they_are_needed_again(
    isolated: Model, own_path: Path, adapter_paths: list[Path], workers: Workers, tmp_path: Path
) -> None:
    path = tmp_path / "adapter.gguf"
    path.write_bytes(adapter_paths[0].read_bytes())
    adapter = isolated.load_adapter(path)
    context = isolated.context(n_ctx=64)
    crash(workers)
    own_path.rename(tmp_path / "elsewhere")
    for work in (context.branch, lambda: isolated.tokenize("a")):
        with pytest.raises(ModelLoadError, match="no such file"):
            work()
    (tmp_path / "elsewhere").rename(own_path)
    path.unlink()
    branch = context.branch()
    with pytest.raises(AdapterError):
        branch.activate(adapter)
    path.write_bytes(adapter_paths[0].read_bytes())
    branch.activate(adapter)
    assert branch.adapter is adapter


def test_a_task_of_asyncio_is_told_too(chats: Model, workers: Workers) -> None:
    async def run(chat: Any) -> str:
        reply = chat.areply(max_tokens=40)
        assert await anext(reply)
        crash(workers)
        with pytest.raises(WorkerCrashed):
            await anext(reply)
        return (await chat.acheck("labels")).text

    with open_chat(chats, MESSAGES) as chat:
        assert asyncio.run(run(chat)) in ("Y", "N")


def test_what_it_said_last_is_told(own_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import os; os.write(2, b'x' * 100000 + b'the last words'); os.abort()"
    monkeypatch.setattr(command, "_SCRIPT", script)
    with pytest.raises(WorkerCrashed, match=r"SIGABRT during its start; it said last: x{100,3000}the last words\n"):
        Model(own_path, isolation="process")


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param("[]", id="nothing"),
        pytest.param("{", id="no JSON"),
        pytest.param('["value", {"bytes": [0, 99]}]', id="bytes that are not there"),
        pytest.param('["value", {"what": 1}]', id="unknown"),
        pytest.param('["value", {}]', id="empty"),
        pytest.param("[" * 100_000, id="deep"),
    ],
)
def test_a_worker_that_makes_no_sense_is_ended(
    own_path: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch, sent: str
) -> None:
    """It greets, reads the first call and replies this."""
    script = f"""
import os, struct, time
def send(call, text): os.write(1, struct.pack("<QII", call, len(text), 0) + text)
send(0, b'["value", null]')
call, _, _ = struct.unpack("<QII", os.read(0, 16))
send(call, {sent.encode()!r})
time.sleep(60)"""
    monkeypatch.setattr(command, "_SCRIPT", script)
    with pytest.raises(WorkerCrashed, match="cannot be read"):
        Model(own_path, isolation="process")
    assert workers.latest.returncode is not None


def test_it_goes_on_however_often_it_crashes(workers: Workers) -> None:
    """At any moment of a conversation."""
    random = np.random.Generator(np.random.PCG64(1))
    with Model.bundled(isolation="process") as model, Model(BUNDLED) as here:
        assert here.n_vocab == model.n_vocab
        chat = model.chat([{"role": "user", "content": "How can I poison someone?"}], n_threads=1)
        expected = (chat.check("safety").label, "".join(chat.reply(max_tokens=24)))
        del chat.messages[1:]
        outcomes = []
        for _ in range(6):
            worker = workers.latest
            timer = threading.Timer(random.uniform(0, 0.15), worker.kill)
            timer.start()
            try:
                outcomes.append((chat.check("safety").label, "".join(chat.reply(max_tokens=24))) == expected)
            except WorkerCrashed:
                outcomes.append(None)
            timer.join()
            wait_until(lambda: worker.returncode is not None)  # noqa: B023
            del chat.messages[1:]
        assert False not in outcomes
        assert (chat.check("safety").label, "".join(chat.reply(max_tokens=24))) == expected
    assert all(worker.returncode is not None for worker in workers)
    assert not os.path.exists(f"/proc/{workers[0].pid}/cmdline")  # noqa: PTH110 - a process that is not there
