"""Broken models and adapters through `isolation="process"`: each is refused with a typed error, or works.

python tests/python/isolation_mutants.py [--models 500] [--adapters 500] [--seed 0]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path
from random import Random

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(folder) for folder in (_HERE, _HERE.parent) if str(folder) not in sys.path]

from alora_cpp import AloraError, Model  # noqa: E402 - behind the path
from fuzz.gguf_mutator import mutate_gguf  # noqa: E402
from tiny import adapter_file, make_model, write_gguf  # noqa: E402


def mutated(content: bytes, random: Random) -> bytes:
    """A changed file: at its joints, in any byte, or cut off."""
    way = random.randrange(4)
    if way == 0:
        return content[: random.randrange(len(content))]
    if way == 1:
        changed = bytearray(content)
        for _ in range(random.randrange(1, 9)):
            # Most of it is weights: the first part says what they are.
            changed[random.randrange(min(len(changed), random.choice((64, 4096, 2**30))))] = random.randrange(256)
        return bytes(changed)
    return mutate_gguf(content, random) or b""


def use(model: Model) -> None:
    """Computes a little with a model."""
    with model.context(n_ctx=32, n_branches=2, n_ubatch=8, n_threads=1) as context:
        branch = context.branch()
        branch.append([5])
        context.decode()
        branch.logits()


def load_models(content: bytes, folder: Path, count: int, random: Random) -> Counter[str]:
    """Loads broken copies of a model; counts what became of them."""
    outcomes: Counter[str] = Counter()
    path = folder / "mutant.gguf"
    for _ in range(count):
        path.write_bytes(mutated(content, random))
        try:
            with Model(path, isolation="process") as model:
                use(model)
            outcomes["works"] += 1
        except AloraError as error:
            outcomes[type(error).__name__] += 1
    return outcomes


def load_adapters(model: Model, content: bytes, folder: Path, count: int, random: Random) -> Counter[str]:
    """Loads broken copies of an adapter into one model; counts what became of them."""
    outcomes: Counter[str] = Counter()
    path = folder / "mutant-adapter.gguf"
    for _ in range(count):
        path.write_bytes(mutated(content, random))
        try:
            adapter = model.load_adapter(path, force=random.random() < 0.5)
            with model.context(n_ctx=32, n_branches=2, n_ubatch=8, n_threads=1) as context:
                branch = context.branch()
                branch.activate(adapter)
                branch.append([5])
                context.decode()
            outcomes["works"] += 1
        except AloraError as error:
            outcomes[type(error).__name__] += 1
    return outcomes


def main() -> None:
    """Prints what became of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--adapters", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tiny, random = make_model("llama"), Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = write_gguf(tiny, folder / "base.gguf")
        print("models:", dict(load_models(base.read_bytes(), folder, options.models, random)))
        content = adapter_file(tiny).write(folder / "adapter.gguf").read_bytes()
        with Model(base, isolation="process") as model:
            print("adapters:", dict(load_adapters(model, content, folder, options.adapters, random)))
            use(model)


if __name__ == "__main__":
    main()
