"""Generated models and adapters to measure with: real shapes and vocabularies, random weights.

    python benchmarks/models.py --cache FOLDER [--shape 1b|3b|8b|tiny]

writes the model and eight adapters; `benchmarks/fused.py` does so by itself. Real vocabularies come from the llama.cpp
that this project is built with; pip fetches it once.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import gguf
import numpy as np
import numpy.typing as npt

INVOCATION = (300, 301, 302, 303)
PINNED = Path(__file__).parents[1] / "third_party/llama.cpp/requirements.txt"

_Q8 = gguf.GGMLQuantizationType.Q8_0
_F16 = gguf.GGMLQuantizationType.F16


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama or Granite model.

    Attributes:
        name: What the command line calls it.
        layers: Blocks.
        hidden: Width.
        heads: Attention heads, of queries.
        kv_heads: Heads of keys and values.
        feed_forward: Width between the matrices of a feed-forward part.
        vocab: Tokens.
        arch: What llama.cpp calls the architecture.
        vocabulary: Whose tokens, by llama.cpp's name for its file; made-up ones if None.
        tied: Whether the embeddings serve as output, too.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocab: int
    arch: str = "llama"
    vocabulary: str | None = None
    tied: bool = False

    @property
    def kv(self) -> int:
        """Values of a key or value row."""
        return self.hidden // self.heads * self.kv_heads

    def weights(self) -> Iterator[tuple[str, int, int]]:
        """Every matrix: its name, outputs and inputs."""
        yield "token_embd.weight", self.vocab, self.hidden
        for layer in range(self.layers):
            for name, outputs, inputs in (
                ("attn_q", self.hidden, self.hidden),
                ("attn_k", self.kv, self.hidden),
                ("attn_v", self.kv, self.hidden),
                ("attn_output", self.hidden, self.hidden),
                ("ffn_gate", self.feed_forward, self.hidden),
                ("ffn_up", self.feed_forward, self.hidden),
                ("ffn_down", self.hidden, self.feed_forward),
            ):
                yield f"blk.{layer}.{name}.weight", outputs, inputs
        if not self.tied:
            yield "output.weight", self.vocab, self.hidden


# The sizes of Llama 3.2 1B, of the smaller dense Granite 3 (2.5 billion parameters), and of Llama 3.1 8B.
SHAPES = {
    "1b": Shape("1b", 16, 2048, 32, 8, 8192, vocab=128_256, vocabulary="llama-bpe", tied=True),
    "3b": Shape("3b", 40, 2048, 32, 8, 8192, vocab=49_152, arch="granite", vocabulary="starcoder", tied=True),
    "8b": Shape("8b", 32, 4096, 32, 8, 14_336, vocab=128_256),
    "tiny": Shape("tiny", layers=4, hidden=256, heads=8, kv_heads=4, feed_forward=768, vocab=1024),
}


def model_file(shape: Shape, cache: Path, *, f16: bool = False) -> Path:
    """The path of the shape's model in `cache`, in Q8_0 or F16; writes it if it is not there."""
    path = cache / f"random-{shape.name}-{shape.vocab}-{'f16' if f16 else 'q8_0'}.gguf"
    return path if path.exists() else _write_model(shape, path, f16=f16)


def adapter_files(shape: Shape, cache: Path, count: int, *, rank: int = 32) -> list[Path]:
    """Paths of adapters on q, k and v in `cache`; writes those that are not there."""
    paths = [cache / f"random-{shape.name}-r{rank}-{i}.gguf" for i in range(count)]
    for i, path in enumerate(paths):
        if not path.exists():
            _write_adapter(shape, path, rank=rank, seed=i)
    return paths


def _write_model(shape: Shape, path: Path, *, f16: bool) -> Path:
    unfinished = path.with_suffix(".part")
    writer = gguf.GGUFWriter(unfinished, shape.arch, use_temp_file=True)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(f"random-{shape.name}")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if f16 else gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_block_count(shape.layers)
    writer.add_context_length(131_072)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.hidden // shape.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.vocab)
    if shape.arch == "granite":
        writer.add_embedding_scale(12.0)
        writer.add_residual_scale(0.22)
        writer.add_attention_scale(shape.heads / shape.hidden)
        writer.add_logit_scale(8.0)
    if shape.vocabulary is None:
        _add_made_up_tokenizer(writer, shape.vocab)
    else:
        _copy_tokenizer(writer, _vocabulary_file(shape.vocabulary, path.parent))
    random = np.random.default_rng(0)
    for name, outputs, inputs in shape.weights():
        if f16:
            writer.add_tensor(name, _random_f16(random, outputs, inputs), raw_dtype=_F16)
        else:
            writer.add_tensor(name, _random_q8(random, outputs, inputs), raw_dtype=_Q8)
    for layer in range(shape.layers):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", np.ones(shape.hidden, np.float32))
    writer.add_tensor("output_norm.weight", np.ones(shape.hidden, np.float32))
    _finish(writer, unfinished, path)
    return path


def _random_q8(random: np.random.Generator, outputs: int, inputs: int) -> npt.NDArray[np.uint8]:
    # Q8_0 by construction: blocks of 32 random bytes behind one scale, as if weights of 1/sqrt(inputs) were quantized.
    block = np.dtype([("scale", "<f2"), ("values", "i1", 32)])
    blocks = np.empty((outputs, inputs // 32), block)
    blocks["scale"] = 1.0 / (73.0 * np.sqrt(inputs))
    blocks["values"] = np.frombuffer(random.bytes(outputs * inputs), np.int8).reshape(outputs, inputs // 32, 32)
    return blocks.view(np.uint8).reshape(outputs, -1)


def _random_f16(random: np.random.Generator, outputs: int, inputs: int) -> npt.NDArray[np.float16]:
    # The same numbers, up to rounding; drawing normal ones would take a minute for eight billion.
    values = np.frombuffer(random.bytes(outputs * inputs), np.int8).reshape(outputs, inputs)
    return values * np.float16(1.0 / (73.0 * np.sqrt(inputs)))


def _write_adapter(shape: Shape, path: Path, *, rank: int, seed: int) -> None:
    unfinished = path.with_suffix(".part")
    writer = gguf.GGUFWriter(unfinished, shape.arch)
    writer.add_type("adapter")
    writer.add_name(f"random-{seed}")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(rank))
    writer.add_key_value(
        "adapter.alora.invocation_tokens", list(INVOCATION), gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT32
    )
    random = np.random.default_rng([seed, 1])
    for name, outputs, inputs in shape.weights():
        if name.split(".")[-2] in ("attn_q", "attn_k", "attn_v"):
            a = random.standard_normal((rank, inputs), np.float32) / np.sqrt(inputs)
            b = random.standard_normal((outputs, rank), np.float32) * (0.3 / np.sqrt(rank))
            writer.add_tensor(f"{name}.lora_a", a.astype(np.float16), raw_dtype=_F16)
            writer.add_tensor(f"{name}.lora_b", b.astype(np.float16), raw_dtype=_F16)
    _finish(writer, unfinished, path)


def _vocabulary_file(name: str, cache: Path) -> Path:
    """The path of a file of llama.cpp's that holds a vocabulary and no weights; fetches it if it is not there."""
    path = cache / f"ggml-vocab-{name}.gguf"
    if "ALORA_LLAMA_CPP_DIR" in os.environ:
        return Path(os.environ["ALORA_LLAMA_CPP_DIR"], "models", path.name)
    if not path.exists():
        with tempfile.TemporaryDirectory() as scratch:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            command += ["--no-binary", "llama-cpp-python", "--require-hashes"]
            subprocess.run([*command, "--requirement", str(PINNED), "--dest", scratch], check=True)
            with tarfile.open(next(Path(scratch).glob("llama_cpp_python-*.tar.gz"))) as archive:
                inside = next(one for one in archive if one.name.endswith(f"/vendor/llama.cpp/models/{path.name}"))
                unfinished = path.with_suffix(".part")
                unfinished.write_bytes(cast("IO[bytes]", archive.extractfile(inside)).read())
                unfinished.rename(path)
    return path


def _copy_tokenizer(writer: gguf.GGUFWriter, source: Path) -> None:
    for key, field in gguf.GGUFReader(source).fields.items():
        if key.startswith("tokenizer."):
            items = field.types[-1] if field.types[0] is gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), field.types[0], items)


def _add_made_up_tokenizer(writer: gguf.GGUFWriter, vocab: int) -> None:
    """Adds a byte-level tokenizer of single characters; most tokens are never made from text."""
    texts = ["<|bos|>", "<|end_of_text|>", *(chr(c) for c in range(33, 127))]
    types = [gguf.TokenType.CONTROL] * 2 + [gguf.TokenType.NORMAL] * 94
    types += [gguf.TokenType.NORMAL] * (vocab - len(texts))
    texts += [f"<unused{i}>" for i in range(vocab - len(texts))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(texts)
    writer.add_token_types(types)
    writer.add_token_merges(["! !"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)


def _finish(writer: gguf.GGUFWriter, unfinished: Path, path: Path) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.rename(path)


def cache_folder(given: Path | None) -> Path:
    """The folder that was asked for, or one for temporary files; made if it is not there."""
    folder = given or Path(tempfile.gettempdir()) / "alora-benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def main() -> None:
    """Writes the files and prints their paths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    options = parser.parse_args()
    shape, cache = SHAPES[options.shape], cache_folder(options.cache)
    for path in (model_file(shape, cache), *adapter_files(shape, cache, 8)):
        print(path, f"{path.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
