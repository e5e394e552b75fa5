"""`io.yaml`, read whole: how an intrinsic is asked and how its answer is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

from alora_cpp.io.instruction import Instruction, parse_instruction
from alora_cpp.io.json_text import JsonTextError, plain, read_json
from alora_cpp.io.likelihood import CategoryLikelihood
from alora_cpp.io.parameters import Parameters, parse_parameters
from alora_cpp.io.records import DropDuplicates, Explode, MergeSpans, Nest, Project
from alora_cpp.io.sentence_decoding import PLACES, DecodeSentences
from alora_cpp.io.transformation import PathPattern, Transformation
from alora_cpp.io.yaml_text import Setting, read_yaml

DocsAsMessage: TypeAlias = Literal["string", "json", "roles"]

_TRANSFORMATIONS: dict[str, type[Transformation]] = {
    kind.name: kind
    for kind in (CategoryLikelihood, DecodeSentences, DropDuplicates, Explode, MergeSpans, Nest, Project)
}
_REQUIRED = ("model", "response_format", "transformations")
_OPTIONAL = ("name", "instruction", "parameters", "sentence_boundaries", "docs_as_message", "logprobs_workaround")


@dataclass(frozen=True)
class IoConfig:
    """What an `io.yaml` says; all defaults together are what an adapter without one gets: free text.

    Attributes:
        model: The model that a request goes to; it plays no part here.
        name: The intrinsic's name.
        response_format: JSON schema of the answer, with the order of its keys; None where any text is an answer.
        choices: The closed set of answers where they are bare texts; empty where they are not.
        transformations: The steps from the answer to the result.
        instruction: The message to append to the conversation.
        sentence_boundaries: Places whose sentences are tagged, and the tags.
        docs_as_message: How documents become messages; None leaves them to the chat template.
        parameters: How the answer is generated.
        logprobs_workaround: Whether servers are known to change the text of the answer; it plays no part here.
    """

    model: str | None = None
    name: str | None = None
    response_format: Mapping[str, Any] | None = None
    choices: tuple[str, ...] = ()
    transformations: tuple[Transformation, ...] = ()
    instruction: Instruction | None = None
    sentence_boundaries: Mapping[str, str] = field(default_factory=dict)
    docs_as_message: DocsAsMessage | None = None
    parameters: Parameters = field(default_factory=Parameters)
    logprobs_workaround: bool = False


def parse_io_yaml(text: str, *, source: str) -> IoConfig:
    """Reads an `io.yaml`; docs/io_yaml.md tells what may be in it.

    Args:
        text: The file's text. It may come from anyone: reading it takes bounded time and memory.
        source: What to call it in messages, such as its path.

    Raises:
        AdapterError: It is not as an `io.yaml` has to be; the message says the line.
    """
    document = read_yaml(text, source=source, name="io.yaml")
    fields = document.fields((*_REQUIRED, *_OPTIONAL), _REQUIRED)
    given = {name: setting for name, setting in fields.items() if not setting.is_null}

    parameters, choices = parse_parameters(given["parameters"]) if "parameters" in given else (Parameters(), ())
    if choices and "response_format" in given:
        raise given["response_format"].error("is there beside choices in parameters, expected one of them")
    boundaries = _sentence_boundaries(given["sentence_boundaries"]) if "sentence_boundaries" in given else {}
    settings = given["transformations"].items("a list or null") if "transformations" in given else []
    return IoConfig(
        model=given["model"].string("a name or null") if "model" in given else None,
        name=given["name"].string("a name or null") if "name" in given else None,
        response_format=_response_format(given["response_format"]) if "response_format" in given else None,
        choices=choices,
        transformations=tuple(_transformation(setting, choices, boundaries) for setting in settings),
        instruction=parse_instruction(given["instruction"]) if "instruction" in given else None,
        sentence_boundaries=boundaries,
        docs_as_message=_docs_as_message(given["docs_as_message"]) if "docs_as_message" in given else None,
        parameters=parameters,
        logprobs_workaround=_boolean(given["logprobs_workaround"]) if "logprobs_workaround" in given else False,
    )


def _response_format(setting: Setting) -> Mapping[str, Any]:
    schema = setting.value
    if isinstance(schema, str):
        try:
            schema = plain(read_json(schema))
        except JsonTextError as error:
            raise setting.error(f"is no JSON: {error}") from None
    elif isinstance(schema, dict):
        schema = setting.plain()
    if not isinstance(schema, dict):
        raise setting.error(f"is {schema!r:.100}, expected a JSON schema: an object, as JSON text or as YAML mapping")
    return schema


def _sentence_boundaries(setting: Setting) -> dict[str, str]:
    tags = {place: tag.string("a tag such as c") for place, tag in setting.fields(PLACES).items()}
    # An empty tag tags nothing.
    return {place: tag for place, tag in tags.items() if tag}


def _docs_as_message(setting: Setting) -> DocsAsMessage | None:
    if setting.value is False:
        return None
    if setting.value not in ("string", "json", "roles"):
        raise setting.wrong("string, json, roles or null")
    return cast("DocsAsMessage", setting.value)


def _boolean(setting: Setting) -> bool:
    if not isinstance(setting.value, bool):
        raise setting.wrong("true or false")
    return setting.value


def _transformation(setting: Setting, choices: tuple[str, ...], boundaries: Mapping[str, str]) -> Transformation:
    type_setting = setting.mapping("a mapping with a type").get("type")
    if type_setting is None:
        raise setting.error(f"lacks type; known types are {', '.join(_TRANSFORMATIONS)}")
    kind = _TRANSFORMATIONS.get(type_setting.string("the name of a transformation"))
    if kind is None:
        raise type_setting.wrong(f"one of {', '.join(_TRANSFORMATIONS)}")
    required = ("type", "input_path", *kind.required)
    parameters = setting.fields((*required, *kind.optional), required)
    given = {name: value for name, value in parameters.items() if name in kind.required or not value.is_null}
    transformation = kind.parse(_input_path(parameters["input_path"]), given)
    if isinstance(transformation, DecodeSentences):
        for place in transformation.source:
            if place not in boundaries:
                raise parameters["source"].error(f"is {place}, which sentence_boundaries gives no tag")
    if isinstance(transformation, CategoryLikelihood) and choices:
        for category in transformation.categories_to_values:
            if category not in choices:
                raise parameters["categories_to_values"].error(
                    f"has {category!r}, expected one of the choices {', '.join(choices)}; put it in quotes"
                )
    return transformation


def _input_path(setting: Setting) -> PathPattern:
    for step in setting.items("a list of field names, indices and nulls"):
        value = step.value
        if isinstance(value, bool) or not (value is None or isinstance(value, str | int)):
            raise step.wrong("a field name, an index or null")
        if isinstance(value, int) and value < 0:
            raise step.wrong("an index from 0")
    return tuple(step.value for step in setting.items())
