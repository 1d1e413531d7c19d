"""Calling a handler with what it asked for."""

from __future__ import annotations

from dataclasses import replace

from asgiref.sync import async_to_sync

from ..context import EventContext, entered, get_event_context, valid_traceparent
from ..delivery import DeliveredEntry
from ..events import decode_event, decode_mapping, decode_present, registry
from ..exceptions import EventDecodingError
from ..tracing import handling
from .registry import Handler

__all__ = ["call_handler"]


def call_handler(handler: Handler, entry: DeliveredEntry) -> None:
    """Decode the entry as the handler declared it and call the function.

    Raises EventDecodingError and UnknownEventType, and whatever the function raises. An ``async def`` handler runs to its
    end here; what it does through Django's ORM uses this thread's connection and so this transaction.

    What the function records has this entry as its cause. It inherits the caller's context only when it runs as a part of
    what the caller does, with ``mode="sync"``: else whoever happens to run it, a request that forwards or an eager task,
    has nothing to do with it.
    """
    if registry.present_type(entry.type) in handler.typed:
        event: object = decode_event(entry.type, entry.version, entry.payload)
    else:
        event = decode_present(entry.type, entry.version, entry.payload)
    arguments = (event, entry) if handler.takes_entry else (event,)
    is_sync = handler.mode == "sync"
    # The span outermost, so that what the handler records is its child.
    with (
        handling(handler.name, entry, linked=not is_sync),
        entered(_inside(entry) if is_sync else _because_of(entry)),
    ):
        if handler.is_async:
            async_to_sync(handler.function)(*arguments)
        else:
            handler.function(*arguments)


def _because_of(entry: DeliveredEntry) -> EventContext:
    event_id = str(entry.event_id)
    return EventContext(
        correlation_id=entry.correlation_id or event_id,
        causation_id=event_id,
        # Most metadata names no trace, and then it is not worth decoding.
        traceparent=_traceparent(entry) if '"traceparent"' in entry.metadata else None,
    )


def _inside(entry: DeliveredEntry) -> EventContext:
    event_id = str(entry.event_id)
    return replace(get_event_context(), correlation_id=entry.correlation_id or event_id, causation_id=event_id)


def _traceparent(entry: DeliveredEntry) -> str | None:
    try:
        return valid_traceparent(decode_mapping(entry.metadata).get("traceparent"))
    except EventDecodingError:
        return None  # raw SQL can store what is no JSON to us; the event itself is not worse for it
