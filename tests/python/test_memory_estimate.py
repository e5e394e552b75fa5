"""What does not fit is refused before it is allocated; what it was said to need is what it takes."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import pytest

from alora_cpp import BackendError, Model, ModelLoadError
from alora_cpp.bundled_model import BUNDLED
from tiny import make_model, write_gguf

MIB = 1 << 20
PROBE = Path(__file__).with_name("memory_probe.py")
CONTEXTS: list[dict[str, Any]] = [
    {"n_ctx": 16384},
    {"n_ctx": 8192, "kv_type": "f32", "n_ubatch": 256},
    {"n_ctx": 16384, "kv_type": "q8_0"},
    {"n_ctx": 2048, "flash_attention": False, "n_ubatch": 512},
]
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status and limits address space")


def assert_close(found: dict[str, Any]) -> None:
    """Graphs and the bookkeeping of cells are not in the estimate; masks are, and few of their pages are written."""
    slack = found["taken"] / 5 + 6 * MIB
    assert found["taken"] - slack < found["needed"] < found["taken"] + slack


def probe(path: Path, contexts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(PROBE), str(path), json.dumps(contexts)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@needs_proc
def test_the_bundled_model_takes_what_it_was_said_to_need() -> None:
    """Tried with: weights that are repacked left out of the estimate, or cells of one layer only."""
    model, *contexts = probe(BUNDLED, CONTEXTS)
    if "error" in model:  # else this processor computes with the weights as they lie in the file
        assert model["error"] == "ModelLoadError"
        assert model["available"] < model["needed"]
        assert_close(model)
    for context in contexts:
        assert context["error"] == "BackendError"
        assert context["available"] <= MIB
        assert_close(context)


@needs_proc
@pytest.mark.parametrize("family", ["granitemoehybrid", "gemma3", "qwen3"])
def test_other_kinds_of_memory_are_counted_too(family: str, tmp_path: Path) -> None:
    """Recurrent states, sliding windows, heads wider than usual."""
    path = write_gguf(make_model(family), tmp_path / "model.gguf")
    _, context = probe(path, [{"n_ctx": 131072, "kv_type": "f32", "n_ubatch": 16}])
    assert context["error"] == "BackendError"
    assert_close(context)


def test_a_context_that_no_machine_has_room_for(bundled: Model) -> None:
    with pytest.raises(BackendError, match=r"needs at least .* bytes\) of memory.*available.*n_ctx"):
        bundled.context(n_ctx=1 << 26)
    with bundled.context(n_ctx=256) as context:
        assert context.n_ctx == 256


@pytest.mark.skipif(sys.platform == "win32", reason="a file of terabytes that takes no room on the disk")
def test_a_model_that_no_machine_has_room_for(tmp_path: Path) -> None:
    """Tried with: weights that are read from the mapped file left out of the estimate."""
    path = write_vast(tmp_path / "vast.gguf")
    if os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") > VAST:
        pytest.skip("this machine may have room for it")
    with pytest.raises(ModelLoadError, match=r"vast.gguf: it needs at least .* bytes\) of memory.*smaller"):
        Model(path)


# Bytes of each of the six large weights in the file below.
VAST = 64 * 4 << 30


def write_vast(path: Path) -> Path:
    """A tiny model whose feed-forward weights are 256 GiB each; the file has a hole for them."""
    small = write_gguf(make_model("llama"), path.with_name("small.gguf"))
    reader = gguf.GGUFReader(small)
    writer = gguf.GGUFWriter(path, "llama")
    for name, entry in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = 1 << 30 if name == "llama.feed_forward_length" else entry.contents()
        items = entry.types[-1] if entry.types[0] is gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, entry.types[0], items)
    n_bytes = 0
    for tensor in reader.tensors:
        shape = [1 << 30 if size == 96 else int(size) for size in reversed(tensor.shape)]
        size = 4 * math.prod(shape)
        n_bytes += size
        writer.add_tensor_info(tensor.name, shape, tensor.data.dtype, size)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    os.truncate(path, path.stat().st_size + 4096 + n_bytes)
    return path
