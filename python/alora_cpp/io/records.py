"""Transformations of records: nest, project, explode, drop_duplicates, merge_spans."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alora_cpp.io.json_text import Path
from alora_cpp.io.transformation import Answer, PathPattern, Transformation, show
from alora_cpp.io.yaml_text import Setting


@dataclass(frozen=True)
class Nest(Transformation):
    """Wraps a value in a record of one field."""

    field_name: str

    name = "nest"
    required = ("field_name",)

    @classmethod
    def parse(cls, input_path: PathPattern, parameters: Mapping[str, Setting]) -> Nest:
        """Reads `field_name`."""
        return cls(input_path, parameters["field_name"].string())

    def transform(self, value: Any, path: Path, answer: Answer) -> dict[str, Any]:
        """The record of one field."""
        return {self.field_name: value}


@dataclass(frozen=True)
class Project(Transformation):
    """Keeps some fields of a record, or of each record of a list, under their names or new ones.

    A field that a record lacks becomes null.
    """

    retained_fields: Mapping[str, str]

    name = "project"
    required = ("retained_fields",)

    @classmethod
    def parse(cls, input_path: PathPattern, parameters: Mapping[str, Setting]) -> Project:
        """Reads `retained_fields`."""
        setting = parameters["retained_fields"]
        if isinstance(setting.value, list):
            return cls(input_path, {field: field for field in setting.strings()})
        return cls(input_path, setting.strings_by_name("a list of field names, or a mapping to new names"))

    def transform(self, value: Any, path: Path, answer: Answer) -> Any:
        """The record or records with the fields that are kept."""
        if isinstance(value, dict):
            return self._project(value)
        return [self._project(record) for record in self.records(value, path)]

    def _project(self, record: Mapping[str, Any]) -> dict[str, Any]:
        return {new: record.get(field) for field, new in self.retained_fields.items()}


@dataclass(frozen=True)
class Explode(Transformation):
    """Makes one record for each item of a list that is in a field: `{a: 1, b: [2, 3]}` becomes two records."""

    target_field: str

    name = "explode"
    required = ("target_field",)

    @classmethod
    def parse(cls, input_path: PathPattern, parameters: Mapping[str, Setting]) -> Explode:
        """Reads `target_field`."""
        return cls(input_path, parameters["target_field"].string())

    def transform(self, value: Any, path: Path, answer: Answer) -> list[dict[str, Any]]:
        """The records, one for each item."""
        exploded = []
        for index, record in enumerate(self.records(value, path)):
            items = record.get(self.target_field)
            if not isinstance(items, list):
                found = show(items) if self.target_field in record else "nothing"
                raise self.error((*path, index, self.target_field), f"found {found}, expected a list")
            exploded += [record | {self.target_field: item} for item in items]
        return exploded


@dataclass(frozen=True)
class DropDuplicates(Transformation):
    """Keeps one of the records that agree in some fields: the last one, in the place of the first."""

    target_fields: tuple[str, ...]

    name = "drop_duplicates"
    required = ("target_fields",)

    @classmethod
    def parse(cls, input_path: PathPattern, parameters: Mapping[str, Setting]) -> DropDuplicates:
        """Reads `target_fields`."""
        return cls(input_path, parameters["target_fields"].strings("a list of field names"))

    def transform(self, value: Any, path: Path, answer: Answer) -> list[dict[str, Any]]:
        """The records that are kept."""
        kept = {}
        for index, record in enumerate(self.records(value, path)):
            for field in self.target_fields:
                if field not in record:
                    raise self.error((*path, index), f"the record lacks the field '{field}' that tells duplicates")
            kept[tuple(_order(record[field]) for field in self.target_fields)] = record
        return list(kept.values())


@dataclass(frozen=True)
class MergeSpans(Transformation):
    """Joins spans of text that touch: where one ends as the next of its group begins, they become one.

    The result is sorted by group and begin.
    """

    group_fields: tuple[str, ...]
    begin_field: str
    end_field: str
    text_field: str | None = None

    name = "merge_spans"
    required = ("group_fields", "begin_field", "end_field")
    optional = ("text_field",)

    @classmethod
    def parse(cls, input_path: PathPattern, parameters: Mapping[str, Setting]) -> MergeSpans:
        """Reads the names of the fields."""
        text_field = parameters.get("text_field")
        return cls(
            input_path,
            parameters["group_fields"].strings("a list of field names"),
            parameters["begin_field"].string(),
            parameters["end_field"].string(),
            text_field.string() if text_field else None,
        )

    def transform(self, value: Any, path: Path, answer: Answer) -> list[dict[str, Any]]:
        """The records of the joined spans."""
        spans: dict[tuple[Any, ...], dict[str, Any]] = {}
        for index, record in enumerate(self.records(value, path)):
            self._check(record, (*path, index))
            key = tuple(_order(record.get(field)) for field in (*self.group_fields, self.begin_field))
            if key in spans:
                begin = record[self.begin_field]
                raise self.error((*path, index), f"a second span begins at {begin}, expected spans that do not overlap")
            spans[key] = record
        merged: list[dict[str, Any]] = []
        last_group = None
        for *group, _ in sorted(spans):
            record = spans[(*group, _)]
            if merged and group == last_group and merged[-1][self.end_field] == record[self.begin_field]:
                merged[-1][self.end_field] = record[self.end_field]
                if self.text_field:
                    merged[-1][self.text_field] += record[self.text_field]
            else:
                merged.append(dict(record))
            last_group = group
        return merged

    def _check(self, record: Mapping[str, Any], path: Path) -> None:
        for field in (self.begin_field, self.end_field):
            if isinstance(offset := record.get(field), bool) or not isinstance(offset, int | float):
                raise self.error((*path, field), f"found {show(offset)}, expected an offset")
        if self.text_field and not isinstance(text := record.get(self.text_field), str):
            raise self.error((*path, self.text_field), f"found {show(text)}, expected the span's text")
        known = (*self.group_fields, self.begin_field, self.end_field, self.text_field)
        if unknown := [field for field in record if field not in known]:
            raise self.error(path, f"found the field '{unknown[0]}', expected only those of the group and the span")


def _order(value: Any) -> tuple[int, Any]:
    """Orders and compares any two JSON values; unlike Python's own comparison, true is not 1."""
    if value is None:
        return (0, 0)
    if isinstance(value, bool):
        return (1, value)
    if isinstance(value, int | float):
        return (2, value)
    return (3, value) if isinstance(value, str) else (4, json.dumps(value, sort_keys=True))
