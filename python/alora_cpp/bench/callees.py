"""The adapters to measure with: those given, else the model's own, and random ones until there are eight."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alora_cpp.adapter import Adapter
from alora_cpp.errors import AdapterError, ArgumentError, ConversionError
from alora_cpp.finding import candidates
from alora_cpp.model import Model

N_CALLEES = 8


@dataclass(frozen=True)
class Callee:
    """An adapter, and the rows that call it.

    Attributes:
        name: What it is called.
        origin: `given`, the model's `own`, or `random`: made for measuring, of the usual size.
        adapter: The weights.
        invocation: The tokens that call it, as a prompt spells them.
        governed: Those that it governs, the last ones, as they are put into a branch.
    """

    name: str
    origin: Literal["given", "own", "random"]
    adapter: Adapter
    invocation: tuple[int, ...]
    governed: tuple[int, ...]

    @property
    def ungoverned(self) -> tuple[int, ...]:
        """Tokens of its invocation that the base reads."""
        return self.invocation[: -len(self.governed)]


def callees(
    model: Model, given: Iterable[tuple[str, str]] = (), *, force: bool = False, switch_folder: Path | None = None
) -> list[Callee]:
    """Loads eight adapters, or as many as there are where random ones cannot be made for the model.

    Args:
        model: The model.
        given: Names and sources of adapters, as `Model.load_adapter` takes them; if there are none, the model's own
            are searched for.
        force: Whether to use adapters given that were made for another base.
        switch_folder: Where a Granite Switch model's adapters are described; beside the model, if not given.

    Raises:
        AdapterError: One that is given cannot be loaded, or has no invocation.
        ArgumentError: The model has none of its own, and none can be made.
        OSError: There is no room for temporary files.
    """
    found = [_callee(name, "given", model.load_adapter(source, force=force)) for name, source in given]
    if not found:
        found = [callee for callee, _ in zip(_own(model, switch_folder), range(N_CALLEES), strict=False)]
    try:
        found += _random(model, N_CALLEES - len(found))
    except ConversionError as error:
        if not found:
            raise ArgumentError(
                f"{model.path} has no intrinsics that can be called, and none can be made to measure with: {error}; "
                "give some with --adapter NAME=PATH"
            ) from None
    return found


def _callee(name: str, origin: Literal["given", "own", "random"], adapter: Adapter) -> Callee:
    invocation = adapter.written_invocation
    if adapter.governs_all or not invocation:
        raise AdapterError(f"adapter '{name}' is an ordinary LoRA; expected one with an invocation (aLoRA)")
    offset = min(adapter.activation_offset, len(invocation) - 1)
    return Callee(name, origin, adapter, invocation, tuple(adapter.governed_rows(invocation[offset:])))


def _own(model: Model, switch_folder: Path | None) -> Iterator[Callee]:
    """The model's own intrinsics, without those that would read the conversation for themselves."""
    for one in candidates(model, switch_folder=switch_folder):
        if not one.taken or not one.invocation_tokens(model):
            continue
        adapter = one.place.load(model)
        try:
            yield _callee(one.name, "own", adapter)
        except AdapterError:
            continue  # built in, and an ordinary LoRA, or nothing says what calls it


def _random(model: Model, count: int) -> list[Callee]:
    if count <= 0:
        return []
    # Brings gguf, which the command line's other commands start without.
    from alora_cpp.bench.random_adapter import write_random_adapter

    made = []
    for number in range(1, count + 1):
        with tempfile.TemporaryDirectory(prefix="alora-bench-") as folder:
            path = Path(folder) / "adapter.gguf"
            write_random_adapter(path, model, seed=number)
            made.append(_callee(f"random-{number}", "random", model.load_adapter(path)))
    return made
