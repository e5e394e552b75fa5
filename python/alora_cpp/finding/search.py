"""Which adapter a name means, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

from alora_cpp.errors import AdapterError, AdapterNotFoundError, ConversionError
from alora_cpp.finding.advice import not_found
from alora_cpp.finding.place import Place, given, is_name
from alora_cpp.finding.surroundings import rungs
from alora_cpp.io import canonical_name

if TYPE_CHECKING:
    from alora_cpp.model import Model


@dataclass(frozen=True)
class Candidate:
    """An adapter around a model, and whether it can be run on it.

    Attributes:
        place: Where it is.
        why_not: Why it does not fit; None if it does.
        taken: Whether it is what its name means for the model.
    """

    place: Place
    why_not: str | None
    taken: bool = False

    @property
    def name(self) -> str:
        """What it is called."""
        return _name(self.place)

    def invocation_tokens(self, model: Model) -> list[int] | None:
        """The tokens that call it, empty for an ordinary LoRA; None where it does not fit, so that they mean nothing.

        Args:
            model: The model that it was looked for.
        """
        return None if self.why_not is not None else self.place.invocation_tokens(model)


def candidates(model: Model, name: str | None = None, *, switch_folder: Path | None = None) -> list[Candidate]:
    """All adapters around a model, or those of one name, in the order in which they are preferred.

    PEFT folders are converted to know whether they fit, unless that was done before.

    Args:
        model: The model to run them on.
        name: Which, in any spelling; all, if not given.
        switch_folder: Where a Granite Switch model's adapters are described; beside the model, if not given.

    Raises:
        AdapterError: What describes the model's built-in adapters is damaged.
        ArgumentError: `switch_folder` is given, and the model has none.
    """
    checked = [[_check(model, place) for place in _named(rung, name)] for rung in rungs(model, switch_folder)]
    every = [one for rung in checked for one in rung]
    return [replace(one, taken=one is _first(checked, name or one.name)) for one in every]


def locate(model: Model, source: str | PathLike[str] | Place, *, force: bool = False) -> Place:
    """The adapter that a file, a PEFT folder, `repo#name` on the hub or a bare name means.

    Raises:
        AloraError: A name was not found, or the hub does not have what it should.
    """
    if isinstance(source, Place):
        return replace(source, force=source.force or force)
    if is_name(source):
        return find(model, fspath(source), force=force)
    return given(model, source, force=force)


def find(model: Model, name: str, *, force: bool = False, switch_folder: Path | None = None) -> Place:
    """The adapter of that name: the first that fits.

    Args:
        model: The model to run it on.
        name: Its name, in any of its spellings.
        force: Where none fits, whether to take the first that can be computed at all, made for this base or not.
        switch_folder: As for `candidates`.

    Raises:
        AdapterNotFoundError: There is none; says what was looked at, why it did not fit, and what to pull.
        AdapterError: As for `candidates`.
        ArgumentError: As for `candidates`.
    """
    around: list[Place] = []
    looked_at: list[Candidate] = []
    for rung in rungs(model, switch_folder):
        around += rung
        for place in _named(rung, name):
            looked_at.append(_check(model, place))
            if looked_at[-1].why_not is None:
                return place
    for one in looked_at if force else ():
        forced = replace(one.place, force=True)
        if _check(model, forced).why_not is None:
            return forced
    raise AdapterNotFoundError(not_found(model, name, looked_at, around))


def _named(places: list[Place], name: str | None) -> list[Place]:
    """Those that a name can mean, those with exactly this spelling first."""
    if name is None:
        return places
    wanted = canonical_name(name)
    same = [place for place in places if canonical_name(_name(place)) == wanted]
    return sorted(same, key=lambda place: _name(place) != name)


def _name(place: Place) -> str:
    return place.name or place.path.stem


def _check(model: Model, place: Place) -> Candidate:
    try:
        place.check(model)
    except (AdapterError, ConversionError) as error:
        # Most begin with the file, which is said anyway.
        return Candidate(place, str(error).removeprefix(f"{place.path}: "))
    return Candidate(place, None)


def _first(checked: list[list[Candidate]], name: str) -> Candidate | None:
    """The first that fits and can be meant by a name."""
    for rung in checked:
        fitting = [one for one in rung if one.why_not is None]
        for place in _named([one.place for one in fitting], name):
            return next(one for one in fitting if one.place is place)
    return None
