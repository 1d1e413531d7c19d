"""Whether a reader that knows one schema can read what a writer of another one writes.

Both are schemas as ``events.schema`` makes them; whatever this file does not know counts as a difference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from ..events.schema import Schema

__all__ = ["Unreadable", "unreadable"]

_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_TEXT = ("format", "pattern")
_KINDS: dict[type, tuple[str, ...]] = {
    bool: ("boolean",),
    int: ("integer", "number"),
    float: ("number",),
    str: ("string",),
    type(None): ("null",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A place in a payload that the reader does not understand.

    ``expected``: what the reader reads there. ``found``: what is written there; empty when nothing may be.
    """

    path: str
    expected: str
    found: str


def unreadable(*, reader: Schema, writer: Schema, writes_all: bool) -> list[Unreadable]:
    """The places of the writer's payloads that the reader cannot read. ``writes_all``: no field is ever left out.

    Readers ignore fields that they do not know. Raises ValueError for a reference that leads nowhere.
    """
    comparison = _Comparison(reader_root=reader, writer_root=writer, writes_all=writes_all)
    places = dict.fromkeys(comparison.compare(reader, writer))
    return [replace(each, path=each.path.removeprefix(".") or "payload") for each in places]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Comparison:
    """Paths in what its methods return are below the two schemas that were compared."""

    reader_root: Schema
    writer_root: Schema
    writes_all: bool
    known: dict[tuple[str, str], list[Unreadable]] = field(default_factory=dict)

    def compare(self, reader: Schema, writer: Schema) -> list[Unreadable]:
        names = reader.get("$ref"), writer.get("$ref")
        reader, writer = _resolve(reader, self.reader_root), _resolve(writer, self.writer_root)
        if None in names:
            return list(self._compare(reader, writer))
        key = str(names[0]), str(names[1])
        if key not in self.known:
            self.known[key] = []  # a class that holds itself is readable if the rest of it is
            self.known[key] = list(self._compare(reader, writer))
        return self.known[key]

    def _compare(self, reader: Schema, writer: Schema) -> Iterator[Unreadable]:
        if _is_any(reader):
            return
        if "anyOf" in writer:
            for option in writer["anyOf"]:
                yield from self.compare(reader, option)
        elif "enum" in writer:
            refused = [value for value in writer["enum"] if not self._takes(reader, value)]
            if refused:
                yield self._mismatch(reader, {"enum": refused})
        elif "anyOf" in reader:
            yield from self._compare_options(reader, writer)
        elif "enum" in reader or not _same_kind(reader, writer) or not _within(reader, writer):
            yield self._mismatch(reader, writer)
        elif reader["type"] == "array":
            yield from self._compare_arrays(reader, writer)
        elif reader["type"] == "object":
            yield from self._compare_objects(reader, writer)

    def _compare_options(self, reader: Schema, writer: Schema) -> Iterator[Unreadable]:
        options = [_resolve(option, self.reader_root) for option in reader["anyOf"]]
        answers = [self.compare(option, writer) for option in reader["anyOf"]]
        if [] in answers:
            return
        alike = [
            answer
            for option, answer in zip(options, answers, strict=True)
            if option.get("type") == writer.get("type") in ("array", "object")
        ]
        # With one candidate the reader wants to know what is wrong inside it.
        yield from alike[0] if len(alike) == 1 else [self._mismatch(reader, writer)]

    def _compare_arrays(self, reader: Schema, writer: Schema) -> Iterator[Unreadable]:
        written = writer.get("prefixItems", [])
        if reader.get("items") is False:
            expected = reader.get("prefixItems", [])
            if writer.get("items") is not False or len(expected) != len(written):
                yield self._mismatch(reader, writer)
                return
            for index, (each, other) in enumerate(zip(expected, written, strict=True)):
                yield from _below(f"[{index}]", self.compare(each, other))
            return
        for index, other in enumerate(written):
            yield from _below(f"[{index}]", self.compare(reader.get("items", {}), other))
        if writer.get("items") is not False:
            yield from _below("[*]", self.compare(reader.get("items", {}), writer.get("items", {})))

    def _compare_objects(self, reader: Schema, writer: Schema) -> Iterator[Unreadable]:
        if "properties" in reader:
            yield from self._compare_fields(reader, writer)
            return
        values = reader.get("additionalProperties", {})
        for name, other in writer.get("properties", {}).items():
            yield from _below(f".{name}", self.compare(values, other))
        if "properties" not in writer:
            names = writer.get("propertyNames", {"type": "string"})
            yield from _below("[key]", self.compare(reader.get("propertyNames", {}), names))
            yield from _below("[*]", self.compare(values, writer.get("additionalProperties", {})))

    def _compare_fields(self, reader: Schema, writer: Schema) -> Iterator[Unreadable]:
        required = set(reader.get("required", ()))
        written = writer.get("properties", {})
        certain = set(written) if self.writes_all else set(writer.get("required", ()))
        for name, each in reader["properties"].items():
            # A field that is never written any more is missed even by a reader that has a default for it.
            if name not in certain and (name in required or self.writes_all):
                yield Unreadable(path=f".{name}", expected=self._describe(each, self.reader_root), found="")
            other = written.get(name) if "properties" in writer else writer.get("additionalProperties", {})
            if other is not None:
                yield from _below(f".{name}", self.compare(each, other))

    def _takes(self, reader: Schema, value: object) -> bool:
        reader = _resolve(reader, self.reader_root)
        if "anyOf" in reader:
            return any(self._takes(option, value) for option in reader["anyOf"])
        if "enum" in reader:
            return any(value == each and type(value) is type(each) for each in reader["enum"])
        return _is_any(reader) or (reader["type"] in _KINDS.get(type(value), ()) and _keeps_limits(reader, value))

    def _mismatch(self, reader: Schema, writer: Schema) -> Unreadable:
        return Unreadable(
            path="",
            expected=self._describe(reader, self.reader_root),
            found=self._describe(writer, self.writer_root),
        )

    def _describe(self, schema: Schema, root: Schema) -> str:
        schema = _resolve(schema, root)
        if "anyOf" in schema:
            return " or ".join(self._describe(option, root) for option in schema["anyOf"])
        if "enum" in schema:
            return " or ".join(repr(value) for value in schema["enum"])
        if "properties" in schema:
            return str(schema.get("title", "object"))
        limits = [str(schema["format"])] if "format" in schema else []
        limits += [
            f"{word} {schema[word]}"
            for word in ("pattern", *_LOWER, *_UPPER, "multipleOf")
            if word in schema and not (limits and word == "pattern")
        ]
        kind = str(schema.get("type", "any value"))
        return f"{kind} ({', '.join(limits)})" if limits else kind


def _below(path: str, places: Iterable[Unreadable]) -> Iterator[Unreadable]:
    return (replace(each, path=f"{path}{each.path}") for each in places)


def _resolve(schema: Schema, root: Schema) -> Schema:
    while "$ref" in schema:
        name = str(schema["$ref"])
        found = root if name == "#" else root.get("$defs", {}).get(name.removeprefix("#/$defs/"))
        if not isinstance(found, dict):
            raise ValueError(f"$ref {name!r} leads nowhere.")
        schema = found
    return schema


def _is_any(schema: Schema) -> bool:
    return not {"type", "enum", "anyOf"} & set(schema)


def _same_kind(reader: Schema, writer: Schema) -> bool:
    kinds = reader["type"], writer.get("type")
    return kinds[0] == kinds[1] or kinds == ("number", "integer")


def _within(reader: Schema, writer: Schema) -> bool:
    """Whether the writer keeps each limit that the reader sets. A limit of another kind counts as none."""
    if any(word in reader and reader[word] != writer.get(word) for word in _TEXT):
        return False
    if any(word in reader and not reader[word] <= writer.get(word, -inf) for word in _LOWER):
        return False
    if any(word in reader and not reader[word] >= writer.get(word, inf) for word in _UPPER):
        return False
    return "multipleOf" not in reader or bool(
        "multipleOf" in writer and writer["multipleOf"] % reader["multipleOf"] == 0
    )


def _keeps_limits(reader: Schema, value: Any) -> bool:
    """Whether one value, of the right type, keeps each limit. Of formats only the pattern beside them is looked at."""
    if isinstance(value, str):
        if "format" in reader and "pattern" not in reader:
            return False
        fits = re.search(reader.get("pattern", ""), value) is not None
        return fits and reader.get("minLength", 0) <= len(value) <= reader.get("maxLength", inf)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return bool(
            reader.get("minimum", -inf) <= value <= reader.get("maximum", inf)
            and reader.get("exclusiveMinimum", -inf) < value < reader.get("exclusiveMaximum", inf)
            and value % reader.get("multipleOf", value or 1) == 0
        )
    return True
