"""What all transformations of an answer have in common: where they apply, and what they see."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from alora_cpp.errors import AnswerError
from alora_cpp.io.json_text import Literal, Path, Scalar
from alora_cpp.io.sentences import Sentence
from alora_cpp.io.yaml_text import Setting

if TYPE_CHECKING:
    from typing_extensions import Self

# Field names and indices; None is any field or index.
PathPattern: TypeAlias = tuple[str | int | None, ...]
Likelihood: TypeAlias = Callable[[Literal, Mapping[Scalar, float]], float]


@dataclass(frozen=True)
class Answer:
    """What transformations may look at beside the value they change.

    Attributes:
        tree: The answer as `read_json` reads it: its literals know their places.
        sentences: The request's tagged sentences, by the place of `sentence_boundaries` they are in.
        likelihood: The value of a literal, given values for what it could have been.
    """

    tree: Any
    sentences: Mapping[str, Sequence[Sentence]]
    likelihood: Likelihood


@dataclass(frozen=True)
class Transformation(ABC):
    """One step from an answer to its result.

    Attributes:
        input_path: Which parts of the answer it changes; each part that matches is changed, no match changes nothing.
    """

    input_path: PathPattern

    name: ClassVar[str]
    required: ClassVar[tuple[str, ...]]
    optional: ClassVar[tuple[str, ...]] = ()

    @classmethod
    @abstractmethod
    def parse(cls, input_path: PathPattern, parameters: Mapping[str, Setting]) -> Self:
        """Reads the parameters, of which the required ones are there.

        Raises:
            AdapterError: One is not what it may be.
        """

    @abstractmethod
    def transform(self, value: Any, path: Path, answer: Answer) -> Any:
        """What takes the place of the value at a path that matches."""

    def apply(self, value: Any, answer: Answer) -> Any:
        """Changes every part that matches; the value given stays as it is.

        Raises:
            AnswerError: A part is not what the transformation expects.
        """
        for path in matching_paths(value, self.input_path):
            value = self.apply_at(value, path, answer)
        return value

    def apply_at(self, value: Any, path: Path, answer: Answer) -> Any:
        """Changes the part at one path."""
        return replaced(value, path, self.transform(value_at(value, path), path, answer))

    def error(self, path: Path, problem: str) -> AnswerError:
        """An error about the part at a path."""
        return AnswerError(f"transformation '{self.name}' at {show_path(path)}: {problem}")

    def records(self, value: Any, path: Path) -> list[dict[str, Any]]:
        """The value, if it is a list of records.

        Raises:
            AnswerError: It is something else.
        """
        if not isinstance(value, list):
            raise self.error(path, f"found {show(value)}, expected a list of records")
        for index, record in enumerate(value):
            if not isinstance(record, dict):
                raise self.error((*path, index), f"found {show(record)}, expected a record")
        return value


def matching_paths(value: Any, pattern: PathPattern) -> list[Path]:
    """The paths in a value that match a pattern, in the value's order."""
    paths: list[Path] = [()]
    for step in pattern:
        paths = [(*path, key) for path in paths for key in _keys(value_at(value, path)) if step is None or key == step]
    return paths


def _keys(value: Any) -> Sequence[str | int]:
    if isinstance(value, dict):
        return list(value)
    return range(len(value)) if isinstance(value, list) else ()


def value_at(value: Any, path: Path) -> Any:
    """The part of a value that a path leads to.

    Raises:
        LookupError: There is none.
    """
    for key in path:
        if not _can_hold(value, key):
            raise LookupError(f"no {key!r} in {show(value)}")
        value = value[key]
    return value


def _can_hold(value: Any, key: str | int) -> bool:
    return isinstance(value, dict if isinstance(key, str) else list)


def replaced(value: Any, path: Path, new: Any) -> Any:
    """A copy with another part at a path; parts elsewhere are shared."""
    if not path:
        return new
    copy: Any = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


def show_path(path: Path) -> str:
    """A path for messages."""
    return "".join(f"[{key!r}]" for key in path) or "the root"


def show(value: Any) -> str:
    """A value for messages, cut short."""
    if isinstance(value, dict):
        return "a record"
    return "a list" if isinstance(value, list) else f"{value!r:.100}"
