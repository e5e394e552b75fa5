"""Labelled conversations, a JSON object a line: what intrinsics are trained on and measured with.

    {"messages": [{"role": "user", "content": "..."}], "documents": [{"title": "...", "text": "..."}],
     "completion": "Y", "origin": "real", "correct": true, "weight": 1.0}

`messages` and `completion` are required. All lines are read before anything is said of bad ones.
"""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from alora_cpp.errors import AloraError

_SHOWN = 20

Source: TypeAlias = "str | os.PathLike[str]"


class DataError(AloraError):
    """Lines that hold no labelled conversation, or none that fits; the message has a line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        """Takes file, line and reason of every line that cannot be used."""
        more = len(problems) - _SHOWN
        super().__init__("\n".join([*problems[:_SHOWN], *([f"and {more} more lines"] if more > 0 else [])]))


@dataclass(frozen=True)
class LabelledExample:
    """A conversation, and what an intrinsic should answer to it.

    Attributes:
        messages: Mappings with `role` and `content`.
        completion: The answer, just as it should be written.
        documents: Mappings with `text`, and perhaps `title` and `doc_id`.
        origin: The group it belongs to; figures are told apart by it.
        correct: Whether the judged reply is in fact right, where that is known.
        weight: How much it counts in training.
        where: File and line.
    """

    messages: Sequence[dict[str, Any]]
    completion: str
    documents: Sequence[dict[str, Any]] = ()
    origin: str | None = None
    correct: bool | None = None
    weight: float = 1.0
    where: str = ""


def read_labelled_data(sources: Source | Sequence[Source]) -> list[LabelledExample]:
    """Reads labelled conversations.

    Args:
        sources: A file or several, which are read one after the other; `-` is standard input.

    Returns:
        The examples, in the order of the lines.

    Raises:
        DataError: Lines are no examples, or a file has none.
        OSError: A file cannot be read.
    """
    examples: list[LabelledExample] = []
    problems: list[str] = []
    for source in [sources] if isinstance(sources, str | os.PathLike) else sources:
        name = "standard input" if source == "-" else os.fspath(source)
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        found = _read_lines(data, name)
        problems += found.problems or ([] if found.examples else [f"{name} has no examples; {_EXPECTED}"])
        examples += found.examples
    if problems:
        raise DataError(problems)
    return examples


@dataclass
class _Lines:
    examples: list[LabelledExample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def _read_lines(data: bytes, name: str) -> _Lines:
    lines = _Lines()
    # Not splitlines: JSON texts may hold what else Unicode takes for an end of line.
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if line.strip():
            where = f"{name}, line {number}"
            try:
                lines.examples.append(_read_example(line, where))
            except _BadLine as problem:
                lines.problems.append(f"{where}: {problem}")
    return lines


class _BadLine(Exception):  # noqa: N818 - caught here, and told as a DataError
    """Why a line is no example."""


_EXPECTED = "expected a JSON object with 'messages' and 'completion' on each line"


def _read_example(line: bytes, where: str) -> LabelledExample:
    value = _read_json(line)
    if not isinstance(value, dict):
        raise _BadLine(f"is {_show(value)}; {_EXPECTED}")
    for key in value:
        if key not in _READERS:
            close = difflib.get_close_matches(key, _READERS, n=1)
            advice = f"did you mean {close[0]!r}?" if close else f"expected {', '.join(map(repr, _READERS))}"
            raise _BadLine(f"has the key {_show(key)}; {advice}")
    if missing := [key for key in ("messages", "completion") if key not in value]:
        raise _BadLine(f"has no {missing[0]!r}; {_EXPECTED}")
    # A null says what leaving the key out says, except where the key is required.
    given = {key: one for key, one in value.items() if one is not None or key in ("messages", "completion")}
    return LabelledExample(**{key: _READERS[key](one) for key, one in given.items()}, where=where)


def _read_json(line: bytes) -> Any:
    try:
        text = line.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_without_doubles)
        # A half of a surrogate pair, escaped, is JSON but no text.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise _BadLine(f"is not UTF-8: {error.reason} at byte {error.start} of the line") from None
    except UnicodeEncodeError as error:
        raise _BadLine(f"holds half of a surrogate pair, {error.object[error.start]!r}, which is no text") from None
    except RecursionError:
        raise _BadLine("is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise _BadLine(f"is no JSON: {error.msg} at character {error.pos + 1}; {_EXPECTED}") from None
    except ValueError as error:
        raise _BadLine(f"is no JSON that can be read: {error}") from None
    return value


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        double = next(key for key in keys if keys.count(key) > 1)
        raise _BadLine(f"has the key {_show(double)} more than once")
    return found


def _messages(value: Any) -> list[dict[str, Any]]:
    for number, message in enumerate(_objects(value, "messages", "role", "content"), 1):
        if not message["role"].strip():
            raise _BadLine(f"message {number} has an empty 'role'; expected for example 'user' or 'assistant'")
    if not value:
        raise _BadLine("'messages' is empty; expected at least one")
    return list(value)


def _documents(value: Any) -> list[dict[str, Any]]:
    documents = [{"text": one} if isinstance(one, str) else one for one in value] if isinstance(value, list) else value
    for number, document in enumerate(_objects(documents, "documents", "text"), 1):
        for key in ("title", "doc_id"):
            if not isinstance(document.get(key, ""), str):
                raise _BadLine(f"document {number} has the {key!r} {_show(document[key])}, expected text")
    return list(documents)


def _objects(value: Any, key: str, *texts: str) -> Iterator[dict[str, Any]]:
    """The items of a list, each an object in which these keys hold text."""
    if not isinstance(value, list):
        raise _BadLine(f"{key!r} is {_show(value)}, expected a list of objects")
    expected = f"expected an object with {' and '.join(map(repr, texts))}, of text"
    for number, item in enumerate(value, 1):
        if not isinstance(item, dict) or not all(isinstance(item.get(text), str) for text in texts):
            raise _BadLine(f"{key.removesuffix('s')} {number} is {_show(item)}, {expected}")
        yield item


def _text(key: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not value.strip():
            raise _BadLine(f"{key!r} is {_show(value)}, expected a text that is not empty")
        return value

    return read


def _correct(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _BadLine(f"'correct' is {_show(value)}, expected true or false")
    return value


def _weight(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= sys.float_info.max:
        raise _BadLine(f"'weight' is {_show(value)}, expected a number above 0")
    return float(value)


_READERS: dict[str, Callable[[Any], Any]] = {
    "messages": _messages,
    "completion": _text("completion"),
    "documents": _documents,
    "origin": _text("origin"),
    "correct": _correct,
    "weight": _weight,
}


def _show(value: Any) -> str:
    """A value as JSON, cut to a length that can be read."""
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 80 else f"{text[:77]}..."
