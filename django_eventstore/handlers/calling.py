"""Calling a handler with what it asked for."""

from __future__ import annotations

from asgiref.sync import async_to_sync

from ..delivery import DeliveredEntry
from ..events import decode_event, decode_present, registry
from .registry import Handler

__all__ = ["call_handler"]


def call_handler(handler: Handler, entry: DeliveredEntry) -> None:
    """Decode the entry as the handler declared it and call the function.

    Raises EventDecodingError and UnknownEventType, and whatever the function raises. An ``async def`` handler runs to its
    end here; what it does through Django's ORM uses this thread's connection and so this transaction.
    """
    if registry.present_type(entry.type) in handler.typed:
        event: object = decode_event(entry.type, entry.version, entry.payload)
    else:
        event = decode_present(entry.type, entry.version, entry.payload)
    arguments = (event, entry) if handler.takes_entry else (event,)
    if handler.is_async:
        async_to_sync(handler.function)(*arguments)
    else:
        handler.function(*arguments)
