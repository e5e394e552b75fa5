"""Models in a process of their own: the same answers, the same errors, nothing left behind."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from isolated import Workers, is_running, run_script, wait_until

from alora_cpp import (
    Adapter,
    AdapterError,
    AdapterMismatchError,
    ArgumentError,
    Cancelled,
    ClosedError,
    Context,
    ContextFullError,
    Model,
    ModelLoadError,
    PositionError,
    TokenError,
    WorkerCrashed,
)
from alora_cpp.isolation import command, process, shared_memory, wire
from tiny import N_VOCAB, begin, fresh_logits, open_exact, random_tokens
from tiny_chats import ANSWERING, load_kinds, open_chat

WHAT = {"what": "so"}
MESSAGES = [{"role": "user", "content": "Is the cat here? It purrs."}]


@pytest.fixture
def isolated(workers: Workers, model_path: Path) -> Iterator[Model]:
    with Model(model_path, isolation="process") as model:
        yield model


@pytest.fixture(scope="module")
def isolated_chats(chat_model: Model, adapter_paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Model(chat_model.path, isolation="process") as model:
        load_kinds(model, adapter_paths, tmp_path_factory.mktemp("isolated"))
        yield model


def test_what_is_known_of_a_model_is_the_same(model: Model, isolated: Model) -> None:
    for name in ("path", "name", "names", "architecture", "metadata", "chat_template", "description", "n_parameters"):
        assert getattr(isolated, name) == getattr(model, name)
    for name in ("size", "n_ctx_train", "n_embd", "n_layer", "n_vocab", "bos", "eos", "control_tokens", "fingerprint"):
        assert getattr(isolated, name) == getattr(model, name)
    assert isolated._core.fingerprints.vocabulary == model._core.fingerprints.vocabulary
    assert isolated._core.fingerprints.weights == model._core.fingerprints.weights
    for token in range(model.n_vocab):
        assert isolated.is_control(token) == model.is_control(token)
        assert isolated.is_end_of_generation(token) == model.is_end_of_generation(token)
        assert isolated._core.piece(token) == model._core.piece(token)
    text = "Purr. <|start_of_role|> ü\0"
    for special in (False, True):
        tokens = model.tokenize(text, parse_special=special)
        assert isolated.tokenize(text, parse_special=special) == tokens
        assert isolated.detokenize(tokens, special=special) == model.detokenize(tokens, special=special)
        assert isolated._core.piece(3, special=special) == model._core.piece(3, special=special)


def test_what_is_known_of_an_adapter_is_the_same(
    isolated: Model, adapters: list[Adapter], adapter_paths: list[Path]
) -> None:
    for mine, path in zip(adapters, adapter_paths, strict=True):
        other = isolated.load_adapter(path)
        for name in ("name", "path", "metadata", "invocation_tokens", "activation_offset", "io_yaml"):
            assert getattr(other, name) == getattr(mine, name)
        for name in ("rank", "alpha", "targets", "size"):
            assert getattr(other, name) == getattr(mine, name)
        tokens = [9, *mine.invocation_tokens, 9]
        assert other.find_invocation(tokens) == mine.find_invocation(tokens) == 1


@pytest.mark.parametrize("name", ANSWERING)
def test_verdicts_are_the_same_to_the_bit(chat_model: Model, isolated_chats: Model, name: str) -> None:
    verdicts = []
    for model in (chat_model, isolated_chats):
        with open_chat(model, MESSAGES, documents=["Cats purr. Dogs bark."]) as chat:
            one = chat.check(name, arguments=WHAT)
            verdicts.append((one.label, one.text, one.probabilities, one.value, one.off_label, one.tokens_evaluated))
    assert verdicts[0] == verdicts[1]


def test_replies_are_the_same(chat_model: Model, isolated_chats: Model) -> None:
    replies = []
    for model in (chat_model, isolated_chats):
        with open_chat(model, MESSAGES) as chat:
            pieces = list(chat.reply(max_tokens=12, guards={"labels": "Y"}, every=3, on_flag="report"))
            drawn = list(chat.reply(max_tokens=8, temperature=1.3, top_k=50, min_p=0.01, seed=7, stop=["zz"]))
            replies.append((pieces, drawn, chat.trunk.tokens, chat.messages))
    assert replies[0] == replies[1]


def test_a_chat_goes_from_one_to_the_other_in_a_file(chat_model: Model, isolated_chats: Model, tmp_path: Path) -> None:
    with chat_model.chat(MESSAGES, n_threads=1) as chat:
        chat.save(tmp_path / "here.chat")
        expected = chat.check("labels")
    with isolated_chats.load_chat(tmp_path / "here.chat", n_threads=1) as chat:
        assert chat.trunk.n_queued == 0
        assert chat.check("labels").probabilities == expected.probabilities
        chat.save(tmp_path / "there.chat")
    assert (tmp_path / "here.chat").read_bytes() == (tmp_path / "there.chat").read_bytes()


@pytest.mark.parametrize("size", [10_000, shared_memory.SLOT_SIZE])
def test_more_than_fits_a_pipe_comes_over(
    model: Model, isolated: Model, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(process, "SLOT_SIZE", size)
    tokens = random_tokens(1, 600)
    with open_exact(isolated, n_ctx=2048) as context:
        branch = begin(context, tokens)
        values = branch.logits(rows=600)
        assert values.nbytes > 2 * wire.MOST_INLINE
        assert values.shape == (600, N_VOCAB)
        assert np.array_equal(values, fresh_logits(model, tokens))
        values[0, 0] = 0.0  # one's own
        saved = branch.save()
        again = context.restore(saved)
        assert again.tokens == tokens
        assert again.save() == saved
        assert branch.logits().shape == (N_VOCAB,)


def test_adapters_govern_from_where_they_should(model: Model, isolated: Model, adapter_paths: list[Path]) -> None:
    tokens = random_tokens(2, 20)
    adapter = isolated.load_adapter(adapter_paths[1])
    expected = fresh_logits(model, tokens, adapter=model.load_adapter(adapter_paths[1]), at=5)
    assert np.array_equal(fresh_logits(isolated, tokens, adapter=adapter, at=5), expected)


def test_errors_are_the_same(model: Model, isolated: Model, tmp_path: Path, adapter_paths: list[Path]) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(adapter_paths[0].read_bytes()[:1000])
    told: list[list[tuple[type, str]]] = []
    for one, how in ((model, "none"), (isolated, "process")):
        contexts: list[Context] = [open_exact(one, n_ctx=256, n_branches=1), open_exact(one)]
        closed = contexts[0].branch()
        closed.close()
        branch = contexts[0].branch()
        raised = []
        for work, kind in (
            (lambda: Model(tmp_path / "none.gguf", isolation=how), ModelLoadError),  # noqa: B023
            (lambda: Model(broken, isolation=how), ModelLoadError),  # noqa: B023
            (lambda: one.load_adapter(broken), AdapterError),  # noqa: B023
            (lambda: one.context(kv_type="f64"), ArgumentError),  # noqa: B023
            (lambda: one.detokenize([N_VOCAB]), TokenError),  # noqa: B023
            (lambda: one._core.piece(-1), TokenError),  # noqa: B023
            (lambda: one.is_control(N_VOCAB), TokenError),  # noqa: B023
            (lambda: branch.append([N_VOCAB]), TokenError),  # noqa: B023
            (lambda: branch.append([2**40]), TypeError),  # noqa: B023
            (lambda: branch.append([1.5]), TypeError),  # type: ignore[list-item] # noqa: B023
            (lambda: branch.append([5] * 300), ContextFullError),  # noqa: B023
            (contexts[0].branch, ContextFullError),
            (lambda: contexts[1].branch().fork(7), PositionError),  # noqa: B023
            (lambda: branch.logits(), PositionError),  # noqa: B023
            (lambda: closed.append([5]), ClosedError),  # noqa: B023
            (lambda: contexts[0].generation([contexts[1].branch()]), ArgumentError),  # noqa: B023
            (lambda: contexts[0].generation([branch], temperature=-1), ArgumentError),  # noqa: B023
            (lambda: contexts[1].restore(b"nothing"), ArgumentError),  # noqa: B023
        ):
            with pytest.raises(kind) as error:
                work()
            # Those of wrong types name the object's address.
            raised.append((type(error.value), str(error.value) if kind is not TypeError else ""))
        told.append(raised)
        for context in contexts:
            context.close()
            context.close()
        with pytest.raises(ClosedError):
            contexts[0].branch()
        assert closed.closed
        assert branch.closed
    for mine, other in zip(*told, strict=True):
        assert mine == other


def test_models_do_not_take_what_belongs_to_others(
    model: Model, isolated: Model, model_path: Path, adapter_paths: list[Path]
) -> None:
    with Model(model_path, isolation="process") as other, isolated.context(n_ctx=64) as context:
        branch = context.branch()
        for stranger in (other, model):
            with pytest.raises(AdapterMismatchError, match="load it for that one"):
                branch.activate(stranger.load_adapter(adapter_paths[0]))
            with stranger.context(n_ctx=64) as elsewhere:
                lost = elsewhere.branch()
                with pytest.raises(ArgumentError, match="another context"):
                    context.generation([lost])
                with pytest.raises(ArgumentError, match="another context"):
                    context.score([(lost, ["Y", "N"])])
        branch.append([5])
        context.decode()


def test_isolation_is_one_of_two_words(model_path: Path) -> None:
    with pytest.raises(ArgumentError, match="isolation is 'thread', expected 'none' or 'process'"):
        Model(model_path, isolation="thread")  # type: ignore[arg-type]


def test_what_is_dropped_is_free_for_the_next_call(isolated: Model, adapter_paths: list[Path]) -> None:
    with isolated.context(n_ctx=256, n_branches=4) as context:
        trunk = begin(context, random_tokens(3, 40))
        for _ in range(300):
            fork = trunk.fork()
            fork.append([5, 6])
            context.queue_scores([(fork, ["Y", "N"])])
            del fork
            assert context.n_cells_used == 40
            assert context.n_branches == 1
        for path in adapter_paths * 3:
            isolated.load_adapter(path)


def memory_of(pid: int) -> int:
    """Bytes of a process that are in memory and its own."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="/proc")
def test_a_context_that_is_dropped_is_freed_without_another_call(isolated: Model, workers: Workers) -> None:
    def fill() -> Context:
        context = isolated.context(n_ctx=65536, n_branches=1, kv_type="f32")
        begin(context, random_tokens(4, 2))
        return context

    fill()
    contexts = [fill() for _ in range(2)]
    size = memory_of(workers.latest.pid)
    del contexts
    gc.collect()
    wait_until(lambda: memory_of(workers.latest.pid) < size / 2)


def be_cancelled(context: Context) -> None:
    with pytest.raises(Cancelled):
        context.decode()


def test_cancelling_takes_effect_while_another_thread_computes(isolated: Model) -> None:
    with open_exact(isolated, n_ctx=8192) as context:
        branch = context.branch()
        branch.append(random_tokens(5, 8000))
        with ThreadPoolExecutor() as pool:
            running = pool.submit(be_cancelled, context)
            context.cancel()
            running.result()
        n_queued = branch.n_queued
        assert n_queued > 0
        context.resume()
        context.cancel()
        context.resume()
        other = context.branch()
        other.append([5])
        branch.close()
        context.decode()
        assert other.logits().shape == (N_VOCAB,)


def test_what_a_branch_says_is_of_now(isolated: Model) -> None:
    """Tried with: what was read before a call taken for what holds after it; tokens handed out that are kept, too."""
    with open_exact(isolated) as context:
        branch = context.branch()
        assert (branch.length, branch.n_queued) == (0, 0)
        branch.append([5, 6, 7])
        assert (branch.length, branch.n_queued) == (3, 3)
        context.decode()
        fork = branch.fork(1)
        assert (branch.length, branch.n_queued, fork.length) == (3, 0, 1)
    tokens = isolated.tokenize("yes")
    tokens.append(0)
    assert isolated.tokenize("yes") == tokens[:-1]


def test_a_long_computation_makes_nobody_else_wait(isolated: Model) -> None:
    """Tried with: a worker that runs each call before it reads the next one."""
    with open_exact(isolated, n_ctx=8192) as busy, open_exact(isolated) as other:
        long = busy.branch()
        long.append(random_tokens(6, 8000))
        with ThreadPoolExecutor() as pool:
            running = pool.submit(be_cancelled, busy)
            for _ in range(3):
                assert begin(other, [5, 6]).logits().shape == (N_VOCAB,)
                assert len(isolated.tokenize("a")) == 1
            assert not running.done()
            busy.cancel()
            running.result()


def test_threads_use_several_models_at_once(model: Model, isolated: Model, model_path: Path) -> None:
    expected = fresh_logits(model, random_tokens(7, 30))
    with Model(model_path, isolation="process") as other, ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda one: fresh_logits(one, random_tokens(7, 30)), (isolated, other, model) * 8))
    assert all(np.array_equal(result, expected) for result in results)


def test_a_closed_model_has_no_process(model_path: Path, adapter_paths: list[Path], workers: Workers) -> None:
    with Model(model_path, isolation="process") as model:
        context = model.context(n_ctx=64)
        branch = context.branch()
        adapter = model.load_adapter(adapter_paths[0])
        assert workers.latest.returncode is None
    assert workers.latest.returncode == 0, "it was waited for"
    assert adapter.name == "random-0"
    for work in (lambda: model.tokenize("a"), context.branch, context.decode, lambda: branch.append([5])):
        with pytest.raises(ClosedError):
            work()
    assert branch.closed
    assert context.closed
    branch.close()
    context.close()
    context.cancel()
    model.close()


def test_a_model_that_is_dropped_has_no_process(model_path: Path, workers: Workers) -> None:
    threads = threading.active_count()
    model = Model(model_path, isolation="process")
    begin(model.context(n_ctx=64), [5])
    del model
    gc.collect()
    wait_until(lambda: workers.latest.returncode is not None)
    wait_until(lambda: threading.active_count() == threads)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="/dev/shm")
def test_shared_memory_has_no_name(isolated: Model) -> None:
    before = set(Path("/dev/shm").iterdir())
    with open_exact(isolated) as context:
        begin(context, random_tokens(8, 300)).logits(rows=300)
        assert set(Path("/dev/shm").iterdir()) == before


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="/proc")
def test_nothing_stays_open(model_path: Path) -> None:
    def load_and_close() -> None:
        with Model(model_path, isolation="process") as model:
            model.tokenize("a")

    load_and_close()
    before = sorted(Path("/proc/self/fd").iterdir())
    for _ in range(3):
        load_and_close()
    assert sorted(Path("/proc/self/fd").iterdir()) == before


SCRIPT = """
import os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where it was ignored, as behind a shell's "&"
from alora_cpp import ClosedError, Model
from alora_cpp.isolation import command, process, shared_memory, wire
started = []
class Noted(command.subprocess.Popen):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        started.append(self.pid)
command.subprocess.Popen = Noted
model = Model({path!r}, isolation="process")
context = model.context(n_ctx=8192, n_threads=1)
branch = context.branch()
branch.append([5 + i % 90 for i in range(8000)])
"""


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param("", id="live"),
        pytest.param(
            "branch.close(); b = context.branch(); b.append([5]); steps = context.generate([b]); next(steps)",
            id="generator",
        ),
        pytest.param("threading.Thread(target=context.decode, daemon=True).start(); time.sleep(0.2)", id="computing"),
        pytest.param("del model, context", id="dropped"),
        pytest.param("model.close()", id="closed"),
    ],
)
def test_the_interpreter_ends_in_peace(model_path: Path, rest: str) -> None:
    told = run_script(SCRIPT.format(path=str(model_path)) + rest + "\nprint(started[0], flush=True)")
    wait_until(lambda: not is_running(int(told)))


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("work", ["time.sleep(60)", "context.decode()"])
def test_a_worker_does_not_outlive_its_parent(model_path: Path, work: str) -> None:
    """Whether it computes or not; also where a copy of the parent lives on."""
    script = SCRIPT.format(path=str(model_path))
    if work == "time.sleep(60)":
        script += "\nif os.fork() == 0: os.close(1); os.close(2); time.sleep(5); os._exit(0)\n"
    script += f"""
print(started[0], flush=True)
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
{work}"""
    told = run_script(script, code=-signal.SIGKILL)
    wait_until(lambda: not is_running(int(told)))


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_ends_a_computation_and_nothing_else(model_path: Path) -> None:
    script = (
        SCRIPT.format(path=str(model_path))
        + """
delay = 0.02
left = 8000
# Until it comes in the middle, which is sooner on a faster machine.
while left in (0, 8000):
    timer = threading.Timer(delay, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    try:
        context.decode()
        timer.join()
        time.sleep(1)
    except KeyboardInterrupt:
        left = branch.n_queued
    delay *= 1.5 if left == 8000 else 0.7
    branch.close()
    branch = context.branch()
    branch.append([5 + i % 90 for i in range(8000)])
print("interrupted")
branch.close()
other = context.branch()
other.append([5])
context.decode()
assert other.n_queued == 0
assert len(started) == 1"""
    )
    assert run_script(script) == "interrupted\n"


def test_an_interrupt_before_a_request_is_made_leaves_nothing_to_wait_for(
    isolated: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = isolated.context(n_ctx=64)
    branch = begin(context, [5])

    def interrupted_once(*_: object) -> wire.Frame:
        monkeypatch.undo()
        raise KeyboardInterrupt

    branch.append([6])
    monkeypatch.setattr(process, "pack", interrupted_once)
    with pytest.raises(KeyboardInterrupt):
        context.decode()
    assert branch.n_queued == 1
    context.decode()
    assert branch.n_queued == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_at_any_moment_harms_no_worker(model_path: Path) -> None:
    """Tried with: a worker that is ended whenever a request was interrupted; one that is always waited for."""
    script = (
        SCRIPT.format(path=str(model_path))
        + """
import random
moments = random.Random(7)
branch.close()
for _ in range(100):
    branch = context.branch()
    branch.append([5 + i % 90 for i in range(1000)])
    timer = threading.Timer(0.006 * moments.random(), lambda: os.kill(os.getpid(), signal.SIGINT))
    try:
        timer.start()
        context.decode()
        timer.join()
        time.sleep(1)
    except KeyboardInterrupt:
        pass
    branch.close()
    other = context.branch()
    other.append([5])
    context.decode()
    assert other.n_queued == 0
    other.close()
assert len(started) == 1"""
    )
    assert run_script(script) == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork")
def test_a_copy_of_the_process_has_a_worker_of_its_own(model_path: Path) -> None:
    script = (
        SCRIPT.format(path=str(model_path))
        + """
import gc, warnings
warnings.simplefilter("ignore", DeprecationWarning)
pid = os.fork()
if pid == 0:
    try:
        branch.append([5])
    except ClosedError as error:
        print("os.fork" in str(error), flush=True)
    context.cancel()
    context.resume()
    assert model.tokenize("a")
    assert context.n_cells_used == 0
    assert len(started) == 2
    del model, context, branch
    gc.collect()
    sys.exit(0)
os.waitpid(pid, 0)
assert model.tokenize("a")
assert context.n_cells_used == 8000
print(len(started))"""
    )
    assert run_script(script) == "True\n1\n"


def test_a_worker_that_cannot_be_started(model_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(tmp_path / "python"))
        with pytest.raises(WorkerCrashed, match="no worker process can be started"):
            Model(model_path, isolation="process")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", [one for one in sys.path if "site-packages" not in one and "python3" in one])
        patch.setattr(command, "_SCRIPT", command._SCRIPT.replace("alora_cpp", "alora_cpq"))
        with pytest.raises(WorkerCrashed, match=r"(?s)ended with code 1 .*No module named 'alora_cpq'"):
            Model(model_path, isolation="process")


def test_a_frozen_program_has_to_be_ready(model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(WorkerCrashed, match="freeze_support"):
        Model(model_path, isolation="process")
    program = f"""
import sys
sys.frozen = True
from alora_cpp.isolation import freeze_support
freeze_support()
from alora_cpp import Model
with Model({str(model_path)!r}, isolation="process") as model:
    print(model.n_vocab)"""
    # A "frozen" interpreter that runs this program whatever it is asked for.
    script = f"""
import subprocess, sys
program = {program!r}
real = subprocess.Popen
class Frozen(real):
    def __init__(self, arguments, **options):
        super().__init__([sys.executable, "-c", program, *arguments[1:]], **options)
subprocess.Popen = Frozen
exec(program)"""
    assert run_script(script) == f"{N_VOCAB}\n"


def test_the_folder_a_program_was_started_in_is_not_searched(model_path: Path, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    script = f"""
import sys
sys.path = [one for one in sys.path if one]
import os
os.chdir({str(tmp_path)!r})
from alora_cpp import Model
Model({str(model_path)!r}, isolation="process").close()"""
    run_script(script)
