"""Domain events for Django: recorded in the transaction, kept in an append-only log, delivered afterwards, surely."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .consumers import OffsetStore
    from .context import EventContext, event_context, get_event_context
    from .delivery import Batch, Outcome
    from .events import event, upcast
    from .forwarding import EventForwarder
    from .handlers import handles
    from .models import EventEntry
    from .recording import CapturingQuerySet, arecord, capture, record, suppressed
    from .senders import EventSender
    from .store import EventStore, Page

__all__ = [
    "Batch",
    "CapturingQuerySet",
    "EventContext",
    "EventEntry",
    "EventForwarder",
    "EventSender",
    "EventStore",
    "OffsetStore",
    "Outcome",
    "Page",
    "arecord",
    "capture",
    "event",
    "event_context",
    "get_event_context",
    "handles",
    "record",
    "suppressed",
    "upcast",
]

__version__ = "0.1.0"

# An app's models.py may import these names while the app registry is still filling; what needs models is found on first use.
_HOMES = {
    "Batch": "delivery",
    "CapturingQuerySet": "recording",
    "EventContext": "context",
    "EventEntry": "models",
    "EventForwarder": "forwarding",
    "EventSender": "senders",
    "EventStore": "store",
    "OffsetStore": "consumers",
    "Outcome": "delivery",
    "Page": "store",
    "arecord": "recording",
    "capture": "recording",
    "event": "events",
    "event_context": "context",
    "get_event_context": "context",
    "handles": "handlers",
    "record": "recording",
    "suppressed": "recording",
    "upcast": "events",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
