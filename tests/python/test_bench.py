"""What `alora-cli bench` is made of: works, figures, random adapters, and what the machine says of itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from alora_cpp import Adapter, Model
from alora_cpp.bench import Measured, measure
from alora_cpp.bench.buffers import Buffers, overheard
from alora_cpp.bench.callees import Callee
from alora_cpp.bench.machine import peak_memory, processor, usable_processors
from alora_cpp.bench.random_adapter import write_random_adapter
from alora_cpp.bench.random_tokens import random_tokens as plain_tokens
from alora_cpp.bench.works import Sample, Works
from alora_cpp.errors import ArgumentError
from oracle.tiny_models import INVOCATION, N_LAYERS, N_VOCAB
from tiny import Key, Kind, fresh_logits, make_model, open_exact, random_tokens, rewrite_gguf, write_gguf


def callee(adapter: Adapter) -> Callee:
    return Callee(adapter.name, "given", adapter, adapter.invocation_tokens, adapter.invocation_tokens)


class TestWorks:
    """What is timed is what it is called: the rows go where they should, under whom they should."""

    def test_verdicts_are_computed_as_promised(
        self, model: Model, adapters: list[Adapter], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tokens = random_tokens(1, 30)
        read: list[np.ndarray[Any, Any]] = []
        monkeypatch.setattr("alora_cpp.bench.works._best", lambda branch: read.append(branch.logits()) or 7)
        alone = [
            fresh_logits(model, [*tokens, *INVOCATION], adapter=adapter, at=len(tokens))[-1] for adapter in adapters
        ]
        with open_exact(model) as context:
            works = Works(context, tokens)
            works.read()
            works.judge_together([callee(one) for one in adapters])
            works.judge_one_by_one([callee(one) for one in adapters])
            np.testing.assert_allclose(np.array(read[1:]), [*alone, *alone], atol=1e-4)
            read.clear()
            works.judge_as_lora(callee(adapters[0]))
            again = [*INVOCATION, *tokens[len(INVOCATION) :], *INVOCATION]
            np.testing.assert_allclose(read, fresh_logits(model, again, adapter=adapters[0])[-1:], atol=1e-4)

    def test_they_leave_nothing_behind(self, model: Model, adapters: list[Adapter]) -> None:
        called = [callee(one) for one in adapters]
        tokens = random_tokens(2, 30)
        with open_exact(model) as context:
            works = Works(context, tokens)
            works.read()
            for work in (
                lambda: works.write(5),
                lambda: works.judge_together(called),
                lambda: works.judge_one_by_one(called),
                lambda: works.judge_as_lora(called[0]),
            ):
                work()
                assert (context.n_cells_used, context.n_branches) == (len(tokens), 1)
            works.go_on([9, 10])
            assert context.n_cells_used == len(tokens) + 2
            works.close()
            assert (context.n_cells_used, context.n_branches) == (0, 0)

    def test_an_error_leaves_nothing_behind(
        self, model: Model, adapters: list[Adapter], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with open_exact(model) as context:
            works = Works(context, random_tokens(2, 30))
            works.read()
            monkeypatch.setattr("alora_cpp.bench.works._best", lambda branch: 1 // 0)
            for work in (works.judge_together, works.judge_one_by_one):
                with pytest.raises(ZeroDivisionError) as held:
                    work([callee(one) for one in adapters])
                # The error holds what was in hand.
                assert held.tb is not None
                assert (context.n_cells_used, context.n_branches) == (30, 1)


def test_a_call_longer_than_all_that_was_said(model: Model, adapters: list[Adapter]) -> None:
    invocation = tuple(random_tokens(4, 40))
    one = Callee("long", "given", adapters[0], invocation, invocation)
    measured = measure(model, [one], Buffers(), prompts=[1], rounds=1, n_threads=1).measured
    (sample,) = measured[0].samples["verdict_as_lora"]
    assert (sample.evaluated, sample.reused) == (80, 0)


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    """Tried with: the ratio of the medians, which is 2 here."""
    times = {"read": [1.0, 6.0, 8.0], "go_on": [1.0, 2.0, 16.0], "write": [5.0, 5.0, 5.0]}
    samples = {name: [Sample(seconds, 1, 1) for seconds in values] for name, values in times.items()}
    one = Measured(100, samples, 256, 1, 1)
    assert one.seconds("read") == 6.0
    assert one.ratio("read") == 1.0
    assert one.round_seconds(400) == 4 * 6.0 + 2.0 + 5.0


def test_the_order_changes_from_round_to_round(
    model: Model, adapters: list[Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    for name in ("judge_together", "judge_one_by_one", "judge_as_lora"):
        monkeypatch.setattr(Works, name, _noted(done, name, getattr(Works, name)))
    measure(model, [callee(one) for one in adapters], Buffers(), prompts=[20], rounds=2, n_threads=1)
    ways = ["judge_together", "judge_as_lora", "judge_together", "judge_one_by_one"]
    # The first round warms up.
    assert done == [*ways, *ways, *reversed(ways)]


def _noted(done: list[str], name: str, work: Any) -> Any:
    def noted(self: Works, *arguments: Any) -> Sample:
        done.append(name)
        sample: Sample = work(self, *arguments)
        return sample

    return noted


class TestRandomAdapter:
    def test_it_has_what_the_usual_adapter_has(self, model: Model, model_path: Path, tmp_path: Path) -> None:
        path = tmp_path / "adapter.gguf"
        write_random_adapter(path, model, seed=1)
        reader = gguf.GGUFReader(path)
        weights = {one.name: one.data.shape for one in gguf.GGUFReader(model_path).tensors}
        shapes = {one.name: one.data.shape for one in reader.tensors}
        assert shapes == {
            f"blk.{layer}.attn_{part}.weight.lora_{half}": (32, n_in) if half == "a" else (n_out, 32)
            for layer in range(N_LAYERS)
            for part in "qkv"
            for n_out, n_in in [weights[f"blk.{layer}.attn_{part}.weight"]]
            for half in "ab"
        }
        assert {one.tensor_type for one in reader.tensors} == {gguf.GGMLQuantizationType.F16}
        invocation = reader.fields["adapter.alora.invocation_tokens"].contents()
        assert len(invocation) == 4
        assert all(0 <= token < N_VOCAB and not model.is_control(token) for token in invocation)

    def test_it_changes_what_is_computed_and_seeds_differ(self, model: Model, tmp_path: Path) -> None:
        tokens = random_tokens(3, 20)
        logits = [fresh_logits(model, tokens)[-1]]
        for seed in (1, 2):
            path = tmp_path / f"{seed}.gguf"
            write_random_adapter(path, model, seed=seed)
            logits.append(fresh_logits(model, tokens, adapter=model.load_adapter(path))[-1])
        for one, other in ((0, 1), (0, 2), (1, 2)):
            assert np.abs(logits[one] - logits[other]).max() > 0.01

    @pytest.mark.parametrize("family", ["phi3", "granitemoehybrid"])
    def test_other_ways_to_keep_attention(self, family: str, tmp_path: Path) -> None:
        """One weight for q, k and v; attention in one of two blocks."""
        path = tmp_path / "adapter.gguf"
        with Model(write_gguf(make_model(family), tmp_path / "model.gguf")) as model:
            write_random_adapter(path, model, seed=1)
            targets = set(model.load_adapter(path).targets)
        assert targets == ({"attn_qkv"} if family == "phi3" else {"attn_q", "attn_k", "attn_v"})
        layers = {one.name.split(".")[1] for one in gguf.GGUFReader(path).tensors}
        assert layers == ({"0", "1"} if family == "phi3" else {"1"})

    def test_a_vocabulary_of_control_tokens_alone(self, model_path: Path, tmp_path: Path) -> None:
        types = Key([int(gguf.TokenType.CONTROL)] * N_VOCAB, Kind.ARRAY, Kind.INT32)
        path = rewrite_gguf(model_path, tmp_path / "control.gguf", tokenizer__ggml__token_type=types)
        with Model(path) as model, pytest.raises(ArgumentError, match="are control tokens"):
            plain_tokens(model, 5, seed=0)


class TestMachine:
    def test_buffers_are_as_large_as_what_is_in_them(self, model_path: Path) -> None:
        with overheard() as buffers:
            with Model(model_path, n_gpu_layers=0) as model, model.context(n_ctx=300, n_threads=1) as context:
                counted = context.counters.compute_bytes
            weights = sum(one.n_bytes for one in gguf.GGUFReader(model_path).tensors)
            # The log has hundredths of mebibytes.
            assert buffers.total("weights") == pytest.approx(weights, abs=2 * 10_486)
            # 512 cells; two heads of 16 numbers of 16 bits, as key and as value.
            assert buffers.total("kv") == pytest.approx(512 * N_LAYERS * 2 * 2 * 16 * 2, abs=10_486)
            assert buffers.total("compute") == pytest.approx(counted, abs=10_486)
            assert len(buffers.devices) == 1

    def test_lines_of_a_model_on_several_devices(self) -> None:
        buffers = Buffers()
        for line in (
            "load_tensors:        CUDA0 model buffer size =  1000.50 MiB\n",
            "load_tensors:   CPU_Mapped model buffer size =   100.00 MiB\n",
            "llama_kv_cache:      CUDA0 KV buffer size =    64.00 MiB\n",
            "llama_kv_cache:        CPU KV buffer size =    32.00 MiB\n",
            "llama_memory_recurrent: CUDA0 RS buffer size =     8.00 MiB\n",
            "load_tensors: offloading 16 repeating layers to GPU\n",
        ):
            buffers.read(line)
        assert buffers.devices == ["CUDA0", "CPU"]
        assert (buffers.total("weights"), buffers.total("kv")) == (int(1100.5 * 2**20), 104 * 2**20)

    @pytest.mark.skipif(sys.platform == "win32", reason="the system does not say")
    def test_the_peak_of_memory_is_this_programs_own(self) -> None:
        taken = b"x" * (300 << 20)
        script = "import mmap; from alora_cpp.bench.machine import peak_memory; untouched = mmap.mmap(-1, 1 << 30); "
        script += "before = peak_memory(); taken = b'x' * (200 << 20); print(before, peak_memory())"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        before, after = map(int, done.stdout.split())
        assert before < 200 << 20
        assert after - before == pytest.approx(200 << 20, rel=0.05)
        assert (peak_memory() or 0) > len(taken)

    def test_it_has_a_name_and_processors(self) -> None:
        assert processor().strip()
        assert 1 <= usable_processors() <= (os.cpu_count() or 1)
