"""The catalogue as an AsyncAPI 3 document, for the teams that receive the events."""

from __future__ import annotations

from typing import Any

from ..events import registry
from ..events.schema import Schema, schema_components
from .catalogue import Catalogue, EventDescription

__all__ = ["asyncapi"]

ASYNCAPI = "3.0.0"


def asyncapi(catalogue: Catalogue, *, title: str, version: str) -> dict[str, Any]:
    """An AsyncAPI document: one channel, one message and one ``send`` operation a type, named like the type.

    ``title`` and ``version`` are those of the document. How the events travel, and so servers and bindings, is for
    whoever publishes it to add.
    """
    messages: dict[str, Any] = {}
    schemas: dict[str, Schema] = {}
    for event in catalogue.events:
        messages[event.type] = _message(event)
        schemas.update(_schemas(event))
    return {
        "asyncapi": ASYNCAPI,
        "info": {"title": title, "version": version},
        "defaultContentType": "application/json",
        "channels": {event.type: _channel(event) for event in catalogue.events},
        "operations": {event.type: _operation(event) for event in catalogue.events},
        "components": {"messages": messages, "schemas": schemas},
    }


def _channel(event: EventDescription) -> dict[str, Any]:
    return {
        "address": event.type,
        "messages": {event.type: {"$ref": f"#/components/messages/{event.type}"}},
    }


def _operation(event: EventDescription) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{event.type}"},
        "messages": [{"$ref": f"#/channels/{event.type}/messages/{event.type}"}],
    }


def _message(event: EventDescription) -> dict[str, Any]:
    message: dict[str, Any] = {
        "name": event.type,
        "title": event.cls.rpartition(".")[2],
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{event.type}"},
        "x-eventstore-version": event.version,
    }
    if event.summary:
        message["summary"] = event.summary
    if event.aliases:
        message["x-eventstore-aliases"] = list(event.aliases)
    return message


def _schemas(event: EventDescription) -> dict[str, Schema]:
    """The payload and the classes in it. No type name holds two dots in a row, so none of them meets another event's."""
    definition = registry.by_type(event.type)
    assert definition is not None  # noqa: S101 - described a moment ago
    schema, components = schema_components(
        definition,
        reference=lambda name: f"#/components/schemas/{event.type}{f'..{name}' if name else ''}",
        dialect="draft-07",
    )
    return {event.type: schema, **{f"{event.type}..{name}": each for name, each in components.items()}}
