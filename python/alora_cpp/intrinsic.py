"""An intrinsic: an adapter plus how to ask it and how to read its answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from alora_cpp.adapter import Adapter
from alora_cpp.constraint import SchemaConstraint
from alora_cpp.constraint.choice_constraint import ChoiceConstraint
from alora_cpp.constraint.schema_texts import ClosedText, closed_texts
from alora_cpp.errors import AdapterError, AdapterNotFoundError, ArgumentError, TokenError
from alora_cpp.io import IoConfig, canonical_name, parse_io_yaml

if TYPE_CHECKING:
    from alora_cpp.model import Model

Activation = Literal["start", "end"]
Compat = Literal["granite-common"]
# Listed answers that take more than this to be scored are written instead.
_MAX_ROWS = 256

Constraint: TypeAlias = SchemaConstraint | ChoiceConstraint


class Intrinsic:
    """An adapter that judges a conversation. Made by `Model.load_intrinsic`.

    Attributes:
        adapter: The weights.
        config: How to ask and how to read the answer.
        name: What it is called.
        invocation: The tokens that call it; may be empty.
        activation_offset: How many tokens of the invocation come before the first one that the adapter governs.
        governs_all: Whether it governs the whole prompt; the conversation is then computed for it alone.
        compat: `granite-common` where likelihoods are to be that library's approximation; None where they are exact.
        closed: Every answer that it may give, where these can be listed.
        labels: A short name for each of these.
        is_scored: Whether all its answers are scored, and none is generated.
        constraint: What a generated answer must obey; None where it is free text.
    """

    def __init__(
        self,
        adapter: Adapter,
        config: IoConfig,
        model: Model,
        *,
        name: str | None = None,
        invocation: Sequence[int] | None = None,
        activation: Activation = "start",
        compat: Compat | None = None,
    ) -> None:
        """Wraps an adapter.

        Args:
            adapter: The adapter.
            config: Its `io.yaml`.
            model: The model it was loaded for.
            name: What to call it; the adapter's own name if not given.
            invocation: Tokens to call it with instead of its own; empty: none, it governs from the last token of the
                prompt that begins a reply.
            activation: Whether it governs from the first token of its invocation on, as PEFT defines it, or from the
                last one.
            compat: As for the attribute.

        Raises:
            AdapterError: The adapter has no invocation and none is given, or its answers cannot be constrained.
            ArgumentError: An option is outside what it may be.
            TokenError: The vocabulary lacks a token of the invocation.
        """
        if activation not in ("start", "end"):
            raise ArgumentError(f"activation is {activation!r}, expected 'start' or 'end'")
        if compat not in (None, "granite-common"):
            raise ArgumentError(f"compat is {compat!r}, expected None or 'granite-common'")
        if invocation is None and not adapter.invocation_tokens:
            raise AdapterError(
                f"adapter '{adapter.name}' has no invocation tokens: it is an ordinary LoRA; give invocation=() to "
                "activate it where the answer begins, or load it with load_adapter and activate it on a branch"
            )
        self.adapter = adapter
        self.config = config
        self.name = name or adapter.name
        self.invocation = tuple(adapter.written_invocation if invocation is None else invocation)
        if unknown := [token for token in self.invocation if not 0 <= token < model.n_vocab]:
            raise TokenError(f"the invocation has the token {unknown[0]}, expected 0 to {model.n_vocab - 1}")
        self.activation_offset = _offset(adapter, self.invocation, activation)
        self.governs_all = adapter.governs_all
        adapter.governed_rows(self.invocation[self.activation_offset :])
        self.compat = compat
        self.closed = listed_answers(config)
        self.labels = answer_labels(self.closed)
        self.is_scored = bool(self.closed) and compat is None and _n_rows(self.closed, model) <= _MAX_ROWS
        try:
            self.constraint = None if self.is_scored else _constraint(config, model)
        except AdapterError as error:
            raise AdapterError(f"response_format in the io.yaml of adapter '{adapter.name}': {error}") from None

    def label_of(self, text: str) -> str | None:
        """The short name of one of the listed answers; None for any other text."""
        return next((label for one, label in zip(self.closed, self.labels, strict=True) if one.text == text), None)

    def __repr__(self) -> str:
        return f"Intrinsic({self.name!r})"


def named(loaded: Mapping[str, Intrinsic], name: str) -> Intrinsic:
    """The intrinsic of that name; one of the same meaning, where there is just one.

    Raises:
        AdapterNotFoundError: There is none.
    """
    if name in loaded:
        return loaded[name]
    same = [one for key, one in loaded.items() if canonical_name(key) == canonical_name(name)]
    if len(same) == 1:
        return same[0]
    raise AdapterNotFoundError(
        f"no intrinsic '{name}' is loaded; there are: {', '.join(sorted(loaded)) or 'none'}; load it with"
        " load_intrinsic, which also searches for names, on the command line with --adapter NAME=PATH"
    )


def _n_rows(closed: Sequence[ClosedText], model: Model) -> int:
    """Rows that scoring takes: one for each beginning that a text goes on from."""
    texts = [tuple(model.tokenize(one.text)) for one in closed]
    return len({tokens[:end] for tokens in texts for end in range(1, len(tokens))})


def _constraint(config: IoConfig, model: Model) -> Constraint | None:
    if config.choices:
        return ChoiceConstraint(model, config.choices)
    return None if config.response_format is None else SchemaConstraint(model, config.response_format)


def _offset(adapter: Adapter, invocation: Sequence[int], activation: Activation) -> int:
    if activation == "end":
        return max(0, len(invocation) - 1)
    return min(adapter.activation_offset, max(0, len(invocation) - 1))


def listed_answers(config: IoConfig) -> tuple[ClosedText, ...]:
    """Every answer that an `io.yaml` allows, where these can be listed; else none."""
    if config.choices:
        return tuple(ClosedText(choice, choice) for choice in config.choices)
    return (closed_texts(config.response_format) if config.response_format is not None else None) or ()


def answer_labels(closed: Sequence[ClosedText]) -> tuple[str, ...]:
    """Short names for answers: where they differ in one place only, what stands there; else the whole text."""
    values = [dict(_leaves(answer.value)) for answer in closed]
    places = list(dict.fromkeys(place for leaves in values for place in leaves))
    if all(len(leaves) == len(places) for leaves in values):
        differing = [place for place in places if len({short_name(leaves[place]) for leaves in values}) > 1]
        if len(differing) == 1:
            labels = tuple(short_name(leaves[differing[0]]) for leaves in values)
            if len(set(labels)) == len(labels):
                return labels
    return tuple(answer.text for answer in closed)


def _leaves(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _leaves(item, (*place, key))
    else:
        yield place, value


def short_name(value: Any) -> str:
    """A label's name: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def find_io_config(adapter: Adapter, path: str | PathLike[str] | None) -> IoConfig:
    """How to ask an adapter: a file named, else one beside it, else what it holds itself, else free text.

    Raises:
        AdapterError: The file is no `io.yaml`.
        OSError: The file named cannot be read.
    """
    beside = (adapter.path.with_suffix(".io.yaml"), adapter.path.with_name("io.yaml")) if adapter.has_own_file else ()
    found = Path(path) if path is not None else next((one for one in beside if one.is_file()), None)
    if found is None:
        text, source = adapter.io_yaml, f"{adapter.path} (alora.io_yaml)"
        return IoConfig() if text is None else parse_io_yaml(text, source=source)
    try:
        return parse_io_yaml(found.read_text(encoding="utf-8"), source=str(found))
    except UnicodeDecodeError as error:
        raise AdapterError(f"{found} is no UTF-8 text: {error.reason} at byte {error.start}") from None
