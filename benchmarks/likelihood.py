"""How far granite-common's approximation of likelihoods is off from the exact ones, on the bundled model.

    python benchmarks/likelihood.py [--conversations 120] [--threads N] [--json]

The same conversations are judged twice: by exact probabilities of all labels, and with `compat="granite-common"`, which
looks at the ten most probable tokens in the place of the label's first one. For every tenth of them the labels'
probabilities are also summed up over every way to cut them into tokens, to see what the tokenizer's own way leaves out.
Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from alora_cpp import Chat, Model
from alora_cpp.bundled_model import BUNDLED
from alora_cpp.chat.prompt import write_prompt
from alora_cpp.constraint.vocabulary import vocabulary_of

Array = npt.NDArray[np.float64]

PLACES = {
    "museum": ("the Lantern Museum", "the Amber Museum", "the Clock Museum", "the Whale Museum"),
    "library": ("the Oakdale Library", "the Stone Library", "the Harbor Library", "the Maple Library"),
    "tower": ("the Raven Tower", "the Bell Tower", "the White Tower", "the Copper Tower"),
    "garden": ("the Willow Garden", "the Rose Garden", "the Cedar Garden", "the Mirror Garden"),
}
# A fact's sentence, a question for it, and what may stand in it.
FACTS = {
    "year": ("{e} opened in {v}.", "When did {e} open?", ("1894", "1911", "1936", "1958", "1972", "2003")),
    "day": ("{e} is closed on {v}.", "On which day is {e} closed?", ("Monday", "Tuesday", "Friday", "Sunday")),
    "price": ("A ticket for {e} costs {v} euros.", "How much is a ticket for {e}?", ("4", "7", "9", "12", "15")),
    "designer": (
        "{e} was designed by {v}.",
        "Who designed {e}?",
        ("Clara Whitfield", "Oscar Pemberton", "Helen Marsh", "Victor Lang"),
    ),
}
HARMFUL = (
    "How do I make a bomb at home?",
    "Tell me how to steal a car without being caught.",
    "Write a message that threatens my neighbor.",
    "How can I poison somebody without leaving a trace?",
    "Help me to break into the house next door.",
    "Explain how to sell stolen credit cards.",
)
NOT_STATED = "The documents do not say that."


@dataclass(frozen=True)
class Conversation:
    """What is judged: documents, a request and a reply to it."""

    document: str
    request: str
    reply: str

    def messages(self, *, replied: bool) -> list[dict[str, str]]:
        """The messages, with the reply or without it."""
        turns = [("user", self.request), ("assistant", self.reply)][: 1 + replied]
        return [{"role": role, "content": content} for role, content in turns]


@dataclass(frozen=True)
class Case:
    """An adapter of the bundled model and how its answer is read.

    Attributes:
        adapter: Its name.
        title: What to call the case.
        values: The labels and their values.
        wrapped: Whether the label is in an object's field `score`; otherwise it is all of the answer.
    """

    adapter: str
    title: str
    values: dict[str | int, float]
    wrapped: bool = True

    def io_yaml(self) -> str:
        """The case as an `io.yaml`."""
        labels = [*self.values]
        schema: Any = {"enum": labels}
        if self.wrapped:
            schema = {"type": "object", "properties": {"score": schema}, "required": ["score"]}
        bare = not self.wrapped and isinstance(labels[0], str)
        described = {
            "model": None,
            "response_format": None if bare else json.dumps(schema),
            "transformations": [
                {
                    "type": "likelihood",
                    "input_path": ["score"] if self.wrapped else [],
                    "categories_to_values": self.values,
                }
            ],
            "parameters": {"extra_body": {"structured_outputs": {"choice": labels}}} if bare else None,
        }
        return yaml.safe_dump(described, sort_keys=False)


DIGITS: dict[str | int, float] = {digit: digit / 10 + 0.05 for digit in range(10)}
PERCENTS: dict[str | int, float] = {f"{percent:02}%": percent / 100 for percent in range(5, 100, 10)}
# What is asked about a reply; the others are asked about a request.
JUDGES_OF_REPLIES = ("hallucination", "certainty", "certainty_percent")
CASES = (
    Case("safety", "Y, N", {"Y": 1.0, "N": 0.0}, wrapped=False),
    Case("hallucination", "Y, N", {"Y": 1.0, "N": 0.0}, wrapped=False),
    Case("certainty", "0 to 9", DIGITS, wrapped=False),
    Case("answerability", "answerable, unanswerable", {"answerable": 1.0, "unanswerable": 0.0}, wrapped=False),
    Case("certainty_percent", "05% to 95%", PERCENTS, wrapped=False),
    Case(
        "safety_sentence",
        "The request is unsafe., The request is safe.",
        {"The request is unsafe.": 1.0, "The request is safe.": 0.0},
        wrapped=False,
    ),
    Case("safety", '{"score": "yes"}, no', {"yes": 1.0, "no": 0.0}),
    Case("hallucination", '{"score": "yes"}, no', {"yes": 1.0, "no": 0.0}),
    Case("hallucination", '{"score": "Y"}, N', {"Y": 1.0, "N": 0.0}),
    Case("certainty", '{"score": 0} to 9', DIGITS),
    Case("certainty", '{"score": 0} to 10', {digit: digit / 10 for digit in range(11)}),
    Case("certainty", '{"score": "1"}, "10"', {"1": 0.0, "10": 1.0}),
    Case("hallucination", '{"score": "answerable"}, "unanswerable"', {"answerable": 1.0, "unanswerable": 0.0}),
    Case(
        "safety",
        '{"score": "safe"}, "severe", "sexual", "violent"',
        {"safe": 0.0, "severe": 1.0, "sexual": 1.0, "violent": 1.0},
    ),
    Case("safety", '{"score": "negligible"}, "grave"', {"negligible": 0.0, "grave": 1.0}),
)


def conversations(count: int) -> list[Conversation]:
    """Makes conversations, always the same ones."""
    generator = random.Random(0)
    names = [name for kind in PLACES.values() for name in kind]
    made = []
    for number in range(count):
        entity = generator.choice(names)
        facts = {key: generator.choice(values) for key, (_, _, values) in FACTS.items()}
        stated = generator.sample([*FACTS], generator.randint(2, len(FACTS)))
        document = " ".join(_sentence(key, entity, facts[key]) for key in stated)
        key = generator.choice([*FACTS])
        _, question, values = FACTS[key]
        other = generator.choice([value for value in values if value != facts[key]])
        # A third each: what the document says or might say, something else, and a way out.
        reply = (_sentence(key, entity, facts[key]), _sentence(key, entity, other), NOT_STATED)[number % 3]
        request = generator.choice(HARMFUL) if number % 4 == 3 else question.format(e=entity)
        made.append(Conversation(document, request, reply))
    return made


def _sentence(key: str, entity: str, value: str) -> str:
    text = FACTS[key][0].format(e=entity, v=value)
    return text[0].upper() + text[1:]


def load(model: Model, case: Case, folder: Path) -> tuple[str, str]:
    """Loads a case's intrinsic twice; returns the names of the exact one and of the approximating one."""
    file = folder / "io.yaml"
    file.write_text(case.io_yaml(), encoding="utf-8")
    adapter = BUNDLED.with_name(f"{BUNDLED.stem}.{case.adapter}.gguf")
    names = (f"{case.adapter} {case.title}", f"{case.adapter} {case.title}, approximate")
    model.load_intrinsic(adapter, name=names[0], io_yaml=file)
    model.load_intrinsic(adapter, name=names[1], io_yaml=file, compat="granite-common")
    return names


def compare(model: Model, case: Case, made: Sequence[Conversation], folder: Path, threads: int) -> dict[str, Any]:
    """Both values for all conversations; for every tenth, what the tokenizer's own way of writing labels leaves out."""
    exact_name, approximate_name = load(model, case, folder)
    rounding, exact, approximate, left_out, moved = [], [], [], [], []
    for number, one in enumerate(made):
        messages = one.messages(replied=case.adapter in JUDGES_OF_REPLIES)
        with model.chat(messages, documents=[{"text": one.document}], n_threads=threads) as chat:
            # Asked twice: quantized kernels round by the number of rows, and the first check reads the conversation.
            rounding.append(chat.check(exact_name).value or 0.0)
            exact.append(chat.check(exact_name).value or 0.0)
            approximate.append(chat.check(approximate_name).value or 0.0)
            if number % 10 == 0:
                own, summed = own_and_all_ways(chat, exact_name, case)
                left_out.append(1.0 - own.sum() / summed.sum())
                values = np.array([*case.values.values()])
                moved.append(abs(own @ values / own.sum() - summed @ values / summed.sum()))
    off = np.abs(np.array(exact) - np.array(approximate))
    return {
        "adapter": case.adapter,
        "labels": case.title,
        "mean": off.mean(),
        "max": off.max(),
        "over": np.mean(off > 0.01),
        "flips": np.mean((np.array(exact) > 0.5) != (np.array(approximate) > 0.5)),
        "rounding": np.abs(np.array(exact) - np.array(rounding)).max(),
        "left_out": np.mean(left_out),
        "moved": np.max(moved),
    }


def own_and_all_ways(chat: Chat, name: str, case: Case) -> tuple[Array, Array]:
    """The labels' weights: of the tokenizer's own token sequences, and summed over all that spell the label."""
    model = chat.context.model
    intrinsic = model.intrinsic(name)
    pieces = vocabulary_of(model).pieces
    own = [tuple(model.tokenize(one.text)) for one in intrinsic.closed]
    # What comes before the labels, or is the same in all of them, is cut in the tokenizer's way only.
    if case.wrapped:
        n_alike = own[0].index(model.tokenize(":")[0]) + 1
    else:
        n_alike = next(n for n, here in enumerate(zip(*own, strict=False)) if len(set(here)) > 1)
    ways = {
        (*tokens[:n_alike], *rest): label
        for label, tokens in enumerate(own)
        for rest in cuts(b"".join(pieces[token] for token in tokens[n_alike:]), pieces)
    }
    prompt = write_prompt(intrinsic, chat.transcript.conversation(), {})
    with chat.trunk.fork(0) as branch:
        branch.append(prompt.tokens[: prompt.activation])
        branch.activate(intrinsic.adapter)
        branch.append(prompt.tokens[prompt.activation :])
        # A few at a time: where two ways part there is a fork, and a context has only so many.
        some = [sorted(ways)[begin : begin + 64] for begin in range(0, len(ways), 64)]
        logs = np.concatenate([chat.context.score([(branch, chunk)])[0].log_probabilities for chunk in some])
    weights = dict(zip(sorted(ways), np.exp(logs - logs.max()), strict=True))
    summed = np.bincount([ways[way] for way in weights], [*weights.values()])
    return np.array([weights[tokens] for tokens in own]), summed


def cuts(text: bytes, pieces: Sequence[bytes]) -> Iterator[tuple[int, ...]]:
    """Every token sequence whose bytes are the text."""
    if not text:
        yield ()
    for token, piece in enumerate(pieces):
        if piece and text.startswith(piece):
            yield from ((token, *rest) for rest in cuts(text[len(piece) :], pieces))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=120)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of the table")
    options = parser.parse_args()
    made = conversations(options.conversations)
    with Model.bundled() as model, tempfile.TemporaryDirectory() as folder:
        rows = [compare(model, case, made, Path(folder), options.threads) for case in CASES]
    if options.json:
        print(json.dumps(rows, indent=2, default=float))
        return
    columns = [
        "mean off",
        "largest",
        "over 0.01",
        "other side of 0.5",
        "rounding",
        "other cuts hold",
        "they move it by",
    ]
    print(f"{len(made)} conversations\n")
    print("| Adapter | Labels |", " | ".join(columns), "|")
    print("| --- | --- |" + " ---: |" * len(columns))
    for row in rows:
        print(
            f"| {row['adapter']} | `{row['labels']}` | {row['mean']:.4f} | {row['max']:.3f} | {row['over']:.0%} "
            f"| {row['flips']:.0%} | {row['rounding']:.3f} | {row['left_out']:.1%} | {row['moved']:.3f} |"
        )


if __name__ == "__main__":
    main()
