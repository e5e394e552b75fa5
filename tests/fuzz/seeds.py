"""Writes the files that fuzzing began with into corpus/: small adapters in order, one for each thing they can hold.

    python tests/fuzz/seeds.py [--model FILE]

With --model it writes the base that the adapters are for instead, which is made anew wherever it is needed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from alora_cpp._core import read_fingerprints
from fuzz.targets import FOLDER, SPEC
from oracle.adapter_files import write_raw
from oracle.tiny_models import adapter_weights, make_model, write_gguf

CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "org/tiny",
    "r": 1,
    "lora_alpha": 2,
    "bias": "none",
    "target_modules": ["q_proj"],
}
CONFIGS: dict[str, dict[str, Any]] = {
    "lora": {},
    "alora": {"alora_invocation_tokens": [5, 6, 7]},
    "legacy": {"invocation_string": "<certainty>"},
    "rslora": {"use_rslora": True, "alora_invocation_tokens": None},
    "patterns": {"r": 8, "rank_pattern": {"layers.0.self_attn.q_proj": 1, "q_.*": 1}, "alpha_pattern": {"q_proj": 0.5}},
    "expression": {"target_modules": r".*\.layers\.\d+\.(self_attn|mlp)\.q_proj"},
    "all": {"target_modules": "all-linear", "exclude_modules": r".*\.([kvo]|gate|up|down)_proj"},
    "layers": {"layers_to_transform": [0, 1], "layers_pattern": "layers", "exclude_modules": ["v_proj"]},
    "plain": {"fan_in_fan_out": False, "modules_to_save": None, "use_dora": False, "init_lora_weights": True},
}


def main() -> None:
    """Writes all of them, or the model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    model: Path | None = parser.parse_args().model
    tiny = make_model("llama")
    if model is not None:
        write_gguf(tiny, model)
        return
    weights = adapter_weights(tiny, SPEC)
    for name, changes in CONFIGS.items():
        put("config", f"{name}.json", json.dumps(CONFIG | changes).encode())
    bfloat16 = {key: (weight.view("<u4") >> 16).astype("<u2") for key, weight in weights.items()}
    for kind, tensors in {
        "F32": weights,
        "F16": {key: weight.astype("<f2") for key, weight in weights.items()},
        "BF16": bfloat16,
    }.items():
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, "adapter.safetensors")
            write_raw(path, {key: (kind, tensor.shape, tensor.tobytes()) for key, tensor in tensors.items()})
            put("safetensors", f"{kind.lower()}.safetensors", path.read_bytes())
    with tempfile.TemporaryDirectory() as scratch:
        vocabulary = read_fingerprints(str(write_gguf(tiny, Path(scratch, "base.gguf")))).vocabulary
    rows = {
        f"blk.{key.split('.')[4]}.attn_q.weight.lora_{'ab'['lora_B' in key]}": weight for key, weight in weights.items()
    }
    for outtype in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.Q8_0):
        for invocation in (None, [5, 6, 7]):
            name = f"{outtype.name.lower()}-{'lora' if invocation is None else 'alora'}.gguf"
            put("adapter", name, adapter(rows, outtype, invocation, vocabulary))


def put(target: str, name: str, content: bytes) -> None:
    """Adds a file to a target's corpus."""
    folder = FOLDER / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def adapter(
    rows: dict[str, Any], outtype: gguf.GGMLQuantizationType, invocation: list[int] | None, vocabulary: str
) -> bytes:
    """Makes an adapter's GGUF, with a key of every type among its own."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "adapter.gguf")
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_name("tiny")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", 2.0)
        if invocation is not None:
            writer.add_key_value(
                "adapter.alora.invocation_tokens", invocation, gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT32
            )
            writer.add_uint32("alora.activation_offset", 1)
            writer.add_array("alora.invocation_pieces", ["\u0120", "\u010a", "!"])
            writer.add_string("alora.io_yaml", "response_format: ~\nchoices: [a, b]\n")
            writer.add_string("alora.base.vocabulary", vocabulary)
            writer.add_string("general.base_model.0.name", "tiny-llama")
            writer.add_bool("a.bool", True)
            writer.add_int64("an.int64", -1)
            writer.add_array("some.floats", [0.5, 1.5])
        for key, weight in rows.items():
            kind = outtype if weight.shape[-1] % 32 == 0 else gguf.GGMLQuantizationType.F16
            writer.add_tensor(key, gguf.quantize(np.ascontiguousarray(weight), kind), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


if __name__ == "__main__":
    main()
