"""What three guards add to a reply of 64 tokens.

    python benchmarks/guards.py [--shape bundled|1b|tiny] [--tokens 64] [--rounds 7] [--threads N] [--cache FOLDER]
                                [--json]

The same greedy reply is written without guards and with three of them, asked at the end of every sentence, every 16
tokens, every 5 and every one, in rounds that take turns. The generated models of `models.py` write no sentences. For
the bundled model it is also counted how many replies come out with other tokens: its weights are quantized, and
kernels round differently by batch size. It would end its replies early, so it runs from a copy that gives the end of a
text the logit 0.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import gguf
from models import SHAPES, adapter_files, cache_folder, model_file

from alora_cpp import Chat, Model
from alora_cpp.bundled_model import BUNDLED, bundled_adapters

DOCUMENT = {
    "title": "The Lantern Museum",
    "text": "The Lantern Museum opened in 1894. It is closed on Monday. A ticket costs 12 euros. "
    "The Lantern Museum was designed by Clara Whitfield.",
}
PLACES = ("the Lantern Museum", "the Old Bridge", "the town of Oakdale", "the ship Aurora", "Mount Harrow")
QUESTIONS = (
    "Tell me about {}.",
    "When was {} opened?",
    "Who knows {} best?",
    "Write a story about {}.",
    "How do I get to {}?",
    "What is wrong with {}?",
    "Is {} worth a visit?",
    "How can I break into {}?",
)
GUARDS = ("safety", "hallucination", "certainty")
IO_YAML = {
    "model": None,
    "response_format": None,
    "transformations": [],
    "parameters": {"extra_body": {"structured_outputs": {"choice": ["Y", "N"]}}},
}


def endless_copy(cache: Path) -> Path:
    """The bundled model with an output of its own, in which the end of a text has no weights."""
    path = cache / f"{BUNDLED.stem}-endless.gguf"
    reader = gguf.GGUFReader(BUNDLED)
    writer = gguf.GGUFWriter(path, str(reader.fields["general.architecture"].contents()))
    for name, entry in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            items = entry.types[-1] if entry.types[0] is gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, entry.contents(), entry.types[0], items)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        if tensor.name == "token_embd.weight":
            rows = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            rows[int(reader.fields["tokenizer.ggml.eos_token_id"].contents())] = 0.0
            quantized = gguf.quants.quantize(rows, tensor.tensor_type)
            writer.add_tensor("output.weight", quantized, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def open_model(shape: str, cache: Path) -> Model:
    """The model with three intrinsics."""
    if shape == "bundled":
        model = Model(endless_copy(cache))
        files = [bundled_adapters()[name] for name in GUARDS]
    else:
        model = Model(model_file(SHAPES[shape], cache))
        files = adapter_files(SHAPES[shape], cache, 3)
    io_yaml = cache / "guard.io.yaml"
    io_yaml.write_text(json.dumps(IO_YAML), encoding="utf-8")
    for file in files:
        model.load_intrinsic(file, io_yaml=None if shape == "bundled" else io_yaml)
    return model


def conversation(number: int) -> list[dict[str, Any]]:
    """One of forty."""
    question = QUESTIONS[number % len(QUESTIONS)].format(PLACES[number // len(QUESTIONS) % len(PLACES)])
    return [{"role": "user", "content": question}]


def write_reply(chat: Chat, n_tokens: int, way: str | int | None) -> tuple[float, list[int], int, int, int]:
    """A reply to a conversation that was read before.

    Returns:
        Seconds, the reply's tokens, checks, passes and rows.
    """
    _ = chat.trunk
    chat.context.decode()
    before = chat.context.counters
    names = chat.context.model.intrinsics if way is not None else ()
    began = time.perf_counter()
    reply = chat.reply(
        max_tokens=n_tokens, guards={name: lambda _: False for name in names}, every="sentence" if way is None else way
    )
    for _ in reply:
        pass
    seconds = time.perf_counter() - began
    after = chat.context.counters
    tokens = chat.trunk.tokens
    chat.messages[1:] = []
    passes, rows = after.batches - before.batches, after.rows_decoded - before.rows_decoded
    return seconds, tokens, len(reply.checks), passes, rows


def measure(model: Model, ways: list[str | int | None], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Medians over the rounds, and of the ratios within them."""
    seconds: dict[Any, list[float]] = {way: [] for way in ways}
    facts: dict[Any, Any] = {}
    for number in range(options.rounds + 1):
        with model.chat(conversation(number), documents=[DOCUMENT], n_threads=options.threads, n_ctx=1024) as chat:
            # The order changes from round to round, so that no way always follows the same other one.
            for way in ways if number % 2 else reversed(ways):
                taken, _, *facts[way] = write_reply(chat, options.tokens, way)
                if number:  # the first round warms up
                    seconds[way].append(taken)
    named = {None: "no guards", "sentence": "every sentence", 1: "every token"}
    return [
        {
            "asked": named.get(way, f"every {way} tokens"),
            "ms": 1000 * statistics.median(seconds[way]),
            "ratio": statistics.median(
                guarded / quiet for guarded, quiet in zip(seconds[way], seconds[None], strict=True)
            ),
            **dict(zip(("checks", "passes", "rows"), facts[way], strict=True)),
        }
        for way in ways
    ]


def count_differing(model: Model, ways: list[str | int | None], options: argparse.Namespace) -> dict[Any, int]:
    """How many of forty replies have other tokens with guards."""
    differing = dict.fromkeys(ways[1:], 0)
    for number in range(len(QUESTIONS) * len(PLACES)):
        with model.chat(conversation(number), documents=[DOCUMENT], n_threads=options.threads, n_ctx=1024) as chat:
            quiet = write_reply(chat, options.tokens, None)[1]
            for way in differing:
                differing[way] += write_reply(chat, options.tokens, way)[1] != quiet
    return differing


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=["bundled", *SHAPES], default="bundled")
    parser.add_argument("--tokens", type=int, default=64, help="length of the reply")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="folder that keeps the generated files")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args()
    ways: list[str | int | None] = [None, *(["sentence"] if options.shape == "bundled" else []), 16, 5, 1]
    with open_model(options.shape, cache_folder(options.cache)) as model:
        table = measure(model, ways, options)
        differing = count_differing(model, ways, options) if options.shape == "bundled" else {}
        described = f"{model.name}, {model.n_parameters / 1e6:,.0f} million parameters"
    for row, way in zip(table, ways, strict=True):
        row["differing"] = differing.get(way)
    if options.json:
        print(json.dumps({"model": described, "tokens": options.tokens, "guards": table}, indent=2))
        return
    print(f"{described}, {options.tokens} tokens, {options.rounds} rounds; checks, passes and rows of the last one\n")
    print("| asked | reply | guarded / unguarded | checks | passes | rows | other tokens |")
    print("|:---|---:|---:|---:|---:|---:|---:|")
    for row in table:
        other = "" if row["differing"] is None else f"{row['differing']} of {len(QUESTIONS) * len(PLACES)}"
        print(
            f"| {row['asked']} | {row['ms']:.0f} ms | {row['ratio']:.2f} | {row['checks']} | {row['passes']} "
            f"| {row['rows']} | {other} |"
        )


if __name__ == "__main__":
    main()
