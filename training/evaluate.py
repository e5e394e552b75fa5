"""Prints the figures of the bundled model, measured through the product itself, with the files it ships.

    python training/evaluate.py [--data DIR]

The generated held-out examples are made again from their seeds; the real ones need the data folder.
`--peft BUILD` asks the adapters in a build folder through PEFT instead, for comparison.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script's own folder is not its package

from training.held_out import MEASURED, held_out_examples
from training.metrics import Prediction, table
from training.tasks import INTRINSICS, Example


def through_product(name: str, examples: Sequence[Example]) -> list[Prediction]:
    """Verdicts of the bundled model, through the public interface."""
    from alora_cpp import Model

    found: list[Prediction] = []
    with Model.bundled() as model:
        for example in examples:
            messages, documents = example.conversation.as_dicts()
            chat = model.chat(messages=messages, documents=documents)
            found.append(dict(chat.check(name).probabilities))
            chat.close()
    return found


def through_peft(build: Path, name: str, examples: Sequence[Example]) -> list[Prediction]:
    """Verdicts of the adapters in a build folder, through PEFT."""
    from training.intrinsics import predict

    return predict(build / "base", build / name, name, examples)


def report(build: Path | None, data: Path | None, measured: Path = MEASURED, generated: int = 800) -> list[str]:
    """All figures, as lines of text."""
    lines = []
    for name in INTRINSICS:
        examples = held_out_examples(name, data, measured, generated)
        said = through_peft(build, name, examples) if build else through_product(name, examples)
        lines += table(name, examples, said)
    return lines


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of real data; without it, generated examples alone")
    parser.add_argument("--peft", type=Path, metavar="BUILD", help="measure a build folder through PEFT")
    parser.add_argument("--measured", type=Path, default=MEASURED, help="the base model's measured answers")
    parser.add_argument("--generated", type=int, default=800, help="generated examples per intrinsic")
    arguments = parser.parse_args()
    print("\n".join(report(arguments.peft, arguments.data, arguments.measured, arguments.generated)))


if __name__ == "__main__":
    main()
