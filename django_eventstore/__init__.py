"""Domain events for Django: recorded in the transaction, kept in an append-only log, delivered afterwards, surely."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .consumers import OffsetStore
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
