"""The transformation `decode_sentences`: a sentence's number becomes its text and place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alora_cpp.io.json_text import Path
from alora_cpp.io.transformation import Answer, PathPattern, Transformation, replaced, show, show_path, value_at
from alora_cpp.io.yaml_text import Setting

PLACES = ("last_message", "all_but_last_message", "documents")
_OUTPUTS = {
    "begin": PLACES,
    "end": PLACES,
    "text": PLACES,
    "document_id": ("documents",),
    "message_index": ("all_but_last_message",),
}


@dataclass(frozen=True)
class DecodeSentences(Transformation):
    """Puts what is known of a sentence beside the field that has its number.

    Attributes:
        source: Where the sentence is: places of `sentence_boundaries`.
        output_names: What to tell (begin, end, text, document_id, message_index), and the fields to tell it in.
    """

    source: tuple[str, ...]
    output_names: Mapping[str, str]

    name = "decode_sentences"
    required = ("source", "output_names")

    @classmethod
    def parse(cls, input_path: PathPattern, parameters: Mapping[str, Setting]) -> DecodeSentences:
        """Reads `source` and `output_names`."""
        setting = parameters["source"]
        source = (setting.value,) if isinstance(setting.value, str) else setting.strings("a place or a list of places")
        for place in source:
            if place not in PLACES:
                raise setting.error(f"is {place!r}, expected one of {', '.join(PLACES)}")
        if not source or ("last_message" in source and len(set(source)) > 1):
            raise setting.error(
                f"is {list(source)}, expected last_message alone, which has numbers of its own, or one or both of "
                "documents and all_but_last_message"
            )
        output_names = parameters["output_names"].strings_by_name("a mapping to field names")
        known = [output for output, places in _OUTPUTS.items() if set(places) & set(source)]
        for output in output_names:
            if output not in known:
                raise parameters["output_names"].error(f"has {output!r}; known for this source are {', '.join(known)}")
        if not input_path or isinstance(input_path[-1], int):
            raise setting.error("belongs to an input_path that names no field, expected one that ends with a field")
        return cls(input_path, source, output_names)

    def transform(self, value: Any, path: Path, answer: Answer) -> dict[str, Any]:
        """The fields to add for a sentence's number."""
        sentences = {sentence.number: sentence for place in self.source for sentence in answer.sentences.get(place, ())}
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(path, f"found {show(value)}, expected a sentence's number")
        if value not in sentences:
            expected = f"{min(sentences)} to {max(sentences)}" if sentences else "none, as there are no sentences"
            raise self.error(path, f"found sentence {show(value)}, expected {expected} in {', '.join(self.source)}")
        return {name: getattr(sentences[value], output) for output, name in self.output_names.items()}

    def apply_at(self, value: Any, path: Path, answer: Answer) -> Any:
        """Adds the fields to the record that holds the number."""
        parent = value_at(value, path[:-1])
        if not isinstance(parent, dict):
            raise self.error(
                path, f"found {show(parent)} at {show_path(path[:-1])}, expected a record to add fields to"
            )
        return replaced(value, path[:-1], parent | self.transform(parent[str(path[-1])], path, answer))
