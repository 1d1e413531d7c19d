"""The catalogue: which events a project has, in which form, who declares them and who wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.apps import apps

from ..consumers import declared_consumers
from ..events import EventDefinition, annotation_error, is_type_name, registry, selects
from ..events.schema import Schema, json_schema, summary_of
from ..handlers import Handler, handler_registry

__all__ = ["Catalogue", "EventDescription", "HandlerDescription", "Wanted", "catalogue"]

FORMAT = 1
"""Of the JSON document; a higher one is not understood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerDescription:
    """A handler that is called for an event."""

    name: str
    consumer: str
    """Empty unless the handler is durable."""
    mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Who wants an event: handlers, and consumers of the settings, both by name."""

    handlers: tuple[HandlerDescription, ...]
    consumers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDescription:
    """An event that has a class."""

    type: str
    version: int
    aliases: tuple[str, ...]
    upcasters: tuple[int, ...]
    """The versions whose payloads go through an upcaster."""
    cls: str
    """Dotted path of the class."""
    app: str
    """Label of the app that declares it; empty when no installed app does."""
    summary: str
    """The first paragraph of the class's docstring."""
    schema: Schema
    """JSON Schema (2020-12) of the payloads of ``version``."""
    producers: tuple[str, ...]
    """What is known to record it by itself, such as captured models."""
    wanted: Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Every event of the project, by type name. The same declarations make the same catalogue."""

    events: tuple[EventDescription, ...]
    by_name: Mapping[str, Wanted]
    """Types without a class that a handler or consumer asks for by their whole name."""
    retired: Mapping[str, str]
    """Types that are declared to have no class any more, with the reason."""

    def document(self) -> dict[str, Any]:
        """The catalogue as plain values for JSON."""
        return {
            "catalogue": FORMAT,
            "events": {each.type: _event_document(each) for each in self.events},
            "by_name": {name: _wanted_document(wanted) for name, wanted in self.by_name.items()},
            "retired": dict(self.retired),
        }


def catalogue(*, producers: Mapping[str, Sequence[str]] | None = None) -> Catalogue:
    """What is declared now. ``producers``: by type name, what records it beside the app's own code.

    Raises ValueError when a class cannot be described, and as declared_consumers() does.
    """
    consumers = {name: each.events for name, each in declared_consumers().items() if "handlers" not in each.options}
    handlers = sorted(handler_registry.all(), key=lambda handler: handler.name)
    described = tuple(
        _describe(each, _wanted(each.type, handlers, consumers), (producers or {}).get(each.type, ()))
        for each in registry.definitions()
    )
    patterns = [pattern for handler in handlers for pattern in handler.events]
    patterns += [pattern for events in consumers.values() for pattern in events]
    unknown = {each for each in patterns if is_type_name(each) and registry.by_type(each) is None}
    return Catalogue(
        events=described,
        by_name={name: _wanted(name, handlers, consumers) for name in sorted(unknown - set(registry.retired()))},
        retired=registry.retired(),
    )


def _describe(definition: EventDefinition, wanted: Wanted, producers: Sequence[str]) -> EventDescription:
    if problem := annotation_error(definition):
        raise ValueError(f"{definition.type}: {problem}")
    cls = definition.cls
    app = apps.get_containing_app_config(cls.__module__)
    return EventDescription(
        type=definition.type,
        version=definition.version,
        aliases=definition.aliases,
        upcasters=tuple(sorted(step for step in registry.upcasters(definition) if step < definition.version)),
        cls=f"{cls.__module__}.{cls.__qualname__}",
        app=app.label if app else "",
        summary=summary_of(cls),
        schema=json_schema(definition),
        producers=tuple(sorted(producers)),
        wanted=wanted,
    )


def _wanted(type: str, handlers: Sequence[Handler], consumers: Mapping[str, Sequence[str]]) -> Wanted:
    return Wanted(
        handlers=tuple(
            HandlerDescription(
                name=handler.name,
                consumer=handler.consumer if handler.mode == "durable" else "",
                mode=handler.mode,
            )
            for handler in handlers
            if handler.wants(type)
        ),
        consumers=tuple(sorted(name for name, patterns in consumers.items() if selects(patterns, type))),
    )


def _event_document(event: EventDescription) -> dict[str, Any]:
    return {
        "version": event.version,
        "aliases": list(event.aliases),
        "upcasters": list(event.upcasters),
        "class": event.cls,
        "app": event.app,
        "summary": event.summary,
        "schema": event.schema,
        "producers": list(event.producers),
        **_wanted_document(event.wanted),
    }


def _wanted_document(wanted: Wanted) -> dict[str, Any]:
    return {
        "handlers": [{"name": each.name, "consumer": each.consumer, "mode": each.mode} for each in wanted.handlers],
        "consumers": list(wanted.consumers),
    }
