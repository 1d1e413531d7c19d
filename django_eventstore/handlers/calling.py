"""Calling a handler with what it asked for."""

from __future__ import annotations

from asgiref.sync import async_to_sync

from ..delivery import DeliveredEntry
from ..events import decode, decode_mapping, registry
from ..exceptions import UnknownEventType
from .registry import Handler

__all__ = ["call_handler"]


def call_handler(handler: Handler, entry: DeliveredEntry) -> None:
    """Decode the entry as the handler declared it and call the function.

    Raises EventDecodingError and UnknownEventType, and whatever the function raises. An ``async def`` handler runs to its
    end here; what it does through Django's ORM uses this thread's connection and so this transaction.
    """
    if entry.type in handler.typed:
        definition = registry.by_type(entry.type)
        if definition is None:
            raise UnknownEventType(entry.type)
        event: object = decode(definition, entry.version, entry.payload)
    else:
        event = decode_mapping(entry.payload, type=entry.type, version=entry.version)
    arguments = (event, entry) if handler.takes_entry else (event,)
    if handler.is_async:
        async_to_sync(handler.function)(*arguments)
    else:
        handler.function(*arguments)
