"""Stock llama.cpp, in a process of its own: two copies of ggml in one would share what they must not.

Run as a program, it reads questions from one file and writes the answers of llama.cpp's server, as the package
`xllamacpp` brings it, to another. `ask` runs it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Question:
    """A prompt under an adapter; without one, under the base."""

    adapter: str | None
    prompt: list[int]


@dataclass(frozen=True)
class Answer:
    """What was generated greedily, and at each step the log-probability of each token of the vocabulary."""

    tokens: list[int]
    log_probabilities: list[list[float]]


def ask(model: Path, questions: Sequence[Question], *, n_tokens: int, n_vocab: int) -> list[Answer]:
    """Asks stock llama.cpp, with a float32 cache, plain attention and one thread.

    Args:
        model: The base's GGUF.
        questions: The questions.
        n_tokens: How many tokens to generate for each; the end-of-text token is never chosen.
        n_vocab: The size of the vocabulary.
    """
    job = {"model": str(model), "n_tokens": n_tokens, "n_vocab": n_vocab, "questions": [asdict(q) for q in questions]}
    there, back = model.with_suffix(".questions.json"), model.with_suffix(".answers.json")
    there.write_text(json.dumps(job))
    command = [sys.executable, __file__, str(there), str(back)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return [Answer(**answer) for answer in json.loads(back.read_text())]


def _answer(job: dict[str, Any]) -> list[dict[str, Any]]:
    import xllamacpp

    answers: dict[int, dict[str, Any]] = {}
    for adapter in dict.fromkeys(question["adapter"] for question in job["questions"]):
        parameters = xllamacpp.CommonParams()
        parameters.model.path = job["model"]
        parameters.n_ctx = 512
        parameters.n_parallel = 1
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
        parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.fit_params = parameters.warmup = False
        if adapter is not None:
            parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(adapter, 1.0)]
        server = xllamacpp.Server(parameters)
        for number, question in enumerate(job["questions"]):
            if question["adapter"] == adapter:
                answers[number] = _complete(server, question["prompt"], job["n_tokens"], job["n_vocab"])
    return [answers[number] for number in range(len(answers))]


def _complete(server: Any, prompt: list[int], n_tokens: int, n_vocab: int) -> dict[str, Any]:
    request = {"prompt": prompt, "n_predict": n_tokens, "n_probs": n_vocab, "temperature": 0, "cache_prompt": False}
    done = server.handle_completions(request | {"ignore_eos": True})
    steps = done["choices"][0]["logprobs"]["content"]
    found = [{entry["id"]: entry["logprob"] for entry in step["top_logprobs"]} for step in steps]
    return {
        "tokens": [step["id"] for step in steps],
        "log_probabilities": [[one[token] for token in range(n_vocab)] for one in found],
    }


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(_answer(json.loads(Path(sys.argv[1]).read_text()))))
