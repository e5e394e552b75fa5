"""Conversations and documents from files, standard input or the command line.

A file holds JSON: a list of messages, or an object with `messages` and perhaps `documents`; or JSON lines: a message
each, or a conversation each.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alora_cpp.errors import ArgumentError


@dataclass
class Conversation:
    """Messages, and the documents they are grounded in."""

    messages: list[Any]
    documents: list[Any] = field(default_factory=list)


def read_text(source: str) -> str:
    """The text of a file, or of standard input for `-`.

    Raises:
        ArgumentError: It is not UTF-8.
    """
    data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ArgumentError(f"{_name(source)} is not UTF-8: {error.reason} at byte {error.start}") from None


def read_conversations(source: str) -> list[Conversation]:
    """The conversations in a file, or in standard input for `-`.

    Raises:
        ArgumentError: It is not what a conversation should be; the message says where.
    """
    text = read_text(source)
    if not text.strip():
        raise ArgumentError(f"{_name(source)} is empty; expected messages as JSON or JSON lines")
    try:
        return [_conversation(json.loads(text), _name(source))]
    except json.JSONDecodeError as error:
        values = _json_lines(text, source, error)
    if isinstance(values[0], dict) and "messages" in values[0]:
        return [_conversation(value, f"{_name(source)}, conversation {i}") for i, value in enumerate(values, 1)]
    return [_conversation(values, _name(source))]


def read_documents(sources: Sequence[str]) -> list[Any]:
    """Documents: files of JSON (a list, or one document), or of plain text, a document each.

    Raises:
        ArgumentError: A file is not UTF-8, or a .json file is not JSON.
    """
    documents: list[Any] = []
    for source in sources:
        text = read_text(source)
        if not source.endswith(".json"):
            documents.append({"title": Path(source).name, "text": text})
            continue
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise ArgumentError(f"{source} is not JSON: {error}") from None
        documents.extend(value if isinstance(value, list) else [value])
    return documents


def _name(source: str) -> str:
    return "standard input" if source == "-" else source


def _json_lines(text: str, source: str, whole: json.JSONDecodeError) -> list[Any]:
    values = []
    # Not splitlines: JSON texts may hold what else Unicode takes for an end of line. JSON skips a carriage return.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            values.append(json.loads(line))
        except json.JSONDecodeError as error:
            problem = f"{whole}" if number == 1 else f"line {number}: {error}"
            raise ArgumentError(f"{_name(source)} is neither JSON nor JSON lines: {problem}") from None
    return values


def _conversation(value: Any, where: str) -> Conversation:
    if isinstance(value, dict) and "messages" in value:
        messages, documents = value["messages"], value.get("documents") or []
    elif isinstance(value, dict):
        messages, documents = [value], []
    else:
        messages, documents = value, []
    if not isinstance(messages, list) or not isinstance(documents, list):
        raise ArgumentError(f"{where}: expected a list of messages, or an object with 'messages' and 'documents'")
    if not messages:
        raise ArgumentError(f"{where}: the list of messages is empty; expected at least one")
    return Conversation(messages, documents)
