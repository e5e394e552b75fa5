"""What a loaded model holds in memory, as Linux counts it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from alora_cpp import Model
from alora_cpp.bench.buffers import overheard
from alora_cpp.bundled_model import BUNDLED

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/smaps")


def resident(path: Path) -> int:
    """Bytes of a mapped file that are in this process's memory."""
    mappings = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE)
    own = [text for text in mappings if text.split("\n", 1)[0].endswith(str(path))]
    return sum(1024 * int(size) for text in own for size in re.findall(r"^Rss: +(\d+) kB", text, re.MULTILINE))


def test_weights_are_not_held_twice(tmp_path: Path) -> None:
    own = tmp_path / "model.gguf"  # nobody else maps this one
    own.write_bytes(BUNDLED.read_bytes())
    with overheard() as buffers:
        model = Model(own)
    sizes = buffers.sizes["weights"]
    elsewhere = sum(size for device, size in sizes.items() if not device.endswith("_Mapped"))
    if not elsewhere:
        pytest.skip("this processor computes with the weights as they lie in the file")
    with model:
        assert elsewhere > own.stat().st_size / 2
        assert 0 < resident(own) < own.stat().st_size - 0.9 * elsewhere
