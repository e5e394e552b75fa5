"""What holding answers to a JSON schema costs and stands, with our constraint and with llama.cpp's grammars.

    python benchmarks/grammar.py [--cache FOLDER] [--json] [--skip-hostile]

Prints, for the bundled model's vocabulary and a generated one of 128,000 tokens, the time to compile ordinary schemas
and the time of a token mask; then what becomes of schemas that mean harm. Every case runs in a process of its own, with
limits on its time and memory. llama.cpp's grammars are measured where llama_cpp can be imported.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import gguf
import numpy as np
from models import cache_folder

SECONDS, GIBIBYTES, STEPS = 30, 4, 40

_TEXT: dict[str, Any] = {"type": "string"}
_WHOLE: dict[str, Any] = {"type": "integer"}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def _nested(depth: int) -> dict[str, Any]:
    schema = _TEXT
    for _ in range(depth):
        schema = _object({"a": schema})
    return schema


def _expanding(key: str, last: dict[str, Any]) -> dict[str, Any]:
    definitions = {str(i): {key: [{"$ref": f"#/$defs/{i + 1}"}] * 4} for i in range(20)}
    return {"$ref": "#/$defs/0", "$defs": {**definitions, "20": last}}


ORDINARY: dict[str, Any] = {
    "free text": _object({"rewritten_question": _TEXT}),
    "list of records": {
        "type": "array",
        "items": _object({"sentence": {"type": "integer", "minimum": 0}, "reason": _TEXT, "ok": {"type": "boolean"}}),
        "maxItems": 20,
    },
    "lengths and patterns": _object(
        {"id": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"}, "note": {"type": "string", "maxLength": 200}}
    ),
    "any JSON object": {"type": "object"},
    "tree": {
        "$ref": "#/$defs/node",
        "$defs": {"node": _object({"name": _TEXT, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}})},
    },
}

HOSTILE: dict[str, Any] = {
    "1,000 objects deep": _nested(1000),
    "maxLength 100,000": {"type": "string", "maxLength": 10**5},
    "maxLength 10^9": {"type": "string", "maxLength": 10**9},
    "minLength 10^9": {"type": "string", "minLength": 10**9},
    "minItems 1,000": {"type": "array", "items": _WHOLE, "minItems": 1000},
    "minItems 10^9": {"type": "array", "items": _WHOLE, "minItems": 10**9},
    "maxItems 10^6": {"type": "array", "items": _WHOLE, "maxItems": 10**6},
    "pattern ^(a+)+$": {"type": "string", "pattern": "^(a+)+$"},
    "pattern, not anchored": {"type": "string", "pattern": "(a|a?)+b{1000}"},
    "pattern \\w{1000,}": {"type": "string", "pattern": "^\\w{1000,}$"},
    "pattern ((a{1,1000}){1,1000}){1,1000}": {"type": "string", "pattern": "^((a{1,1000}){1,1000}){1,1000}$"},
    "left-recursive $ref": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
    "$ref to itself": {"$ref": "#"},
    "endless required $ref": {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
    "3,000 optional properties": {"type": "object", "properties": {f"p{i}": _TEXT for i in range(3000)}},
    "3,000 required properties": _object({f"p{i}": _TEXT for i in range(3000)}),
    "enum of 10,000": {"enum": [f"value {i}" for i in range(10_000)]},
    "anyOf, 4^20 paths": _expanding("anyOf", {"type": "null"}),
    "allOf, 4^20 paths": _expanding("allOf", {"type": "object"}),
    "bounds of 1e308": {"type": "number", "minimum": -1e308, "maximum": 1e308},
    "control character": {"const": "\0"},
}


class Engine(Protocol):
    """What is measured of either engine."""

    def compile(self, schema: Any) -> None:
        """Compiles a schema and begins an answer."""

    def allowed(self) -> np.ndarray[Any, Any]:
        """The tokens that may come next."""

    def accept(self, token: int) -> bool:
        """Takes one; returns whether more may follow."""


class Constraint:
    """`alora_cpp.constraint`, which uses llguidance."""

    def __init__(self, path: str) -> None:
        from alora_cpp import Model

        self._model = Model(path)
        # The tables of the vocabulary are made once for each model.
        self.compile({"type": "boolean"})

    def compile(self, schema: Any) -> None:
        """Compiles for the tokens and for bytes, and looks for an ending."""
        from alora_cpp.constraint import SchemaConstraint

        self._matcher = SchemaConstraint(self._model, schema).start()

    def allowed(self) -> np.ndarray[Any, Any]:
        """Reads the mask."""
        return np.flatnonzero(np.unpackbits(self._matcher.mask().view(np.uint8), bitorder="little"))

    def accept(self, token: int) -> bool:
        """Takes a token."""
        self._matcher.accept(token)
        return not self._matcher.ended


class Grammar:
    """llama.cpp's grammars, as llama_cpp makes them of schemas."""

    def __init__(self, path: str) -> None:
        import ctypes

        import llama_cpp

        self._c, self._lib = ctypes, llama_cpp
        self._quiet = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(self._quiet, ctypes.c_void_p(0))
        self._model = llama_cpp.Llama(path, vocab_only=True, verbose=False)
        self._vocab = llama_cpp.llama_model_get_vocab(self._model.model)
        self._n = self._model.n_vocab()
        self._candidates = (llama_cpp.llama_token_data * self._n)()
        self._view = np.frombuffer(self._candidates, np.dtype([("id", "i4"), ("logit", "f4"), ("p", "f4")]))

    def compile(self, schema: Any) -> None:
        """Writes the grammar and parses it."""
        grammar = self._lib.LlamaGrammar.from_json_schema(json.dumps(schema), verbose=False)._grammar
        self._sampler = self._lib.llama_sampler_init_grammar(self._vocab, grammar.encode(), b"root")
        if not self._sampler:
            raise ValueError("llama.cpp cannot parse the grammar made of the schema")

    def allowed(self) -> np.ndarray[Any, Any]:
        """Applies the sampler to all tokens."""
        self._view["id"], self._view["logit"] = np.arange(self._n), 0.0
        data = self._lib.llama_token_data_array(data=self._candidates, size=self._n, selected=-1, sorted=False)
        self._lib.llama_sampler_apply(self._sampler, self._c.byref(data))
        return np.flatnonzero(np.isfinite(self._view["logit"]))

    def accept(self, token: int) -> bool:
        """Takes a token, unless it ends the answer."""
        if token != self._model.token_eos():
            self._lib.llama_sampler_accept(self._sampler, token)
        return bool(token != self._model.token_eos())


ENGINES: dict[str, Callable[[str], Engine]] = {"llguidance": Constraint, "GBNF": Grammar}


def run_case(engine: str, path: str, schema: Any) -> dict[str, Any]:
    """Compiles a schema and writes an answer of random tokens; everything measured, or why it was refused."""
    import resource

    made = ENGINES[engine](path)
    resource.setrlimit(resource.RLIMIT_AS, (GIBIBYTES << 30, GIBIBYTES << 30))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    random = np.random.default_rng(0)
    result: dict[str, Any] = {"outcome": "answered"}
    start = time.perf_counter()
    masks: list[float] = []
    try:
        made.compile(schema)
        result["compile_ms"] = 1000 * (time.perf_counter() - start)
        for _ in range(STEPS):
            begin = time.perf_counter()
            allowed = made.allowed()
            masks.append(1e6 * (time.perf_counter() - begin))
            if len(allowed) == 0:
                result["outcome"] = "no token allowed"
                break
            if not made.accept(int(random.choice(allowed))):
                break
    except Exception as error:
        result["outcome"] = f"refused: {type(error).__name__}"
        result["reason"] = str(error)[:200]
    result["seconds"] = time.perf_counter() - start
    result["MiB"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if masks:
        result |= {"mask_us": statistics.median(masks), "mask_max_us": max(masks), "masks": len(masks)}
    return result


def run_child(engine: str, path: Path, group: str, case: str) -> dict[str, Any]:
    """One case in a process of its own."""
    command = [sys.executable, __file__, "--case", engine, str(path), group, case]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"outcome": f"still running after {SECONDS} s"}
    if done.returncode:
        return {"outcome": f"process died ({done.returncode})"}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result | ({"stderr": done.stderr[:200]} if done.stderr else {})


def vocabulary_file(cache: Path, size: int = 128_000) -> Path:
    """A model of hardly any weights whose byte-level vocabulary looks like a large model's; written if not there."""
    path = cache / f"vocabulary-{size}.gguf"
    if path.exists():
        return path
    plain = [*range(33, 127), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    spelled = {byte: chr(byte) for byte in plain}
    spelled |= {byte: chr(256 + i) for i, byte in enumerate(b for b in range(256) if b not in spelled)}
    texts, merges = [*spelled.values()], []
    known = set(texts)
    random = np.random.default_rng(0)
    letters = [*"etaoinshrdlu", spelled[32], *"cmfwypvbgkjqxz", *"ETAOIN", *"0123456789", *'",:{}[]']
    parts = [*letters]
    while len(texts) < size - 2:
        # Short and early parts are merged more often, as in a vocabulary that was learnt.
        first, second = (parts[int(len(parts) * random.random() ** 3)] for _ in range(2))
        if first + second not in known and len(first + second) <= 16:
            known.add(first + second)
            texts.append(first + second)
            parts.append(first + second)
            merges.append(f"{first} {second}")
    writer = gguf.GGUFWriter(path.with_suffix(".part"), "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(32)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_rope_dimension_count(32)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*texts, "<|bos|>", "<|end_of_text|>"])
    writer.add_token_types([gguf.TokenType.NORMAL] * len(texts) + [gguf.TokenType.CONTROL] * 2)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(size - 2)
    writer.add_eos_token_id(size - 1)
    writer.add_tensor("token_embd.weight", np.zeros((size, 32), np.float16))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros((32, 32), np.float16))
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path.with_suffix(".part").rename(path)
    return path


def measure(cache: Path, hostile: bool) -> Iterator[dict[str, Any]]:
    """All cases, one after another."""
    from alora_cpp.bundled_model import BUNDLED

    engines = [name for name in ENGINES if name != "GBNF" or find_spec("llama_cpp")]
    for path, tokens in ((BUNDLED, 4096), (vocabulary_file(cache), 128_000)):
        for case in ORDINARY:
            for engine in engines:
                case_of = {"group": "ordinary", "vocabulary": tokens, "case": case, "engine": engine}
                yield case_of | run_child(engine, path, "ordinary", case)
    for case in HOSTILE if hostile else ():
        for engine in engines:
            case_of = {"group": "hostile", "vocabulary": 4096, "case": case, "engine": engine}
            yield case_of | run_child(engine, BUNDLED, "hostile", case)


def shown(result: dict[str, Any]) -> str:
    """One line of the table."""
    line = f"{result['vocabulary']:>7,}  {result['case']:38}  {result['engine']:10}  {result['outcome']:28}"
    if "seconds" in result:
        line += f"  {result['seconds']:6.2f} s  {result['MiB']:5.0f} MiB"
    if "mask_us" in result:
        line += f"  compile {result.get('compile_ms', 0):7.1f} ms"
        line += f"  mask {result['mask_us']:9.1f} us, at most {result['mask_max_us']:9.1f}"
    return line


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--skip-hostile", action="store_true")
    parser.add_argument("--case", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        engine, path, group, case = options.case
        print(json.dumps(run_case(engine, path, {"ordinary": ORDINARY, "hostile": HOSTILE}[group][case])))
        return
    for result in measure(cache_folder(options.cache), not options.skip_hostile):
        print(json.dumps(result) if options.json else shown(result), flush=True)


if __name__ == "__main__":
    main()
