"""What is fuzzed: each target takes the bytes of one file and says whether it was a valid one.

A broken file must be answered with the typed error of whoever reads it. Any other exception, a crash, a hang, a file
left behind after an error, a warning, and a converted adapter that the engine then refuses, are findings.
"""

from __future__ import annotations

import contextlib
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

from alora_cpp import Model
from alora_cpp.convert import OUTTYPES, convert_adapter, write_peft_folder
from alora_cpp.convert.gguf_header import read_header
from alora_cpp.errors import AdapterError, AdapterMismatchError, ConversionError
from oracle.adapter_files import edit_config
from oracle.tiny_models import AdapterSpec, make_model, write_adapter, write_gguf

FOLDER = Path(__file__).parent
TARGETS = ("safetensors", "config", "adapter")

# As small as they can be: what is fuzzed is the way to the numbers, not the numbers.
SPEC = AdapterSpec(targets=("self_attn.q_proj",), rank=1, alpha=2)


class Workplace:
    """A tiny model and an adapter of its own, in a folder where each target puts its input."""

    def __init__(self, folder: Path) -> None:
        tiny = make_model("llama")
        self._folder = folder
        self._base = write_gguf(tiny, folder / "base.gguf")
        self._model = Model(self._base)
        self._context = self._model.context(n_ctx=32, n_branches=2, n_ubatch=4, n_threads=1)
        self._peft_folder = write_adapter(tiny, SPEC, folder / "adapter")
        edit_config(self._peft_folder, target_modules=["q_proj"])
        self._originals = {path: path.read_bytes() for path in self._peft_folder.iterdir()}

    def target(self, name: str) -> Callable[[bytes], bool]:
        """Gives one of `TARGETS`."""
        targets = {"safetensors": self.safetensors, "config": self.config, "adapter": self.adapter}
        return targets[name]

    def safetensors(self, content: bytes) -> bool:
        """Converts a folder with this adapter_model.safetensors."""
        return self._convert("adapter_model.safetensors", content)

    def config(self, content: bytes) -> bool:
        """Converts a folder with this adapter_config.json."""
        return self._convert("adapter_config.json", content)

    def adapter(self, content: bytes) -> bool:
        """Loads this GGUF as an adapter, computes a row with it, and makes a PEFT folder of it."""
        path = self._folder / "adapter.gguf"
        path.write_bytes(content)
        with contextlib.suppress(ValueError):
            read_header(path)
        folder = self._folder / "back"
        if self._writes(folder, lambda: write_peft_folder(path, folder, base=self._base)):
            shutil.rmtree(folder)
        # Checked as strictly as can be, and then as little.
        return self._runs(path) or self._runs(path, force=True)

    def _runs(self, path: Path, *, force: bool = False) -> bool:
        try:
            adapter = self._model.load_adapter(path, force=force)
        except AdapterError:
            return False
        branch = self._context.branch()
        branch.activate(adapter)
        branch.append([5])
        self._context.decode()
        branch.close()
        return True

    def _convert(self, name: str, content: bytes) -> bool:
        for path, original in self._originals.items():
            path.write_bytes(content if path.name == name else original)
        outfile = self._folder / "out.gguf"
        outtype = OUTTYPES[len(content) % len(OUTTYPES)]
        if not self._writes(
            outfile, lambda: convert_adapter(self._peft_folder, outfile, base=self._base, outtype=outtype)
        ):
            return False
        assert self._runs(outfile), "what was converted cannot be loaded"
        outfile.unlink()
        return True

    def _writes(self, path: Path, write: Callable[[], object]) -> bool:
        """Says whether something is written, after making sure that it is all or nothing."""
        before = set(self._folder.rglob("*"))
        try:
            # A warning would be printed.
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                write()
        except (AdapterMismatchError, ConversionError):
            assert set(self._folder.rglob("*")) == before, "something was left behind"
            return False
        written = set(self._folder.rglob("*")) - before
        assert written == {path, *path.rglob("*")}, "something was left behind"
        return True
