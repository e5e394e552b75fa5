"""How an intrinsic's answer is generated: `parameters` of its `io.yaml`, in OpenAI's and vLLM's spelling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from alora_cpp.io.yaml_text import Setting

# They ask a server for what the engine does on its own, or say how to send the answer.
_WITHOUT_EFFECT = ("logprobs", "top_logprobs", "stream", "user")
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "seed", "stop")
_KNOWN = ("max_completion_tokens", "max_tokens", *_SAMPLING, "n", *_WITHOUT_EFFECT, "extra_body")
_KNOWN_EXTRA = ("structured_outputs", "guided_choice", "chat_template_kwargs", *_SAMPLING)


@dataclass(frozen=True)
class Parameters:
    """How an answer is generated.

    Attributes:
        max_tokens: Longest answer, in tokens; None where the `io.yaml` says nothing.
        temperature: 0 takes the most probable token.
        top_p: Sample among the most probable tokens that make up this much; 1 is off.
        top_k: Sample among this many most probable tokens; 0 is off.
        min_p: Leave out tokens this much less probable than the best; 0 is off.
        seed: Seed of the sampling; None where the `io.yaml` says nothing.
        stop: Texts that end the answer.
        template_arguments: More variables for the chat template.
    """

    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    template_arguments: Mapping[str, Any] = field(default_factory=dict)


def parse_parameters(setting: Setting) -> tuple[Parameters, tuple[str, ...]]:
    """Reads `parameters`.

    Returns:
        The parameters, and the closed set of answers that they name; empty if none.

    Raises:
        AdapterError: One is not known, or not what it may be.
    """
    given = _without_nulls(setting, _KNOWN)
    extra_body = given.pop("extra_body", None)
    extra = _without_nulls(extra_body, _KNOWN_EXTRA) if extra_body else {}
    for name in extra.keys() & given.keys():
        raise extra[name].error(f"is there twice: also as {given[name].name}")
    if "n" in given and given["n"].value != 1:
        raise given["n"].wrong("1, as an intrinsic gives one answer")
    if "max_tokens" in given and "max_completion_tokens" in given:
        raise given["max_tokens"].error("is there beside max_completion_tokens, its newer name; keep one of them")
    parameters = _sampling(given | extra)
    return parameters, _choices(extra)


def _without_nulls(setting: Setting, known: tuple[str, ...]) -> dict[str, Setting]:
    return {name: value for name, value in setting.fields(known).items() if not value.is_null}


def _sampling(given: Mapping[str, Setting]) -> Parameters:
    values: dict[str, Any] = {}
    for name in ("max_tokens", "max_completion_tokens"):
        if name in given:
            values["max_tokens"] = _integer(given[name], 1, 2**31 - 1, "a number of tokens, at least 1")
    if "temperature" in given:
        values["temperature"] = _number(given["temperature"], 0.0, 1e6, "a number, at least 0")
    for name in ("top_p", "min_p"):
        if name in given:
            values[name] = _number(given[name], 0.0, 1.0, "a number from 0 to 1")
    if "top_k" in given:
        # vLLM's -1 means what 0 means elsewhere: all tokens.
        values["top_k"] = max(0, _integer(given["top_k"], -1, 2**31 - 1, "a number of tokens; 0 or -1 for all"))
    if "seed" in given:
        values["seed"] = _integer(given["seed"], 0, 2**32 - 1, "an integer from 0 to 4294967295")
    if "stop" in given:
        stop = given["stop"]
        values["stop"] = (stop.value,) if isinstance(stop.value, str) else stop.strings("a string or a list of strings")
        if "" in values["stop"]:
            raise stop.error("has an empty text, which would end every answer")
    if "chat_template_kwargs" in given:
        given["chat_template_kwargs"].mapping()
        values["template_arguments"] = given["chat_template_kwargs"].plain()
    return Parameters(**values)


def _integer(setting: Setting, least: int, most: int, expected: str) -> int:
    value = setting.integer(expected)
    if not least <= value <= most:
        raise setting.wrong(expected)
    return value


def _number(setting: Setting, least: float, most: float, expected: str) -> float:
    value = setting.number(expected)
    if not least <= value <= most:
        raise setting.wrong(expected)
    return float(value)


def _choices(extra: Mapping[str, Setting]) -> tuple[str, ...]:
    """The closed set of answers, in vLLM's newer spelling or its older one."""
    named = []
    if "structured_outputs" in extra:
        named.append(extra["structured_outputs"].fields(("choice",), ("choice",))["choice"])
    if "guided_choice" in extra:
        named.append(extra["guided_choice"])
    if len(named) > 1:
        raise named[1].error("is there beside structured_outputs.choice, its newer name; keep one of them")
    if not named:
        return ()
    (setting,) = named
    choices = setting.strings("a list of texts")
    if not choices or "" in choices or len(set(choices)) < len(choices):
        raise setting.error(f"is {list(choices)}, expected texts that differ, none of them empty")
    return choices
