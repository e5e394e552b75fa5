"""The held-out examples of every intrinsic: what the figures are measured on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from training import real_text
from training.certainty import load
from training.chat_format import Conversation
from training.tasks import Example, HallucinationExamples, SafetyExamples

MEASURED = Path(__file__).parent / "measured" / "certainty_held_out.jsonl"
_SEED = "held out"


def _only(examples: Iterator[Example], origin: str, count: int) -> list[Example]:
    return list(islice((e for e in examples if e.origin.startswith(origin)), count))


def held_out_examples(name: str, data: Path | None, measured: Path = MEASURED, generated: int = 800) -> list[Example]:
    """Held-out examples of an intrinsic.

    Args:
        name: The intrinsic.
        data: The folder of real data; without it there are generated examples alone.
        measured: The base model's measured answers, for certainty.
        generated: How many generated examples to make.
    """
    if name == "safety":
        return _safety(data, generated)
    if name == "hallucination":
        return _hallucination(data, generated)
    rows = [row for row in load(measured) if data or not row.question.startswith("choice")]
    return [row.example(data) for row in rows]


def _safety(data: Path | None, count: int) -> list[Example]:
    # Two streams, so that the generated examples are the same with and without the real data.
    examples = _only(iter(SafetyExamples(_SEED, None, held_out=True)), "generated", count)
    for new in ("framings", "phrases"):
        examples += _only(iter(SafetyExamples(_SEED, None, held_out=True, new=new)), "harder", count // 4)
    if data:
        unsafe = real_text.split(real_text.unsafe_requests(data), held_out=True)
        harmless = real_text.split(real_text.harmless_requests(data), held_out=True)
        stride = max(1, len(harmless) // max(1, len(unsafe)))
        examples += [_single(text, "Y", "real, unsafe") for text in unsafe]
        examples += [_single(text, "N", "real, harmless") for text in harmless[::stride]]
        examples += [_single(text, "N", "real, harmless tasks") for text in real_text.alpaca_requests(data)]
    return examples


def _single(text: str, label: str, origin: str) -> Example:
    return Example(Conversation().add("user", text), label, origin)


def _hallucination(data: Path | None, count: int) -> list[Example]:
    half = count // 2
    examples = _only(iter(HallucinationExamples(_SEED, None, held_out=True)), "generated", half)
    rewordings = HallucinationExamples(_SEED, None, held_out=True, new_wording=True)
    examples += _only(iter(rewordings), "generated", count - half)
    if data:
        examples += _only(iter(HallucinationExamples(_SEED, data, held_out=True)), "real", count // 2)
    return examples
