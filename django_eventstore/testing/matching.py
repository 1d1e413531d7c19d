"""What a test expects of an entry, and how an entry differs from that."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import models

from ..events import decode_mapping, registry, selects
from ..exceptions import EventDecodingError, UnknownEventType
from ..models import EventEntry
from ..store.streams import stream_name
from .entry_lists import type_pattern

__all__ = ["Expectation", "expectation"]

MISSING = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """An event as a test describes it. What is not named may be anything."""

    pattern: str
    stream: str | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    fields: Mapping[str, object] = field(default_factory=dict)

    def differences(self, entry: EventEntry) -> list[str]:
        """One text for each thing that is not as expected; none when the entry matches."""
        found = []
        if not selects((self.pattern,), entry.type):
            found.append(f"the type is not {self.pattern}")
        if self.stream is not None and self.stream != entry.stream:
            found.append(f"stream: expected {self.stream!r}, not {entry.stream!r}")
        if self.metadata:
            metadata = decode_mapping(entry.metadata, type=entry.type, version=entry.version)
            found += _unequal(self.metadata, metadata, prefix="metadata ")
        if self.fields:
            found += _unequal(self.fields, _values(entry))
        return found

    def distance(self, entry: EventEntry) -> tuple[bool, bool, int]:
        """Smaller for an entry that looks more like the expected one: its type counts most, then its stream."""
        return (
            not selects((self.pattern,), entry.type),
            self.stream is not None and self.stream != entry.stream,
            len(self.differences(entry)),
        )

    def __str__(self) -> str:
        parts = [] if self.stream is None else [f"stream={self.stream!r}"]
        parts += [f"{name}={value!r}" for name, value in self.fields.items()]
        parts += [f"metadata {name}={value!r}" for name, value in self.metadata.items()]
        return f"{self.pattern}({', '.join(parts)})" if parts else self.pattern


def expectation(
    event: object,
    *,
    stream: models.Model | str | None,
    metadata: Mapping[str, object] | None,
    fields: Mapping[str, object],
) -> Expectation:
    """The expectation that a test's arguments describe.

    Raises TypeError for what is no event and for a field that the event's class does not have: an assertion that can never
    hold, or never fail, is a mistake in the test.
    """
    if registry.by_class(type(event)) is not None:
        given = {f.name: getattr(event, f.name) for f in dataclasses.fields(event)}  # type: ignore[arg-type]
        if fields:
            raise TypeError("An event says all of its fields; name fields only with a class or a type name.")
        event, fields = type(event), given
    pattern = type_pattern(event)
    definition = registry.by_type(pattern)
    if definition is not None:
        known = [f.name for f in dataclasses.fields(definition.cls)]  # type: ignore[arg-type]
        unknown = [name for name in fields if name not in known]
        if unknown:
            raise TypeError(f"{pattern} has no field {', '.join(unknown)}. It has: {', '.join(known) or 'none'}.")
    return Expectation(
        pattern=pattern,
        stream=None if stream is None else stream_name(stream),
        metadata=metadata or {},
        fields=fields,
    )


def _values(entry: EventEntry) -> Mapping[str, Any]:
    """The fields as a handler of the class gets them, or as plain JSON values where there is no class that fits."""
    try:
        event = entry.event
    except (UnknownEventType, EventDecodingError):
        return entry.data
    return {f.name: getattr(event, f.name) for f in dataclasses.fields(event)}  # type: ignore[arg-type]


def _unequal(expected: Mapping[str, object], actual: Mapping[str, object], *, prefix: str = "") -> list[str]:
    found = []
    for name, value in expected.items():
        there = actual.get(name, MISSING)
        if there is MISSING:
            found.append(f"{prefix}{name}: expected {value!r}, not there")
        # The expected value stands first, so that ANY and the like decide.
        elif not value == there:  # noqa: SIM201 - != asks another method of it
            found.append(f"{prefix}{name}: expected {value!r}, not {there!r}")
    return found
